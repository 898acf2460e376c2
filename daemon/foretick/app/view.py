"""The live view: forecasts on a board, the board as a table of 80 columns or as plain lines.

A forecast is settled by the next forecast of its series, which carries the tick that came next: the error is that
tick's y less the ŷ that stood. Naive forecasts of a cold series settle nothing: skill counts the ticks that were
forecast warm, for us and for the naive forecast alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.ports.follower import SeenForecast

COLUMNS = {  # name: characters; with a blank between them they fill 80, and a fixed width does not jitter
    "series": 15,
    "last": 8,
    "forecast": 8,
    "error": 8,
    "|error|": 8,
    "naive": 8,
    "skill": 8,
    "last 8 s": 8,
}
LEFT = ("series", "last 8 s")
UNITS = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from this size on, divided by, written
DECIMALS = ((100.0, 1), (10.0, 2), (0.1, 3), (1e-3, 4))  # from this size on, so many decimals
FRAME_LINES = 8  # title, headline, blank, column heads, hidden rows, legend, addresses, the cursor's own line
BLOCKS = "▁▂▃▄▅▆▇█"
BAR_TICKS = 10  # ticks a bar of the sparkline averages: a second of the demo
BARS = 8  # what 80 columns have left
SETTLED_MIN = 20  # errors before a skill is shown: fewer say nothing
LATENCIES = 2000  # the p99 of fewer than some hundred is their maximum
RATE_SECONDS = 5.0  # ticks per second are counted over this time
SKILL_SHOWN_MIN = -9.99  # the column's width; a skill below it is a catastrophe either way


@dataclass
class Row:
    """One series: its last forecast, and the errors so far."""

    y: float = 0.0
    yhat: float = 0.0
    warm: bool = False
    error: float | None = None
    settled: int = 0
    absolute_error: float = 0.0
    naive_absolute_error: float = 0.0
    bars: deque[float] = field(default_factory=lambda: deque(maxlen=BARS))
    bar: list[float] = field(default_factory=list)
    bar_ticks: int = BAR_TICKS

    def observe(self, forecast: SeenForecast) -> None:
        """Settle the standing forecast by this one's tick, then stand this one."""
        if self.warm:
            self.error = forecast.y - self.yhat
            self.settled += 1
            self.absolute_error += abs(self.error)
            self.naive_absolute_error += abs(forecast.y - self.y)
        self.y, self.yhat, self.warm = forecast.y, forecast.yhat, forecast.warm
        self.bar.append(forecast.y)
        if len(self.bar) == self.bar_ticks:
            self.bars.append(sum(self.bar) / self.bar_ticks)
            self.bar.clear()

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
    def skill(self) -> float | None:
        """The mean over the series of 1 less our error over the naive's; none while no series has one."""
        ratios = [row.ratio for row in self.rows.values() if row.ratio is not None]
        return 1.0 - sum(ratios) / len(ratios) if ratios else None


@dataclass(frozen=True)
class Addresses:
    """Where else to look while the view runs."""

    metrics: str
    redis: str


def number(value: float) -> str:
    """At most eight characters, sign included, as many digits as fit; below 0.001 and from 1e15 on, one."""
    size = abs(value)
    for least, divisor, unit in UNITS:
        if least <= size < 1e15:
            return f"{value / divisor:.{2 if size < 10 * divisor else 1}f}{unit}"
    for least, decimals in DECIMALS:
        if least <= size < 1e15 or size == 0.0:
            return f"{value:.{decimals if size else 3}f}"
    return f"{value:.0e}"


def sparkline(values: Iterable[float]) -> str:
    """A bar for each value, between the smallest and the largest; level when all are equal."""
    known = list(values)
    if not known:
        return ""
    low, high = min(known), max(known)
    step = (high - low) / (len(BLOCKS) - 1)
    return "".join(BLOCKS[round((value - low) / step)] if step else BLOCKS[0] for value in known)


def skill_text(ratio: float | None, *, warm: bool, moved: bool) -> str:
    """The skill column: a percentage, or why there is none yet."""
    if not warm:
        return "warming"
    if ratio is None:
        return "…" if moved else "still"  # a series that never moved: naive is perfect, nothing can be better
    return "<-999%" if 1.0 - ratio < SKILL_SHOWN_MIN else f"{1.0 - ratio:+.1%}"


def cells(name: str, row: Row) -> tuple[str, ...]:
    """The row as text, in the order of `COLUMNS`."""
    settled = row.settled > 0
    return (
        name,
        number(row.y),
        number(row.yhat),
        "" if row.error is None else number(row.error),
        number(row.absolute_error / row.settled) if settled else "",
        number(row.naive_absolute_error / row.settled) if settled else "",
        skill_text(row.ratio, warm=row.warm, moved=row.settled < SETTLED_MIN or row.naive_absolute_error > 0.0),
        sparkline(row.bars),
    )


def headline(board: Board) -> str:
    """Rates, latency and skill over all series, in one line of 80 columns."""
    ticks, forecasts = board.rates
    return f"{ticks:.0f} ticks/s, {forecasts:.0f} forecasts/s, {latency_and_skill(board)}"


def latency_and_skill(board: Board) -> str:
    """How soon the forecasts come, and how good they are."""
    median, slow = board.latency_ms(0.5), board.latency_ms(0.99)
    latency = "…" if median is None or slow is None else f"p50 {median:.1f} ms, p99 {slow:.1f} ms"
    skill = "…" if board.skill is None else f"{board.skill:+.1%}"
    return f"latency {latency}, skill {skill}"


def screen(board: Board, addresses: Addresses, *, state: str, height: int) -> Group:
    """Everything, for a terminal of this height: rows that do not fit are counted below the table."""
    shown = max(height - FRAME_LINES, 1)
    table = rows_table(list(board.rows.items())[:shown])
    hidden = len(board.rows) - shown
    return Group(
        Text.assemble(("foretick demo", "bold"), f"  {state}"),
        Text(headline(board)),
        Text(""),
        table if board.rows else Text("  waiting for the first forecast …", "dim"),
        Text(f"  and {hidden} more series" if hidden > 0 else "", "dim"),
        Text("skill = 1 - |error| / naive on the same ticks; naive: the next value is the last", "dim"),
        Text(f"metrics {addresses.metrics}   stream {addresses.redis}", "dim"),
    )


def rows_table(rows: Iterable[tuple[str, Row]], bars: str = "last 8 s") -> Table:
    """The rows in columns of fixed width.

    Args:
        rows: name and row, in the order in which they are shown.
        bars: what the sparklines' column is called.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", width=80)
    for name, width in COLUMNS.items():
        title = bars if name == "last 8 s" else name
        table.add_column(title, width=width, justify="left" if name in LEFT else "right", no_wrap=True)
    for name, row in rows:
        series, last, forecast, *errors, skill, blocks = cells(name, row)
        cell = Text(skill, skill_style(row))
        table.add_row(Text(series), last, Text(forecast, "bold"), *errors, cell, Text(blocks, "cyan"))
    return table


def skill_style(row: Row) -> str:
    """Green where we are better than naive, red where we are worse."""
    if not row.warm or row.ratio is None:
        return "dim"
    return "green" if row.ratio < 0.995 else "red" if row.ratio > 1.005 else ""  # half a per cent is noise


def plain_table(board: Board) -> str:
    """The table without colour or cursor movements, 80 columns wide."""
    lines = [tuple(COLUMNS), *(cells(name, row) for name, row in board.rows.items())]
    return "\n".join(
        " ".join(
            f"{cell[:width]:<{width}}" if name in LEFT else f"{cell:>{width}}"
            for cell, (name, width) in zip(line, COLUMNS.items(), strict=True)
        ).rstrip()
        for line in lines
    )
