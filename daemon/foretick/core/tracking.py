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

from foretick.core.intervals import Settlement, anomaly_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.block import Block
    from foretick.core.recipe import TrackingRecipe

_MEAN_TO_DEVIATION = 1.25  # √(π/2): the standard deviation of a Gaussian over its mean absolute value
_SIGNS = np.array([-1.0, 1.0])[:, None, None]  # of lower and upper sides


class Tracking:
    """The intervals of a group's series.

    Args:
        recipe: constants.
        clip: bound of a residual, in scales.
    """

    def __init__(self, recipe: TrackingRecipe, clip: float) -> None:
        self._recipe, self._clip = recipe, clip
        beyond = (1.0 - np.array(recipe.levels)) / 2
        start = [_MEAN_TO_DEVIATION * NormalDist().inv_cdf(1.0 - a) for a in beyond.tolist()]
        share = beyond[:, None]  # (L, 1) of actuals beyond each bound
        self._widen, self._narrow = recipe.gain * (1.0 - share), recipe.gain * (0.0 - share)
        self._start = np.array([start, start], np.float32).reshape(-1, 1)  # (2L, 1)

    def told(self, block: Block) -> NDArray[np.float64]:
        """(2L, n) bounds of the standing forecasts as the wire tells them: lower and upper of each level in turn."""
        reach, yhat = self._reach(block), block["yhat"]
        sides = np.empty_like(reach)
        levels = sides.reshape(-1, 2, len(yhat))
        np.subtract(yhat, reach[0], out=levels[:, 0])
        np.add(yhat, reach[1], out=levels[:, 1])
        sides = sides.reshape(-1, len(yhat))
        if block.youngest <= self._recipe.warm_residuals:
            sides[:, block["t"] <= self._recipe.warm_residuals] = np.nan
        return sides

    def settle(
        self,
        row: NDArray[np.int64],  # noqa: ARG002  as `Intervals.settle`; nothing is kept beside the records
        block: Block,
        y: NDArray[np.float64],  # noqa: ARG002  likewise
        error: NDArray[np.float64],
    ) -> Settlement:
        """Compare actuals with the standing bounds, and learn from both; the block's `t` counts neither yet.

        Args:
            row: (n,) rows.
            block: (n,) columns before the tick.
            y: (n,) actuals.
            error: (n,) y − ŷ.
        """
        recipe, t, correction = self._recipe, block["t"], block["correction"]
        calibrated = t > recipe.warm_residuals
        reach = self._reach(block)
        missed = error * _SIGNS > reach
        push = np.where(missed, self._widen, self._narrow)
        if block.youngest <= recipe.warm_residuals:
            push *= calibrated
        correction += push.reshape(correction.shape)
        if block.youngest <= recipe.warm_residuals:
            first = t == recipe.warm_residuals  # their first bounds stand next
            correction[:, first] = self._start
        held = calibrated > np.logical_or.reduce(missed, axis=0)
        if not recipe.levels:
            return Settlement(calibrated & False, held, error)
        anomaly = anomaly_of(error, reach[:, -1])
        if block.youngest <= recipe.warm_residuals:
            anomaly[~calibrated] = np.nan
        return Settlement(calibrated, held, anomaly)

    def residual(self, block: Block, size: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) |y − ŷ| in scales, as it is averaged."""
        u: NDArray[np.float64] = np.minimum(size * block["per_scale"], self._clip)
        if not block.all_move:
            u = np.where(block["per_scale"] > 0, u, np.sign(size))
        return u

    def bound(self, row: NDArray[np.int64], block: Block) -> None:
        """Nothing: what the bounds of the new standing forecasts are made of stands in the records."""

    def _reach(self, block: Block) -> NDArray[np.float64]:
        """(2, L, n) how far the bounds of the standing forecasts are from them: lower sides, then upper."""
        # A bound never crosses its forecast, and a wider interval never lies inside a narrower one.
        correction = block["correction"]
        q = np.maximum(correction, np.float32(0)).reshape(2, len(self._recipe.levels), correction.shape[1])
        for level in range(1, q.shape[1]):
            np.maximum(q[:, level], q[:, level - 1], out=q[:, level])
        unit = block["mix_loss"] + block["residual_fast"]
        unit *= 0.5 * block["scale"]
        reach: NDArray[np.float64] = q * unit
        return reach
