"""Forecasts out of a stream, as they appear: the wire contract from the reader's side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foretick.ports.connection import RedisConnection
from foretick.ports.wire.keys import forecasts_key

if TYPE_CHECKING:
    from types import TracebackType

BATCH_ENTRIES = 1000  # one read after a long pause must not hold up the display
SILENCE_SECONDS = 5.0  # beyond the BLOCK; a local server that is silent for longer is gone


@dataclass(frozen=True, slots=True)
class SeenForecast:
    """One forecast, and when we saw it.

    Attributes:
        series: series id.
        y: value of the tick that it was made from.
        yhat: forecast of the series' next value.
        warm: false while the forecast is the naive one.
        arrival_ms: when Redis got the tick, milliseconds since the epoch, from the entry id.
        seen_ms: when the forecast reached us, milliseconds since the epoch, by our own clock.
    """

    series: str
    y: float
    yhat: float
    warm: bool
    arrival_ms: int
    seen_ms: float


class ForecastFollower:
    """Reads the forecasts of one input stream from its first on; for one thread."""

    def __init__(self, url: str, stream: str, *, prefix: str = "foretick", block_seconds: float = 0.5) -> None:
        self._connection = RedisConnection(url, timeout_seconds=block_seconds + SILENCE_SECONDS)
        self._key = forecasts_key(prefix.encode(), stream.encode())
        self._block_ms = round(block_seconds * 1000)
        self._position: bytes = b"0-0"

    def __enter__(self) -> Self:
        self._connection.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def read(self) -> list[SeenForecast]:
        """The forecasts since the last call; waits for the first up to `block_seconds`.

        Raises:
            ConnectionLost: the server is gone.
        """
        reply = self._connection.call(
            "XREAD", "COUNT", BATCH_ENTRIES, "BLOCK", self._block_ms, "STREAMS", self._key, self._position
        )
        seen_ms = time.time() * 1000.0
        if reply is None:
            return []
        entries = reply[0][1]
        self._position = entries[-1][0]
        return [_seen(entry, fields, seen_ms) for entry, fields in entries]


def _seen(entry: bytes, fields: list[bytes], seen_ms: float) -> SeenForecast:
    by_name = dict(zip(fields[::2], fields[1::2], strict=True))
    return SeenForecast(
        series=by_name[b"series"].decode(errors="replace"),
        y=float(by_name[b"y"]),
        yhat=float(by_name[b"yhat"]),
        warm=by_name[b"stage"] == b"warm",
        arrival_ms=int(entry.partition(b"-")[0]),
        seen_ms=seen_ms,
    )
