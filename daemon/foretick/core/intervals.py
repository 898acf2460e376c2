"""Prediction intervals that keep their promise on any series: conformal, one side at a time, corrected as they miss.

For each level, say .8, and each side, a = .1 of the actuals may fall beyond the bound. Per series and tick, with the
residual r = y − ŷ of the standing forecast:

    u = r / v                                 residual in sizes; the last 250 are kept
    v ← v + α (|r| − v)                       running size of residuals: intervals widen within ~20 ticks
    bound = ŷ + v (Q_u(a) ∓ q)                empirical quantile of u, and a correction q
    q ← q + γ (1[beyond] − a)                 a miss widens by γ(1 − a), a hit narrows by γ a

The last line alone guarantees long-run coverage whatever the series does (Gibbs and Candès 2021; Angelopoulos, Candès
and Tibshirani 2023, "Conformal PID control"); the quantile makes the bound sharp.

Glossary
    n, L    series of a round, levels
    a       (1 − level)/2
    reach   distance of a bound from the forecast
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.columns import as_slice
from foretick.core.scaling import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Block
    from foretick.core.columns import Table
    from foretick.core.recipe import IntervalRecipe

_SCORE_MAX = 1e6  # an anomaly score beyond says nothing more, and a width of zero would make it infinite


class Intervals:
    """The intervals of a group's forecasts, one or several for each row.

    A block is any structured array with fields `t` (ticks that have settled the forecast so far), `yhat`, `bounds`,
    `anomaly`, `residual_size`, `residuals_seen` and `correction`.

    Args:
        table: where the kept residuals live.
        recipe: constants.
        name: of their column.
        copies: forecasts of a row; the k-th of row r is row r·copies + k here.
    """

    def __init__(self, table: Table, recipe: IntervalRecipe, name: str = "residuals", copies: int = 1) -> None:
        self._recipe = recipe
        self._column = table.column(name, (copies, recipe.window), np.float32)
        beyond = (1.0 - np.array(recipe.levels)) / 2
        self._beyond = np.concatenate([beyond, beyond])  # (2L,) share of actuals beyond each bound
        self._probability = np.concatenate([beyond, 1.0 - beyond])  # (2L,) lower sides, then upper

    @property
    def _kept(self) -> NDArray[np.float32]:
        """(rows, window) the latest residuals, in sizes."""
        return self._column.rows.reshape(-1, self._recipe.window)

    def told(self, block: Block) -> NDArray[np.float64]:
        """(n, 2L) bounds of the standing forecasts as the wire tells them: lower and upper of each level in turn."""
        L = len(self._recipe.levels)
        sides: NDArray[np.float64] = block["bounds"].reshape(-1, 2, L).transpose(0, 2, 1).reshape(-1, 2 * L)
        return sides

    def calibrated(self, block: Block) -> NDArray[np.bool_]:
        """(n,) whether the standing forecast has bounds."""
        calibrated: NDArray[np.bool_] = block["residuals_seen"] > self._recipe.warm_residuals
        return calibrated

    def settle(self, row: NDArray[np.int64], block: Block, y: NDArray[np.float64]) -> tuple[int, NDArray[np.bool_]]:
        """Compare actuals with the standing bounds, and learn from both.

        Args:
            row: (n,) distinct ascending rows.
            block: (n,) records before the tick; those without one have no standing forecast. `anomaly` is set.
            y: (n,) actuals.

        Returns:
            How many had bounds; (m, L) of each standing forecast, whether its intervals held the actual.
        """
        recipe, L = self._recipe, len(self._recipe.levels)
        stands = block["t"] >= 0
        if not stands.all():
            rest = block[stands]
            bounded, held = self.settle(row[stands], rest, y[stands])
            block[stands] = rest
            return bounded, held
        bounds = block["bounds"]
        # Not `calibrated`: a forecast that waited for its actual may have been made before that.
        calibrated = ~np.isnan(bounds).any(axis=1) & (L > 0)
        missed = np.concatenate([y[:, None] < bounds[:, :L], y[:, None] > bounds[:, L:]], axis=1)
        push = recipe.gain * (missed - self._beyond)
        block["correction"] += np.where(calibrated[:, None], push, 0).astype(np.float32)
        if L:
            score = anomaly_of(y, block["yhat"], bounds[:, L - 1], bounds[:, 2 * L - 1])
            block["anomaly"] = np.where(calibrated, score, np.nan)
        self._keep(row, block, y - block["yhat"])
        return int(calibrated.sum()), calibrated[:, None] & ~(missed[:, :L] | missed[:, L:])

    def _keep(self, row: NDArray[np.int64], block: Block, residual: NDArray[np.float64]) -> None:
        recipe, seen, size = self._recipe, block["residuals_seen"], block["residual_size"]
        known = size > TINY
        u = np.where(known, residual / np.where(known, size, 1.0), np.sign(residual))
        self._kept[row, seen % recipe.window] = u.clip(-recipe.clip, recipe.clip)
        limit = np.where(known, recipe.clip * size, np.inf)
        share = np.maximum(recipe.rate, 1.0 / (seen + 1))
        block["residual_size"] = size + share * (np.minimum(np.abs(residual), limit) - size)
        block["residuals_seen"] = seen + 1

    def bound(self, row: NDArray[np.int64], block: Block) -> None:
        """Set the (n, 2L) bounds of the new standing forecasts: lower sides, then upper; NaN before calibration."""
        calibrated = self.calibrated(block)
        if calibrated.all():
            block["bounds"] = self._bounds(row, block)
            return
        block["bounds"] = np.nan
        if calibrated.any():
            block["bounds"][calibrated] = self._bounds(row[calibrated], block[calibrated])

    def _bounds(self, row: NDArray[np.int64], block: Block) -> NDArray[np.float64]:
        L = len(self._recipe.levels)
        seen = np.minimum(block["residuals_seen"], self._recipe.window)
        quantile = _quantiles(self._kept[as_slice(row)], seen, self._probability)
        correction = block["correction"].astype(np.float64)
        # A bound never crosses its forecast, and a wider interval never lies inside a narrower one.
        lower = np.minimum.accumulate(np.minimum(quantile[:, :L] - correction[:, :L], 0.0), axis=1)
        upper = np.maximum.accumulate(np.maximum(quantile[:, L:] + correction[:, L:], 0.0), axis=1)
        reach = np.concatenate([lower, upper], axis=1) * block["residual_size"][:, None]
        bounds: NDArray[np.float64] = block["yhat"][:, None] + reach
        return bounds


def _quantiles(
    u: NDArray[np.float32], seen: NDArray[np.int64], probability: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 2L) of the first `seen` numbers of each row the quantiles, each rounded outwards to a number seen."""
    window = u.shape[1]
    full = seen == window
    ordered = np.sort(u if full.all() else np.where(np.arange(window) < seen[:, None], u, np.inf), axis=1)
    # Of m residuals the ⌈p(m + 1)⌉-th smallest is exceeded with probability 1 − p at most (split conformal).
    rank = probability * (seen[:, None] + 1)
    index = np.where(probability > 1 / 2, np.ceil(rank), np.floor(rank)).astype(np.int64) - 1
    return np.take_along_axis(ordered, np.clip(index, 0, seen[:, None] - 1), axis=1).astype(np.float64)


def anomaly_of(
    y: NDArray[np.float64], yhat: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) 0 where y is the forecast, 1 at the bound of the widest interval, more beyond it."""
    distance = np.abs(y - yhat)
    reach = np.where(y < yhat, yhat - lower, upper - yhat)
    has_width = reach > TINY
    score = np.minimum(distance, _SCORE_MAX * reach) / np.where(has_width, reach, 1.0)
    return np.where(has_width, score, np.where(distance > 0, _SCORE_MAX, 0.0))
