"""The newest forecasts of one series, out of the stream of forecasts: for whoever begins to look, beside the loop."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from foretick.errors import ConnectionLost
from foretick.ports.points import Place, Points, points_of
from foretick.ports.wire import forecasts_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretick.ports.connection import RedisConnection

PASS_ENTRIES = 250  # of one XREVRANGE: 0.1 ms of the server's, and of parsing less than a switch between threads
PAUSE_SECONDS = 0.002  # between two passes, in which the loop has the interpreter to itself
LOOKED_MAX_ENTRIES = 20_000  # among more series than this a single one has no past worth the search
LOOK_MAX_SECONDS = 1.5
_SERIES = b"series"


class History:
    """Looks back in streams of forecasts, one search at a time.

    Args:
        connect: a connection, not yet open, to where a key is.
        prefix: of the daemon's own keys.
    """

    def __init__(self, connect: Callable[[bytes], RedisConnection], prefix: bytes) -> None:
        self._connect = connect
        self._prefix = prefix
        self._turn = threading.Lock()

    def read(self, place: Place, count: int) -> Points:
        """Up to `count` of the newest forecasts of a series, oldest first.

        Raises:
            ForetickError: Redis does not answer, or others have been searching for too long.
        """
        if not self._turn.acquire(timeout=LOOK_MAX_SECONDS):
            raise ConnectionLost("others are reading the past")
        try:
            key = forecasts_key(self._prefix, place.stream)
            with contextlib.closing(self._connect(key)) as connection:
                connection.open()
                return points_of(_newest(connection, key, place.series, count)[::-1], place.suffix)
        finally:
            self._turn.release()


def _newest(connection: RedisConnection, key: bytes, series: bytes, count: int) -> list[tuple[bytes, Sequence[bytes]]]:
    """The newest entries of the series, newest first, as far as they are found soon enough."""
    found: list[tuple[bytes, Sequence[bytes]]] = []
    give_up = time.monotonic() + LOOK_MAX_SECONDS
    end, looked = b"+", 0
    while len(found) < count and looked < LOOKED_MAX_ENTRIES and time.monotonic() < give_up:
        entries = connection.call(b"XREVRANGE", key, end, b"-", b"COUNT", PASS_ENTRIES)
        looked += len(entries)
        found += [(entry_id, fields) for entry_id, fields in entries if _series_of(fields) == series]
        if len(entries) < PASS_ENTRIES:
            break
        end = b"(%b" % entries[-1][0]
        time.sleep(PAUSE_SECONDS)
    return found[:count]


def _series_of(fields: Sequence[bytes]) -> bytes | None:
    """Whose forecast an entry is; ours begin with it, others may not."""
    if len(fields) > 1 and fields[0] == _SERIES:
        return fields[1]
    return None
