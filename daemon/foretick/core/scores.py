"""Live accuracy of a group, as sums that Prometheus can subtract and divide over any time range."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretick.core.horizon_scores import HorizonScores

_WEIGHT_MEMORY = 1000.0  # forecasts over which expert weights are averaged


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Sums over all scored forecasts of a group, in units that let series of different kinds add up.

    An error is divided by the series' running mean absolute first difference, the actual's own included:
    s ← s + max(.005, 1/t)(|d| − s) at its t-th difference d. So one outlier counts 200 at the most.

    Attributes:
        group: its name.
        series_active: series that ticked lately.
        scored: forecasts whose actual has arrived.
        scaled_abs_error: Σ |actual − forecast| / s.
        naive_scaled_abs_error: Σ |actual − last value| / s.
        scaled_squared_error: Σ of the first, squared.
        naive_scaled_squared_error: Σ of the second, squared.
        interval_scored: forecasts with intervals whose actual has arrived.
        interval_covered: how many of them each interval held, by level.
        expert_weight: mean weight of each expert over the latest ~1,000 forecasts.
        horizons: of the further horizons, by number of ticks ahead.
        series_expired: series that were forgotten so far.
    """

    group: str
    series_active: int
    scored: int
    scaled_abs_error: float
    naive_scaled_abs_error: float
    scaled_squared_error: float
    naive_scaled_squared_error: float
    interval_scored: int = 0
    interval_covered: dict[str, int] = field(default_factory=dict)
    expert_weight: dict[str, float] = field(default_factory=dict)
    horizons: dict[int, HorizonScores] = field(default_factory=dict)
    series_expired: int = 0


@dataclass(frozen=True, slots=True)
class SeriesStates:
    """How each series of a group fares: views of what the engine carries, which may change while they are read.

    Attributes:
        group: its name.
        names: (S,) series id of each row, none where the row is free; may grow.
        last_ms: (S,) int64 entry time of its newest tick, milliseconds since the epoch; the largest int64 in free rows.
        t: (S,) int64 forecasts whose actual has arrived; −1 before the first tick.
        mean_error: (S,) float64 mean |actual − forecast| over the latest ~1,000 ticks, in the series' own unit.
        mean_naive: (S,) float64 the same of the naive forecast.
        changes: how many series came or went before now, of each stretch of `names.STRETCH_ROWS` rows; not a view.
    """

    group: str
    names: Sequence[bytes | None]
    last_ms: NDArray[np.int64]
    t: NDArray[np.int64]
    mean_error: NDArray[np.float64]
    mean_naive: NDArray[np.float64]
    changes: Sequence[int]


@dataclass(slots=True)
class Tally:
    """The running sums behind `GroupScores`. Float64: a sum of 10^9 terms keeps six digits."""

    weight: NDArray[np.float64]
    covered: NDArray[np.int64]
    scored: int = 0
    bounded: int = 0
    abs_error: float = 0.0
    naive_abs_error: float = 0.0
    squared_error: float = 0.0
    naive_squared_error: float = 0.0

    @staticmethod
    def empty(experts: int, levels: int) -> Tally:
        """Nothing scored yet."""
        return Tally(weight=np.zeros(experts), covered=np.zeros(levels, np.int64))

    def add(self, scored: int, sizes: NDArray[np.float64]) -> None:
        """Score forecasts by the (2, n) sizes of the naive errors and of theirs, in mean moves."""
        self.scored += scored
        naive, error = np.add.reduce(sizes, axis=1).tolist()
        naive_squared, squared = np.add.reduce(np.square(sizes), axis=1).tolist()
        self.abs_error += error
        self.naive_abs_error += naive
        self.squared_error += squared
        self.naive_squared_error += naive_squared

    def cover(self, bounded: NDArray[np.bool_], held: NDArray[np.bool_]) -> None:
        """Score the intervals of n forecasts: whether each had any, and whether the (L, n) held the actual."""
        self.bounded += int(np.count_nonzero(bounded))
        self.covered += np.add.reduce(held, axis=1)

    def weigh(self, weight: NDArray[np.float32]) -> None:
        """Take in the (K, n) expert weights of n forecasts."""
        n = weight.shape[1]
        share = -math.expm1(-n / _WEIGHT_MEMORY)
        self.weight += share * (np.add.reduce(weight, axis=1) / n - self.weight)

    @property
    def numbers(self) -> dict[str, float]:
        """All sums by name."""
        return {
            "scored": self.scored,
            "bounded": self.bounded,
            "abs_error": self.abs_error,
            "naive_abs_error": self.naive_abs_error,
            "squared_error": self.squared_error,
            "naive_squared_error": self.naive_squared_error,
        }

    def scores(self, group: str, series_active: int, experts: Sequence[str], levels: Sequence[float]) -> GroupScores:
        """The sums as the world sees them."""
        return GroupScores(
            group=group,
            series_active=series_active,
            scored=self.scored,
            scaled_abs_error=self.abs_error,
            naive_scaled_abs_error=self.naive_abs_error,
            scaled_squared_error=self.squared_error,
            naive_scaled_squared_error=self.naive_squared_error,
            interval_scored=self.bounded,
            interval_covered={str(level): int(n) for level, n in zip(levels, self.covered, strict=True)},
            expert_weight={name: float(w) for name, w in zip(experts, self.weight, strict=True)},
        )
