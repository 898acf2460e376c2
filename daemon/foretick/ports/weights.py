"""Weights of a network in a file: safetensors, each weight by its name in torch, with what it was learned from.

The form is that of a checkpoint (`ports.checkpoints.container`): nothing in it can run code when it is read, a checksum
is compared before anything is parsed, and every length is compared with the bytes that are there before it is used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretick.errors import CheckpointUnsound, UsageError
from foretick.ports.checkpoints.container import Contents, Packed, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WEIGHTS_SCHEMA = 1  # goes up when the meaning of what is stored changes; other ones are refused
FILE_MAX_BYTES = 256_000_000  # three layers of 1,024 units, the largest network that settings allow, take 100 MB
_KIND = "weights"
_FILE_MODE = 0o644  # a temporary file is its writer's alone, and the daemon often is another user


def write_weights(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write a file whole or not at all.

    Args:
        path: where; a file that is there is replaced.
        arrays: weights by name.
        facts: JSON values to go with them.

    Raises:
        UsageError: it cannot be written there.
    """
    packed = Packed(arrays, {**facts, "kind": _KIND, "schema": WEIGHTS_SCHEMA})
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in packed.pieces():
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(_FILE_MODE)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_weights(path: Path) -> Contents:
    """The weights by name, and what goes with them.

    Raises:
        UsageError: it cannot be read, or holds no weights of ours; the message names it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > FILE_MAX_BYTES:
        raise UsageError(f"{path}: too large for weights: over {FILE_MAX_BYTES // 1_000_000} MB")
    try:
        return unpack(raw, WEIGHTS_SCHEMA, _KIND)
    except CheckpointUnsound as error:
        raise UsageError(f"{path}: no file of `foretick fit`: {error}") from error
