"""The live view: a board as a table of 80 columns for a terminal, or as plain lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from foretick.app.board import BARS, SETTLED_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.app.board import Board, Row

COLUMNS = {  # of plain lines, name: characters; with a blank between them they fill 80
    "series": 15,
    "last": 8,
    "forecast": 8,
    "error": 8,
    "|error|": 8,
    "naive": 8,
    "skill": 8,
    "last 8 s": 8,
}
SHOWN = {"series": 15, "last": 8, "next": 8, "error": 8, "skill": 8, "": BARS + 1}  # of a terminal, 80 likewise
LEFT = ("series", "last 8 s", "")
UNITS = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from this size on, divided by, written
DECIMALS = ((100.0, 1), (10.0, 2), (0.1, 3), (1e-3, 4))  # from this size on, so many decimals
FRAME_LINES = 11  # title, two headlines, blank, heads, hidden rows, two lines of legend, two addresses, the cursor's
BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = 8  # what plain lines have left
SKILL_SHOWN_MIN = -9.99  # the column's width; a skill below it is a catastrophe either way


@dataclass(frozen=True)
class Addresses:
    """Where else to look while the view runs."""

    metrics: str
    redis: str

    @property
    def page(self) -> str:
        """The daemon's live page, beside its metrics."""
        return self.metrics.removesuffix("metrics")


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
        sparkline([value for value, _ in row.bars][-PLAIN_BARS:]),
    )


def headline(board: Board) -> str:
    """Rates, latency and skill over all series, in one line of 80 columns."""
    ticks, forecasts = board.rates
    return f"{ticks:.0f} ticks/s, {forecasts:.0f} forecasts/s, {latency_and_skill(board)}"


def pace(board: Board) -> str:
    """How many, and how soon."""
    ticks, forecasts = board.rates
    return f"{ticks:.0f} ticks/s, {forecasts:.0f} forecasts/s, latency {_latency(board)}"


def latency_and_skill(board: Board) -> str:
    """How soon the forecasts come, and how good they are."""
    skill = "…" if board.skill is None else f"{board.skill:+.1%}"
    return f"latency {_latency(board)}, skill {skill}"


def _latency(board: Board) -> str:
    median, slow = board.latency_ms(0.5), board.latency_ms(0.99)
    return "…" if median is None or slow is None else f"p50 {median:.1f} ms, p99 {slow:.1f} ms"


def promises(board: Board) -> Text:
    """Skill, and how the intervals keep their word, in one line of 80 columns."""
    skill, held = board.skill, board.held
    line = Text("skill ")
    line.append("…" if skill is None else f"{skill:+.1%}", f"bold {_style(None if skill is None else 1.0 - skill)}")
    line.append("   widest intervals held ")
    line.append("…" if held is None else f"{held:.1%}", "bold")
    if board.far_outside:
        line.append(f"   {board.far_outside:,} far outside", "bold red")
    return line


def screen(board: Board, addresses: Addresses, *, state: str, height: int) -> Group:
    """Everything, for a terminal of this height: rows that do not fit are counted below the table."""
    shown = max(height - FRAME_LINES, 1)
    table = rows_table(list(board.rows.items())[:shown], f"last {BARS} s, next")
    hidden = len(board.rows) - shown
    return Group(
        Text.assemble(("foretick demo", "bold"), f"  {state}"),
        Text(pace(board), "dim"),
        promises(board),
        Text(""),
        table if board.rows else Text("  waiting for the first forecast …", "dim"),
        Text(f"  and {hidden} more series" if hidden > 0 else "", "dim"),
        *legend(),
        Text.assemble("live page ", (addresses.page, "bold"), (f"   metrics {addresses.metrics}", "dim")),
        Text(f"stream {addresses.redis}", "dim"),
    )


def legend() -> tuple[Text, Text]:
    """What colours and words mean."""
    return (
        Text("skill = 1 - |error| / naive on the same ticks; naive: the next value is the last", "dim"),
        Text.assemble(
            ("▅", "cyan"), (" actual  ", "dim"), ("▅", "yellow"), (" forecast of the next  ", "dim"),
            ("▅", "bold red"), (" far outside: twice its widest interval", "dim"),
        ),
    )  # fmt: skip


def graph(row: Row) -> Text:
    """The last actuals as bars, those far outside red, and the forecast of the next behind them."""
    values = [value for value, _ in row.bars]
    if not values:
        return Text("")
    bars = sparkline([*values, row.yhat])
    text = Text(" " * (BARS + 1 - len(bars)))
    for bar, (_, is_far) in zip(bars, row.bars, strict=False):
        text.append(bar, "bold red" if is_far else "cyan")
    return text.append(bars[-1], "yellow")


def rows_table(rows: Iterable[tuple[str, Row]], bars: str) -> Table:
    """The rows in columns of fixed width.

    Args:
        rows: name and row, in the order in which they are shown.
        bars: what the graphs' column is called.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", width=80)
    for name, width in SHOWN.items():
        table.add_column(
            name or f"{bars:>{width}}", width=width, justify="left" if name in LEFT else "right", no_wrap=True
        )
    for name, row in rows:
        series, last, forecast, error, *_, skill, _ = cells(name, row)
        told = Text(skill, skill_style(row))
        table.add_row(Text(series), Text(last, "cyan"), Text(forecast, "bold yellow"), error, told, graph(row))
    return table


def skill_style(row: Row) -> str:
    """Green where we are better than naive, red where we are worse."""
    return _style(row.ratio if row.warm else None)


def _style(ratio: float | None) -> str:
    if ratio is None:
        return "dim"
    return "green" if ratio < 0.995 else "red" if ratio > 1.005 else ""  # half a per cent is noise


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
