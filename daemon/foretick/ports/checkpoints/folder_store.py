"""Checkpoints as files: for state that is too large for Redis. One folder per partition.

A file is written under another name, forced to disk, and renamed; then the folder is forced to disk. So a file that
carries a generation's name is whole, or the disk lies, and the checksum tells.

Files are not fenced: a late owner may still rename one into place. That does no harm, since whatever was taken at a
committed position is a function of the stream up to there.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from foretick.errors import CheckpointFailed, CheckpointUnsound, StateUnreadable
from foretick.ports.checkpoints.container import PIECE_BYTES
from foretick.ports.checkpoints.store import GENERATIONS_KEPT, Generation, is_name, name_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from foretick.ports.checkpoints.container import Packed
    from foretick.ports.connection import Command

SUFFIX = ".safetensors"
ASIDE = ".aside"  # of files that must not be used again, kept for whoever wants to know why


class FolderStore:
    """The checkpoints of one partition in a folder of its own.

    Args:
        root: `checkpoint.store`.
        prefix: of foretick's keys: two daemons with different ones may share a root.
        partition: its name, any bytes.
    """

    def __init__(self, root: Path, prefix: bytes, partition: bytes) -> None:
        # Percent signs keep every name apart from every other, and from `.` and `..`.
        self.folder = root / quote(b"%b:%b" % (prefix, partition), safe="").replace(".", "%2E")
        self._kept: list[Generation] = []

    @property
    def limit_bytes(self) -> None:
        """None but the disk's."""
        return

    @property
    def advice(self) -> str:
        """None is needed."""
        return ""

    def generations(self) -> list[Generation]:
        """The files that carry a generation's name, newest first."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files = [(path, path.stat().st_size) for path in self.folder.glob(f"*{SUFFIX}") if is_name(path.stem)]
        except OSError as error:
            raise StateUnreadable(f"checkpoint.store: {self.folder} cannot be used: {error.strerror}") from error
        self._kept = sorted((Generation(path.stem, size) for path, size in files), key=lambda one: -one.number)
        return list(self._kept)

    def read(self, generation: Generation, on_wait: Callable[[], None]) -> memoryview:
        """The file's bytes."""
        whole = np.empty(generation.size_bytes, np.uint8).data  # in large pages: half the time of a bytearray
        filled = 0
        try:
            with self._path(generation).open("rb", buffering=0) as file:
                while count := file.readinto(whole[filled : filled + PIECE_BYTES]):
                    filled += count
                    on_wait()
        except OSError as error:
            raise CheckpointUnsound(f"its file cannot be read: {error.strerror}") from error
        if filled != generation.size_bytes:
            raise CheckpointUnsound(f"its file became shorter: {filled} of {generation.size_bytes} bytes")
        return whole

    def write(self, packed: Packed, pause: Callable[[float], None]) -> Generation:
        """Write a file under a name that nobody reads."""
        generation = Generation(name_after(self._kept), packed.size_bytes)
        with _explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._unfinished(generation).open("xb", buffering=0) as file:
                for piece in packed.pieces():
                    rest = piece
                    while rest:  # a nearly full disk takes a part
                        rest = rest[file.write(rest) :]
                    pause(0.0)
                os.fsync(file.fileno())
        return generation

    def switch(self, generation: Generation) -> list[Command]:
        """Rename it into place."""
        with _explained():
            self._unfinished(generation).rename(self._path(generation))
            self._force_folder()
        self._kept = [generation, *self._kept][:GENERATIONS_KEPT]
        return []

    def forget(self, generations: Sequence[Generation]) -> list[Command]:
        """Rename them aside, where somebody may look at them."""
        with _explained():
            for generation in generations:
                self._path(generation).rename(self._path(generation).with_suffix(ASIDE))
            self._force_folder()
        self._kept = [kept for kept in self._kept if kept not in generations]
        return []

    def tidy(self) -> None:
        """Delete what does not count, and the older ones of those that were put aside."""
        kept = {self._path(generation) for generation in self._kept}
        with _explained():
            aside = sorted(self.folder.glob(f"*{ASIDE}"))[-GENERATIONS_KEPT:]
            for path in self.folder.iterdir():
                if path not in kept and path not in aside and is_name(path.name.partition(".")[0]):
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _path(self, generation: Generation) -> Path:
        return self.folder / (generation.name + SUFFIX)

    def _unfinished(self, generation: Generation) -> Path:
        return self.folder / f"{generation.name}.unfinished"

    def _force_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointFailed(f"{error.filename or 'checkpoint.store'}: {error.strerror or error}") from error
