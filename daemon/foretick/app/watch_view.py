"""What `foretick watch` shows: all series as a table, or one with its actuals against its forecasts."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from foretick.app.board import BARS, SETTLED_MIN, Board, Row
from foretick.app.chart import COLUMNS, LABEL_COLUMNS, WIDTH, History, bars, chart
from foretick.app.view import (
    latency_and_skill,
    legend,
    number,
    plain_table,
    promises,
    rows_table,
    skill_style,
    skill_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from foretick.ports.follower import SeenForecast

TABLE_LINES = (
    9  # around the table's rows: title, two headlines, blank, heads, hidden rows, two of legend, the cursor's own
)
CHART_LINES = (
    12  # around the chart: title, numbers, blanks, legend, two lines of errors, summary, the cursor's own line
)
CHART_ROWS_MAX = 20  # higher, and the eye loses the columns
WORST_TOLD = 3  # in a line


class Watched:
    """The forecasts of one stream as they come.

    Args:
        stream: the input stream.
        series: the only one that is watched; none watches all.
        worst: the series with the lowest skill on top.

    Attributes:
        lag_ticks: ticks without an answer; none where nobody knows.
        trouble: why nothing comes at the moment.
        hint: what to say while nothing has come yet.
    """

    def __init__(self, stream: str, series: str | None, *, worst: bool) -> None:
        self.board = Board(bar_ticks=1)
        self.lag_ticks: int | None = None
        self.trouble: str | None = None
        self.hint = ""
        self._stream = stream
        self._series = series
        self._worst = worst
        self._history = History()
        self._lines: list[str] = []
        self._is_away_told = False

    def observe(self, forecasts: Sequence[SeenForecast], *, live: bool = True) -> None:
        """Take new forecasts; of those that are not live there will be no lines."""
        mine = [one for one in forecasts if self._series in (None, one.series)]
        for one in mine:
            self.board.observe([one])
            if self._series is not None:
                self._history.observe(one)
            if live and not self._worst:
                self._lines.append(_line(one, self.board.rows[one.series]))

    def screen(self, elapsed_seconds: float, height: int) -> RenderableType:
        """Everything, for a terminal of this height."""
        state = Text(self.trouble, "red") if self.trouble else Text(f"{elapsed_seconds:.0f} s, Ctrl-C ends it", "dim")
        title = Text.assemble((self._series or "all series", "bold"), f" in {self._stream}   ", state)
        title.truncate(WIDTH, overflow="ellipsis")
        if not self.board.rows:
            return Group(
                title, Text(""), Text("  waiting for the first forecast …", "dim"), Text(f"  {self.hint}", "dim")
            )
        if self._series is None:
            return Group(title, *self._table(height))
        return Group(title, *self._detail(self.board.rows[self._series], height))

    def opening(self) -> Iterable[str]:
        """What there is already."""
        if not self.board.rows:
            yield f"waiting for the first forecast in {self._stream}  {self.hint}"
        elif self._series is None:
            yield plain_table(self.board).replace("last 8 s", "last 8", 1)
        else:
            yield f"{self._series}: {self.board.forecasts} forecasts so far, {_accuracy(self.board.rows[self._series])}"

    def lines(self, elapsed_seconds: float) -> Iterable[str]:  # noqa: ARG002  the shape of a view
        """A line for every forecast, or the worst of them; and when the server goes or comes."""
        if (self.trouble is not None) != self._is_away_told:
            self._is_away_told = self.trouble is not None
            yield self.trouble or "the server is back"
        if self._worst:
            yield f"{self._headline()}; worst: {', '.join(self._worst_words()) or '…'}"
        new, self._lines = self._lines, []
        yield from new

    def closing(self) -> Iterable[str]:
        """How it stands at the end."""
        if self._series is None:
            yield plain_table(self.board).replace("last 8 s", "last 8", 1)
        elif self._series in self.board.rows:
            yield f"{self._series}: {self.board.forecasts} forecasts, {_accuracy(self.board.rows[self._series])}"

    def _ordered(self) -> list[tuple[str, Row]]:
        rows = list(self.board.rows.items())
        if not self._worst:
            return rows
        return sorted(rows, key=lambda item: (item[1].ratio is None, -(item[1].ratio or 0.0), item[0]))

    def _worst_words(self) -> list[str]:
        worst = [(name, row.ratio) for name, row in self._ordered()[:WORST_TOLD] if row.ratio is not None]
        return [f"{name} {1.0 - ratio:+.1%}" for name, ratio in worst]

    def _headline(self) -> str:
        lag = "" if self.lag_ticks is None else f", lag {self.lag_ticks}"
        return f"{self.board.rates[1]:.0f} forecasts/s{lag}, {latency_and_skill(self.board)}"

    def _table(self, height: int) -> Iterable[RenderableType]:
        rows = self._ordered()
        shown = max(height - TABLE_LINES, 1)
        hidden = len(rows) - shown
        more = f"  and {hidden:,} more series" if hidden > 0 else ""
        yield Text(self._pulse(), "dim")
        yield promises(self.board)
        yield Text("")
        yield rows_table(rows[:shown], f"last {BARS} ticks, next")
        yield Text(more, "dim")
        yield from legend()

    def _detail(self, row: Row, height: int) -> Iterable[RenderableType]:
        moments = self._history.moments(COLUMNS)
        yield Text("")
        yield self._numbers(row)
        yield Text("")
        yield from chart(moments, min(max(height - CHART_LINES, 3), CHART_ROWS_MAX))
        yield Text.assemble(
            (" " * LABEL_COLUMNS, ""),
            ("● actual", "cyan"),
            ("   ━ forecast for it", "yellow"),
            *([("   ░ interval", "dim"), ("   ◆ outside", "bold red")] if moments[-1].lower is not None else []),
        )
        yield Text("")
        actuals = [(a.y, b.y, b.yhat) for a, b in pairwise(moments)]
        ours = [abs(y - yhat) if y is not None and yhat is not None else 0.0 for _, y, yhat in actuals]
        naive = [abs(y - last) if y is not None and last is not None else 0.0 for last, y, _ in actuals]
        largest = max([*ours, *naive], default=0.0)
        for label, sizes in (("|error|", ours), ("naive's", naive)):
            line = f"{label:>8}  {bars(sizes, largest):>{COLUMNS - 1}}"
            yield Text(line, "dim" if sizes is naive else "")
        yield Text("")
        held = f", held {row.held / row.bounded:.1%}" if row.bounded >= SETTLED_MIN else ""
        summary = Text.assemble(f"{_accuracy(row)}{held}   ", (self._pulse(), "dim"))
        summary.truncate(WIDTH, overflow="ellipsis")
        yield summary

    def _numbers(self, row: Row) -> Text:
        standing = self._history.standing
        error = "…" if row.error is None else number(row.error)
        words = Text.assemble(
            "last ",
            (number(row.y), "bold cyan"),
            "   next ",
            (number(row.yhat), "bold yellow"),
            f"   error {error}   skill ",
        )
        words.append(_skill(row), f"bold {skill_style(row)}")
        if standing is not None and standing.lower is not None and standing.upper is not None:
            words.append(f"   between {number(standing.lower)} and {number(standing.upper)}", "dim")
        return words

    def _pulse(self) -> str:
        """How alive the stream is."""
        median = self.board.latency_ms(0.5)
        latency = "" if median is None else f"latency {median:.1f} ms"
        lag = "" if self.lag_ticks is None else f"lag {self.lag_ticks}"
        return ", ".join(part for part in (latency, lag, f"{self.board.rates[1]:.1f}/s") if part)


def _skill(row: Row) -> str:
    return skill_text(row.ratio, warm=row.warm, moved=row.settled < SETTLED_MIN or row.naive_absolute_error > 0.0)


def _accuracy(row: Row) -> str:
    if not row.settled:
        return "warming up"
    ours, naive = number(row.absolute_error / row.settled), number(row.naive_absolute_error / row.settled)
    return f"mean {ours}, naive's {naive} over {row.settled:,} ticks"


def _line(seen: SeenForecast, row: Row) -> str:
    """One forecast as a line."""
    when = f"{datetime.fromtimestamp(seen.arrival_ms / 1000.0, UTC):%Y-%m-%d %H:%M:%S}.{seen.arrival_ms % 1000:03d}"
    error = "" if row.error is None else f"  error {row.error:.6g}"
    return f"{when}  {seen.series}  y {seen.y:.6g}  yhat {seen.yhat:.6g}{error}  skill {_skill(row)}"
