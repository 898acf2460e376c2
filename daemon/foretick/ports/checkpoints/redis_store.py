"""Checkpoints in Redis itself: nothing else to install, and they move with the partition.

    foretick:{p}:checkpoint:<generation>    hash: 0, 1, 2, … -> pieces of at most 1 MB
    foretick:{p}:checkpoint:generations     set of all generations whose pieces may exist
    foretick:{p}:checkpoint:manifest        JSON: the generations that count, newest first

The pieces are written on a connection of their own, unfenced: nobody looks at them before the manifest names them, and
that is switched inside a fenced commit of the loop. So a late owner can leave rubbish, which the next one removes, but
never a checkpoint.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from foretick.errors import CheckpointUnsound, CommandFailed
from foretick.ports.checkpoints.store import GENERATIONS_KEPT, Generation, is_name, name_after
from foretick.ports.connection import good

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from foretick.ports.checkpoints.container import Packed
    from foretick.ports.connection import Command, RedisConnection, Reply, Word

PIECE_BYTES = 1_000_000  # Redis is busy with one for about half a millisecond; a SET of 64 MB blocks it for 0.8 s
PAUSE_SHARE = 4.0  # waits between pieces per time of writing one: at most a fifth of Redis' time
PAUSE_MAX_SECONDS = 0.05  # a slow network needs no further pacing
MANIFEST_SCHEMA = 1
_MANIFEST_MAX_BYTES = 10_000  # ours takes 200


class RedisStore:
    """The checkpoints of one partition, under its own keys.

    Args:
        connection: used by nobody else; opened when needed.
        base: `foretick:{p}:checkpoint`.
        limit_bytes: `checkpoint.redis_max`.
    """

    def __init__(self, connection: RedisConnection, base: bytes, limit_bytes: int) -> None:
        self._connection = connection
        self._base = base
        self._manifest = base + b":manifest"
        self._written = base + b":generations"
        self._limit_bytes = limit_bytes
        self._kept: list[Generation] = []

    @property
    def limit_bytes(self) -> int:
        """`checkpoint.redis_max`."""
        return self._limit_bytes

    @property
    def advice(self) -> str:
        """What to do about a container that is larger."""
        return "raise checkpoint.redis_max, or set checkpoint.store to a folder"

    def generations(self) -> list[Generation]:
        """What the manifest names, newest first."""
        self._open()
        self._kept = []
        # A command more than GET, but a key that somebody made huge is never read as a whole.
        text = self._ask(b"GETRANGE", self._manifest, 0, _MANIFEST_MAX_BYTES)
        if text:
            self._kept = _read_manifest(text)
        return list(self._kept)

    def read(self, generation: Generation, on_wait: Callable[[], None]) -> bytearray:
        """The pieces, joined."""
        self._open()
        whole = bytearray()
        piece = 0
        while len(whole) < generation.size_bytes:
            part = self._ask(b"HGET", self._key(generation.name), piece)
            if part is None or not 0 < len(part) <= min(PIECE_BYTES, generation.size_bytes - len(whole)):
                raise CheckpointUnsound(f"its piece {piece} is missing or has a wrong length")
            whole += part
            piece += 1
            on_wait()
        return whole

    def write(self, packed: Packed, pause: Callable[[float], None]) -> Generation:
        """Write the pieces, each one known to the set of generations before it exists."""
        self._open()
        generation = Generation(name_after(self._kept), packed.size_bytes)
        key = self._key(generation.name)
        for number, piece in enumerate(_regular(packed.pieces(), PIECE_BYTES)):
            begun = time.perf_counter()
            known, stored = self._connection.call_all(
                [(b"SADD", self._written, generation.name), (b"HSET", key, number, piece)]
            )
            good(known)
            good(stored)
            pause(min(PAUSE_SHARE * (time.perf_counter() - begun), PAUSE_MAX_SECONDS))
        return generation

    def switch(self, generation: Generation) -> list[Command]:
        """The new manifest."""
        self._kept = [generation, *self._kept][:GENERATIONS_KEPT]
        return [(b"SET", self._manifest, _write_manifest(self._kept))]

    def forget(self, generations: Sequence[Generation]) -> list[Command]:
        """A manifest without them."""
        self._kept = [kept for kept in self._kept if kept not in generations]
        return [(b"SET", self._manifest, _write_manifest(self._kept)) if self._kept else (b"DEL", self._manifest)]

    def tidy(self) -> None:
        """Remove the pieces of all other generations."""
        self._open()
        kept = {generation.name.encode() for generation in self._kept}
        for name in self._connection.call(b"SMEMBERS", self._written):
            if name not in kept:
                # Gone first, forgotten second: a crash between the two leaves nothing behind for ever.
                self._connection.call(b"UNLINK", b"%b:%b" % (self._base, name))
                self._connection.call(b"SREM", self._written, name)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _ask(self, *command: Word) -> Reply:
        """The reply; what is there but of another type is as good as damaged."""
        try:
            return self._connection.call(*command)
        except CommandFailed as error:
            raise CheckpointUnsound(f"{command[0]!r}: {error}") from error

    def _open(self) -> None:
        if not self._connection.is_open:
            self._connection.open()

    def _key(self, name: str) -> bytes:
        return b"%b:%b" % (self._base, name.encode())


def _write_manifest(generations: Sequence[Generation]) -> str:
    return json.dumps(
        {
            "schema": MANIFEST_SCHEMA,
            "generations": [{"name": one.name, "bytes": one.size_bytes} for one in generations],
        }
    )


def _read_manifest(text: bytes) -> list[Generation]:
    try:
        manifest: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnsound("the manifest is no JSON") from error
    match manifest:
        case {"schema": 1, "generations": [*entries]} if len(entries) <= GENERATIONS_KEPT:
            return [_generation(entry) for entry in entries]
    raise CheckpointUnsound("the manifest is not of a schema that this foretick reads")


def _generation(entry: object) -> Generation:
    match entry:
        case {"name": str(name), "bytes": int(size_bytes)} if is_name(name) and size_bytes > 0:
            return Generation(name, size_bytes)
    raise CheckpointUnsound("the manifest names an impossible generation")


def _regular(pieces: Iterable[memoryview], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size_bytes:
            yield bytes(waiting[:size_bytes])
            del waiting[:size_bytes]
    if waiting:
        yield bytes(waiting)
