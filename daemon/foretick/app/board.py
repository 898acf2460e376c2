"""What has been seen of forecasts so far: of each series its last ticks and errors, of all of them rates and latency.

A forecast is settled by the next forecast of its series, which carries the tick that came next: the error is that
tick's y less the ŷ that stood. Naive forecasts of a cold series settle nothing: skill counts the ticks that were
forecast warm, for us and for the naive forecast alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.ports.follower import SeenForecast

BAR_TICKS = 10  # ticks a bar of the sparkline averages: a second of the demo
BARS = 27  # what 80 columns have left, less one for the forecast
SETTLED_MIN = 20  # errors before a skill is shown: fewer say nothing
LATENCIES = 2000  # the p99 of fewer than some hundred is their maximum
RATE_SECONDS = 5.0  # ticks per second are counted over this time
FAR = 2.0  # so many half-widths of the widest interval from its middle: one tick in twenty is beyond 1 by promise


@dataclass
class Row:
    """One series: its last forecast, and the errors so far.

    Attributes:
        y: its last value.
        yhat: what is forecast of the next one.
        warm: whether that is a forecast for real.
        lower: lower bound of the widest interval of the next one; none until there is one.
        upper: its upper bound.
        error: of the last settled forecast.
        settled: forecasts that have met their actual.
        bounded: those of them that had an interval.
        held: those of these whose actual lay within.
        far_outside: actuals twice beyond it or more.
        bars: of the latest stretches of ticks, the mean value and whether one of them was far outside.
    """

    y: float = 0.0
    yhat: float = 0.0
    warm: bool = False
    lower: float | None = None
    upper: float | None = None
    error: float | None = None
    settled: int = 0
    absolute_error: float = 0.0
    naive_absolute_error: float = 0.0
    bounded: int = 0
    held: int = 0
    far_outside: int = 0
    bars: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=BARS))
    bar: list[float] = field(default_factory=list)
    has_bar_far: bool = False
    bar_ticks: int = BAR_TICKS

    def observe(self, forecast: SeenForecast) -> None:
        """Settle the standing forecast by this one's tick, then stand this one."""
        if self.warm:
            self.error = forecast.y - self.yhat
            self.settled += 1
            self.absolute_error += abs(self.error)
            self.naive_absolute_error += abs(forecast.y - self.y)
        if self.lower is not None and self.upper is not None:
            self._judge(forecast.y, self.lower, self.upper)
        self.y, self.yhat, self.warm = forecast.y, forecast.yhat, forecast.warm
        self.lower, self.upper = forecast.lower, forecast.upper
        self.bar.append(forecast.y)
        if len(self.bar) == self.bar_ticks:
            self.bars.append((sum(self.bar) / self.bar_ticks, self.has_bar_far))
            self.bar.clear()
            self.has_bar_far = False

    def _judge(self, y: float, lower: float, upper: float) -> None:
        """Whether the interval held, and how far beyond it the actual lay."""
        self.bounded += 1
        self.held += lower <= y <= upper
        beyond = lower - self.yhat if y < self.yhat else upper - self.yhat
        if abs(y - self.yhat) > FAR * abs(beyond):
            self.far_outside += 1
            self.has_bar_far = True

    @property
    def ratio(self) -> float | None:
        """Our mean |error| over the naive's; none while there are too few, or when the series never moved."""
        if self.settled < SETTLED_MIN or self.naive_absolute_error == 0.0:
            return None
        return self.absolute_error / self.naive_absolute_error


class Board:
    """What has been seen so far, series in order of their first appearance.

    Args:
        bar_ticks: ticks that a bar of the sparkline averages.
    """

    def __init__(self, bar_ticks: int = BAR_TICKS) -> None:
        self.rows: dict[str, Row] = {}
        self._bar_ticks = bar_ticks
        self.forecasts = 0
        self._first_seen_ms: float | None = None
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)
        self._counts: deque[tuple[float, int, int]] = deque()

    def observe(self, forecasts: Iterable[SeenForecast]) -> None:
        """Take new forecasts, in their order. Latency counts only ticks younger than the first forecast: no backlog."""
        for forecast in forecasts:
            self.forecasts += 1
            if self._first_seen_ms is None:
                self._first_seen_ms = forecast.seen_ms
            if forecast.arrival_ms >= self._first_seen_ms:
                self._latencies_ms.append(forecast.seen_ms - forecast.arrival_ms)
            row = self.rows.get(forecast.series)
            if row is None:
                row = self.rows[forecast.series] = Row(bar_ticks=self._bar_ticks)
            row.observe(forecast)

    def count(self, now_seconds: float, pushed_ticks: int) -> None:
        """Note how many ticks were pushed up to now, for the rates."""
        self._counts.append((now_seconds, pushed_ticks, self.forecasts))
        while self._counts[0][0] < now_seconds - RATE_SECONDS:
            self._counts.popleft()

    @property
    def rates(self) -> tuple[float, float]:
        """Ticks and forecasts per second over the last seconds."""
        if len(self._counts) < 2:
            return 0.0, 0.0
        (t0, ticks0, forecasts0), (t1, ticks1, forecasts1) = self._counts[0], self._counts[-1]
        return (ticks1 - ticks0) / (t1 - t0), (forecasts1 - forecasts0) / (t1 - t0)

    def latency_ms(self, quantile: float) -> float | None:
        """Milliseconds from a tick's arrival in Redis to the sight of its forecast: a quantile of the recent ones."""
        if not self._latencies_ms:
            return None
        ordered = sorted(self._latencies_ms)
        return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]

    @property
    def held(self) -> float | None:
        """The share of actuals within their widest interval; none while there are too few."""
        bounded = sum(row.bounded for row in self.rows.values())
        return sum(row.held for row in self.rows.values()) / bounded if bounded >= SETTLED_MIN else None

    @property
    def far_outside(self) -> int:
        """Actuals far beyond their widest interval."""
        return sum(row.far_outside for row in self.rows.values())

    @property
    def skill(self) -> float | None:
        """The mean over the series of 1 less our error over the naive's; none while no series has one."""
        ratios = [row.ratio for row in self.rows.values() if row.ratio is not None]
        return 1.0 - sum(ratios) / len(ratios) if ratios else None
