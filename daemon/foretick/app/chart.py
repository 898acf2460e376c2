"""One series on the terminal: its actuals against what was forecast for them, tick by tick.

●  actual, at the height of its value        ━  forecast for that tick, or for the next at the right edge
░  between the bounds that were forecast for it, where there are any        ◆  an actual outside of them
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from foretick.app.view import BLOCKS, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.ports.follower import SeenForecast

WIDTH = 80
LABEL_COLUMNS = 10  # eight characters of a number, a blank, the axis
COLUMNS = WIDTH - LABEL_COLUMNS
ACTUAL, OUTSIDE, FORECAST, BETWEEN = "●", "◆", "━", "░"
STYLES = {ACTUAL: "bold cyan", OUTSIDE: "bold red", FORECAST: "yellow", BETWEEN: "grey35"}


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick, or the next one, of which only the forecast is known.

    Attributes:
        y: its value; none of the next.
        yhat: what was forecast for it; none where nothing was.
        lower: lower bound that was forecast.
        upper: upper bound.
    """

    y: float | None
    yhat: float | None
    lower: float | None = None
    upper: float | None = None

    @property
    def is_outside(self) -> bool:
        """Whether the value lies beyond what was forecast for it."""
        if self.y is None or self.lower is None or self.upper is None:
            return False
        return not self.lower <= self.y <= self.upper


class History:
    """The last ticks of one series, each with the forecast that was made for it."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=COLUMNS)
        self.standing: SeenForecast | None = None

    def observe(self, forecast: SeenForecast) -> None:
        """The tick settles the standing forecast, and has one of its own."""
        before = self.standing
        known = (None, None, None) if before is None else (before.yhat, before.lower, before.upper)
        self._moments.append(Moment(forecast.y, *known))
        self.standing = forecast

    def moments(self, columns: int) -> list[Moment]:
        """The newest, oldest first; the last is the one to come."""
        if self.standing is None:
            return []
        coming = Moment(None, self.standing.yhat, self.standing.lower, self.standing.upper)
        return [*list(self._moments)[1 - columns :], coming]


def chart(moments: Sequence[Moment], rows: int) -> list[Text]:
    """The moments as lines of text, newest at the right; the axis shows the largest, middle and smallest height."""
    heights = [height for one in moments for height in (one.y, one.yhat) if height is not None]
    if not heights:
        return []
    low, high = min(heights), max(heights)
    columns = [_column(one, low, high, rows) for one in moments]
    columns = [" " * rows] * (COLUMNS - len(columns)) + columns
    labels = {0: high, rows // 2: high - (high - low) * (rows // 2) / max(rows - 1, 1), rows - 1: low}
    lines = []
    for row in range(rows):
        label = number(labels[row]) if row in labels else ""
        line = Text(f"{label:>8} {'┤' if row in labels else '│'}", style="dim")
        for column in columns:
            line.append(column[row], STYLES.get(column[row], ""))
        lines.append(line)
    return lines


def _column(moment: Moment, low: float, high: float, rows: int) -> str:
    """The marks of one moment, from the top down."""
    marks = [" "] * rows
    if moment.lower is not None and moment.upper is not None:
        top, bottom = _row(moment.upper, low, high, rows), _row(moment.lower, low, high, rows)
        marks[top : bottom + 1] = BETWEEN * (bottom - top + 1)
    for height, mark in ((moment.yhat, FORECAST), (moment.y, OUTSIDE if moment.is_outside else ACTUAL)):
        if height is not None:
            marks[_row(height, low, high, rows)] = mark
    return "".join(marks)


def _row(height: float, low: float, high: float, rows: int) -> int:
    """The line in which a height lies, 0 at the top; beyond the edges it lies at the edge."""
    if not low < high or not math.isfinite(high - low):
        return rows // 2
    share = min(max((height - low) / (high - low), 0.0), 1.0)
    return round((1.0 - share) * (rows - 1))


def bars(sizes: Sequence[float], largest: float) -> str:
    """A bar for each size, from nothing to the largest."""
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[min(round(size / largest * top), top)] if largest > 0 else BLOCKS[0] for size in sizes)
