"""Live accuracy of the further horizons of a group, as sums that Prometheus can subtract and divide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretick.core.horizon import Settled

_SUMS = 6  # scored, absolute, naive absolute, squared, naive squared, with intervals; then covered, by level


@dataclass(frozen=True, slots=True)
class HorizonScores:
    """As `GroupScores`, of the forecasts of one horizon; naive is the value at the tick they were made at."""

    scored: int
    scaled_abs_error: float
    naive_scaled_abs_error: float
    scaled_squared_error: float
    naive_scaled_squared_error: float
    interval_scored: int
    interval_covered: dict[str, int]


class HorizonTally:
    """The running sums, one row per horizon.

    Args:
        horizon: H.
        levels: of the intervals, ascending.
    """

    def __init__(self, horizon: int, levels: Sequence[float]) -> None:
        self._levels = levels
        self.sums = np.zeros((horizon - 1, _SUMS + len(levels)))

    def add(self, settled: Settled, move: NDArray[np.float64]) -> None:
        """Score what a round has settled; `move` is each series' mean first difference, the newest included."""
        stands = settled.stands
        moved = stands & (move > 0)[:, None]
        unit = np.where(move > 0, move, 1.0)[:, None]  # divided by, not inverted: 1/move of a denormal one is infinite
        error = np.where(moved, settled.error, 0.0) / unit
        naive = np.where(moved, settled.naive_error, 0.0) / unit
        parts = (stands, np.abs(error), np.abs(naive), error**2, naive**2, settled.bounded)
        self.sums[:, :_SUMS] += np.stack([part.sum(axis=0) for part in parts], axis=1)
        self.sums[:, _SUMS:] += settled.covered.sum(axis=0)

    def scores(self) -> dict[int, HorizonScores]:
        """The sums as the world sees them, by horizon."""
        return {
            h: HorizonScores(
                scored=int(row[0]),
                scaled_abs_error=row[1],
                naive_scaled_abs_error=row[2],
                scaled_squared_error=row[3],
                naive_scaled_squared_error=row[4],
                interval_scored=int(row[5]),
                interval_covered={str(level): int(n) for level, n in zip(self._levels, row[_SUMS:], strict=True)},
            )
            for h, row in enumerate(self.sums.tolist(), start=2)
        }
