"""Small pictures as inline SVG: a frame with its axes, lines, bands and marks. Colours are the page's, by class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 8, 20  # px around the plot: room for the numbers at the axes
GRID_LINES = 4  # about as many, whatever the range


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot's area: places 0 … count − 1 from left to right, values from low to high.

    Attributes:
        count: places.
        low: value at the bottom.
        high: value at the top.
        height: of the whole picture, px.
    """

    count: int
    low: float
    high: float
    height: int = 200

    @staticmethod
    def around(count: int, *values: NDArray[np.float64], height: int = 200, floor: float | None = None) -> Frame:
        """A frame that holds these values with a little air; with a floor it begins there."""
        known = np.concatenate([one[np.isfinite(one)] for one in values] or [np.zeros(0)])
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        low = low if floor is None else floor
        air = 0.05 * (high - low) or max(abs(high) * 0.05, 1e-9)
        return Frame(count, low - (air if floor is None else 0.0), high + air, height)

    def x(self, place: float) -> float:
        """Where a place is, px."""
        return LEFT + (WIDTH - LEFT - RIGHT) * place / max(self.count - 1, 1)

    def y(self, value: float) -> float:
        """Where a value is, px; beyond the edges at the edge."""
        share = (value - self.low) / (self.high - self.low)
        return TOP + (self.height - TOP - BOTTOM) * (1.0 - min(max(share, 0.0), 1.0))

    def axes(self, labels: Iterable[tuple[float, str]]) -> str:
        """Grid lines with their values, and what stands below these places."""
        parts = []
        for value in round_values(self.low, self.high):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
        for place, label in labels:
            anchor = "start" if place <= 0 else "end" if place >= self.count - 1 else "middle"
            x, y = self.x(place), self.height - 4
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(label)}</text>')
        return "".join(parts)

    def line(self, values: Sequence[float] | NDArray[np.float64], style: str, first: int = 0, step: float = 1.0) -> str:
        """The values as a line; what is no number interrupts it."""
        path, is_down = [], False
        for i, value in enumerate(values):
            if math.isfinite(value):
                path.append(f"{'L' if is_down else 'M'}{self.x(first + i * step):.1f} {self.y(value):.1f}")
            is_down = math.isfinite(value)
        return f'<path class="{style}" d="{"".join(path)}"/>'

    def band(self, lower: NDArray[np.float64], upper: NDArray[np.float64], style: str) -> str:
        """What lies between two lines, from the first place on at which both are known."""
        known = np.flatnonzero(np.isfinite(lower) & np.isfinite(upper)).tolist()
        if len(known) < 2:
            return ""
        there = [f"{self.x(i):.1f} {self.y(upper[i]):.1f}" for i in known]
        back = [f"{self.x(i):.1f} {self.y(lower[i]):.1f}" for i in reversed(known)]
        return f'<path class="{style}" d="M{"L".join(there + back)}Z"/>'

    def dot(self, place: float, value: float, style: str, text: str = "", radius: float = 3.0) -> str:
        """A mark, and what it says under the pointer."""
        told = f"<title>{escape(text)}</title>" if text else ""
        return (
            f'<circle class="{style}" cx="{self.x(place):.1f}" cy="{self.y(value):.1f}" r="{radius:g}">{told}</circle>'
        )

    def picture(self, title: str, *parts: str) -> str:
        """The whole picture."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        )


def round_values(low: float, high: float) -> list[float]:
    """About `GRID_LINES` round numbers within a range, 1, 2 or 5 of some power of ten apart."""
    rough = (high - low) / GRID_LINES
    if not (rough > 0 and math.isfinite(rough)):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    first = math.ceil(low / step)
    return [round(k * step, 12) if abs(step) > 1e-9 else k * step for k in range(first, math.floor(high / step) + 1)]


def spark(values: NDArray[np.float64], forecast: NDArray[np.float64]) -> str:
    """A series' last ticks in the height of a line of text, with what was forecast for them."""
    both = np.concatenate([values, forecast])
    known = both[np.isfinite(both)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    size = (high - low) or 1.0

    def path(of: NDArray[np.float64]) -> str:
        points = [f"{i * 2} {round(19 - 18 * (v - low) / size, 1):g}" for i, v in enumerate(of) if math.isfinite(v)]
        return "M" + "L".join(points) if points else ""

    return (
        f'<svg class="spark" viewBox="0 0 {len(values) * 2} 20" aria-hidden="true" preserveAspectRatio="none">'
        f'<path class="actual" d="{path(values)}"/><path class="ours" d="{path(forecast)}"/></svg>'
    )
