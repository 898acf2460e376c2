"""Prediction intervals in a few bytes: each bound's distance is moved by whether the actual lay beyond it.

For each level, say .8, and each side, a = .1 of the actuals may fall beyond the bound. Per series and tick:

    bound = ŷ ∓ q u,   u = ½ (slow + fast running mean of |y − ŷ|)
    q ← q + γ (1[beyond] − a)           a miss widens by γ(1 − a), a hit narrows by γ a

Quantile tracking (Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control", §2.1): the long-run coverage is
right whatever the series does. It lacks the empirical quantile of `intervals`, and so 1,000 bytes and the sorting of
them. Residuals are measured in scales, and the slow mean is the mix's own running loss.

Glossary
    n, L    series of a round, levels
    a       (1 − level)/2
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from foretick.core.intervals import anomaly_of
from foretick.core.scaling import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Block
    from foretick.core.recipe import TrackingRecipe

_MEAN_TO_DEVIATION = 1.25  # √(π/2): the standard deviation of a Gaussian over its mean absolute value


class Tracking:
    """The intervals of a group's series.

    Args:
        recipe: constants.
        clip: bound of a residual, in scales.
    """

    def __init__(self, recipe: TrackingRecipe, clip: float) -> None:
        self._recipe, self._clip = recipe, clip
        beyond = (1.0 - np.array(recipe.levels)) / 2
        self._beyond = np.concatenate([beyond, beyond])  # (2L,) share of actuals beyond each bound
        self._start = _MEAN_TO_DEVIATION * np.array([NormalDist().inv_cdf(1.0 - a) for a in self._beyond.tolist()])

    def told(self, block: Block) -> NDArray[np.float64]:
        """(n, 2L) bounds of the standing forecasts as the wire tells them: lower and upper of each level in turn."""
        L = len(self._recipe.levels)
        sides: NDArray[np.float64] = self._bounds(block).reshape(-1, 2, L).transpose(0, 2, 1).reshape(-1, 2 * L)
        return sides

    def calibrated(self, block: Block) -> NDArray[np.bool_]:
        """(n,) whether the standing forecast has bounds."""
        calibrated: NDArray[np.bool_] = block["t"] > self._recipe.warm_residuals
        return calibrated

    def settle(self, row: NDArray[np.int64], block: Block, y: NDArray[np.float64]) -> tuple[int, NDArray[np.bool_]]:  # noqa: ARG002  as `Intervals.settle`; nothing is kept beside the records
        """Compare actuals with the standing bounds, and learn from both; the blocks' `t` counts neither yet.

        Args:
            row: (n,) rows.
            block: (n,) records before the tick; those without one have no standing forecast. `anomaly` is set.
            y: (n,) actuals.

        Returns:
            How many had bounds; (m, L) of each standing forecast, whether its intervals held the actual.
        """
        recipe, L, t = self._recipe, len(self._recipe.levels), block["t"]
        stands, calibrated, bounds = t >= 0, self.calibrated(block), self._bounds(block)
        missed = np.concatenate([y[:, None] < bounds[:, :L], y[:, None] > bounds[:, L:]], axis=1)
        push = recipe.gain * (missed - self._beyond)
        block["correction"] += np.where(calibrated[:, None], push, 0).astype(np.float32)
        block["correction"][t == recipe.warm_residuals] = self._start  # of the first bounds, which stand next
        if L:
            score = anomaly_of(y, block["yhat"], bounds[:, L - 1], bounds[:, 2 * L - 1])
            block["anomaly"] = np.where(calibrated, score, np.nan)

        known = block["scale"] > TINY
        residual = np.abs(y - block["yhat"])
        u = np.where(known, residual / np.where(known, block["scale"], 1.0), np.sign(residual)).clip(0, self._clip)
        share = np.maximum(recipe.rate, 1.0 / np.maximum(t + 1, 1))
        fast = block["residual_fast"]
        block["residual_fast"] = np.where(stands, fast + share * (u - fast), fast)
        return int(calibrated.sum()), calibrated[stands, None] & ~(missed[stands, :L] | missed[stands, L:])

    def bound(self, row: NDArray[np.int64], block: Block) -> None:
        """Nothing: what the bounds of the new standing forecasts are made of stands in the records."""

    def _bounds(self, block: Block) -> NDArray[np.float64]:
        """(n, 2L) bounds of the standing forecasts: lower sides, then upper; NaN before calibration."""
        L = len(self._recipe.levels)
        unit = 0.5 * (block["mix_loss"].astype(np.float64) + block["residual_fast"]) * block["scale"]
        # A bound never crosses its forecast, and a wider interval never lies inside a narrower one.
        q = np.maximum(block["correction"].astype(np.float64), 0.0).reshape(-1, 2, L)
        q = np.maximum.accumulate(q, axis=2).reshape(-1, 2 * L) * unit[:, None]
        q[:, :L] *= -1.0
        return np.where(self.calibrated(block)[:, None], block["yhat"][:, None] + q, np.nan)
