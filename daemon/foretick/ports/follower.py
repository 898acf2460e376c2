"""Forecasts out of a stream, as they appear: the wire contract from the reader's side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretick.ports.caller import Caller
from foretick.ports.connection import RedisConnection
from foretick.ports.streams import GROUP
from foretick.ports.wire.keys import forecasts_key, latest_key

if TYPE_CHECKING:
    from foretick.ports.route import Route

BATCH_ENTRIES = 1000  # one read after a long pause must not hold up the display
BACK_ENTRIES = 50_000  # looked through for one series' past: a second's work at the most
LOWER, UPPER = b"yhat_lower_", b"yhat_upper_"  # and the level
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
        seen_ms: when the forecast reached us, milliseconds since the epoch, by the server's clock.
        lower: lower bound of the widest interval of the next value; none until there is one.
        upper: its upper bound.
    """

    series: str
    y: float
    yhat: float
    warm: bool
    arrival_ms: int
    seen_ms: float
    lower: float | None = None
    upper: float | None = None


class ForecastFollower(Caller):
    """Reads the forecasts of one input stream, from its first on unless told otherwise; for one thread.

    Args:
        route: the way to the server, or its URL.
        stream: the input stream.
        prefix: of the daemon's own keys.
        block_seconds: longest wait of a read.
    """

    def __init__(
        self,
        route: Route | str,
        stream: str,
        *,
        prefix: str = "foretick",
        block_seconds: float = 0.5,
    ) -> None:
        self._connection = RedisConnection(route, timeout_seconds=block_seconds + SILENCE_SECONDS, key=stream.encode())
        super().__init__([self._connection])
        self._stream = stream.encode()
        self._key = forecasts_key(prefix.encode(), self._stream)
        self._latest = latest_key(prefix.encode(), self._stream)
        self._block_seconds = block_seconds
        self._position: bytes = b"0-0"
        self._clock_offset_ms = 0.0

    def open(self) -> None:
        """Connect, anew if need be, and compare the clocks; reading goes on where it was.

        Raises:
            ConnectionLost, ServerRefused: nobody answers, or lets us in.
        """
        super().open()
        seconds, microseconds = self._connection.call("TIME")
        self._clock_offset_ms = int(seconds) * 1000.0 + int(microseconds) / 1000.0 - time.time() * 1000.0

    def read(self, wait_seconds: float | None = None) -> list[SeenForecast]:
        """The forecasts since the last call; waits for the first up to `block_seconds`, or for so long if that is less.

        Raises:
            ConnectionLost: the server is gone.
        """
        wait = self._block_seconds if wait_seconds is None else min(wait_seconds, self._block_seconds)
        block_ms = max(round(wait * 1000), 1)  # 0 would be for ever
        reply = self._connection.call(
            "XREAD", "COUNT", BATCH_ENTRIES, "BLOCK", block_ms, "STREAMS", self._key, self._position
        )
        if reply is None:
            return []
        entries = reply[0][1]
        self._position = entries[-1][0]
        return self._seen(entries)

    def read_back(self, count: int, series: str | None = None) -> list[SeenForecast]:
        """The last forecasts there are, of one series if it is named, oldest first; `read` goes on behind them.

        Raises:
            ConnectionLost: the server is gone.
        """
        found: list[SeenForecast] = []
        end, looked_at = b"+", 0
        while len(found) < count and looked_at < BACK_ENTRIES:
            entries = self._connection.call("XREVRANGE", self._key, end, "-", "COUNT", BATCH_ENTRIES)
            if not entries:
                break
            if end == b"+":
                self._position = entries[0][0]
            end = b"(%b" % entries[-1][0]
            looked_at += len(entries)
            found += [one for one in self._seen(entries) if series in (None, one.series)]
        return found[:count][::-1]

    def lag_ticks(self) -> int | None:
        """Ticks that are not answered yet; none where nobody knows.

        Raises:
            ConnectionLost: the server is gone.
        """
        groups = self._connection.call_all([("XINFO", "GROUPS", self._stream)])[0]
        for facts in groups if isinstance(groups, list) else ():
            by_name = dict(zip(facts[::2], facts[1::2], strict=True))
            if by_name[b"name"] == GROUP:
                lag: int | None = by_name[b"lag"]
                return lag
        return None

    def some_series(self, count: int) -> list[str]:
        """Up to so many of the series that have a forecast.

        Raises:
            ConnectionLost: the server is gone.
        """
        names = self._connection.call("HRANDFIELD", self._latest, count)
        return sorted(name.decode(errors="replace") for name in names)

    def _seen(self, entries: list[Any]) -> list[SeenForecast]:
        seen_ms = time.time() * 1000.0 + self._clock_offset_ms
        return [one for entry, fields in entries for one in _forecasts(entry, fields, seen_ms)]


def _forecasts(entry: bytes, fields: list[bytes], seen_ms: float) -> list[SeenForecast]:
    """The forecasts that an entry holds, one for each target; none where somebody else wrote it."""
    by_name = dict(zip(fields[::2], fields[1::2], strict=True))
    targets = [name.removeprefix(b"y") for name in by_name if name == b"y" or name.startswith(b"y.")]
    found = (_forecast(entry, by_name, target, seen_ms) for target in targets)
    return [one for one in found if one is not None]


def _forecast(entry: bytes, by_name: dict[bytes, bytes], target: bytes, seen_ms: float) -> SeenForecast | None:
    try:
        lower, upper = _widest(by_name, target)
        return SeenForecast(
            series=(by_name[b"series"] + target).decode(errors="replace"),
            y=float(by_name[b"y" + target]),
            yhat=float(by_name[b"yhat" + target]),
            warm=by_name[b"stage"] == b"warm",
            arrival_ms=int(entry.partition(b"-")[0]),
            seen_ms=seen_ms,
            lower=lower,
            upper=upper,
        )
    except (KeyError, ValueError):
        return None


def _widest(by_name: dict[bytes, bytes], target: bytes) -> tuple[float | None, float | None]:
    """The bounds of the interval with the highest level."""
    levels = [name.removeprefix(LOWER).removesuffix(target) for name in by_name if name.startswith(LOWER)]
    known = [level for level in levels if level.isdigit() and UPPER + level + target in by_name]
    if not known:
        return None, None
    level = max(known, key=lambda digits: float(b"0." + digits))  # 995 is 99.5%
    return float(by_name[LOWER + level + target]), float(by_name[UPPER + level + target])
