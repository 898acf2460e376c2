"""Which streams there are: SCAN in small steps, and the types of single keys."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from foretick.ports.connection import good
from foretick.ports.streams import GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.ports.connection import RedisConnection

SCAN_KEYS = 1000  # looked at per call: about 0.1 ms of the server's time


class StreamScan:
    """One pass over the whole keyspace for each glob, in as many calls as it takes.

    Args:
        globs: patterns as Redis matches them.

    Attributes:
        found: streams that match, so far; complete once `is_over`.
    """

    def __init__(self, globs: Sequence[bytes]) -> None:
        self.found: set[bytes] = set()
        self._globs = globs
        self._left: deque[tuple[RedisConnection, bytes, bytes]] | None = None  # on each master; none: not begun

    @property
    def is_over(self) -> bool:
        """Whether every key that exists all the time has been seen."""
        return not (self._globs if self._left is None else self._left)

    def step(self, connection: RedisConnection) -> None:
        """Look at some more keys; always through the same connection, open since the first step."""
        if self._left is None:
            self._left = deque((line, glob, b"0") for glob in self._globs for line in connection.lines)
        line, glob, cursor = self._left.popleft()
        cursor, keys = line.call(b"SCAN", cursor, b"MATCH", glob, b"COUNT", SCAN_KEYS, b"TYPE", b"stream")
        self.found.update(keys)
        if cursor != b"0":
            self._left.appendleft((line, glob, cursor))


def types_of(connection: RedisConnection, keys: Sequence[bytes]) -> list[str]:
    """The type of each key; `none` where there is no such key."""
    return [good(reply).decode() for reply in connection.call_all([(b"TYPE", key) for key in keys])]


def has_our_group(connection: RedisConnection, stream: bytes) -> bool:
    """Whether we have read this stream before."""
    reply = connection.call_all([(b"XINFO", b"GROUPS", stream)])[0]
    return isinstance(reply, list) and any(GROUP in facts for facts in reply)
