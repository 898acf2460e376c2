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

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretick.core.columns import as_slice
from foretick.core.scaling import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Columns, Table
    from foretick.core.recipe import IntervalRecipe

_SCORE_MAX = 1e6  # an anomaly score beyond says nothing more, and a width of zero would make it infinite


class Settlement(NamedTuple):
    """What became of standing intervals.

    Attributes:
        bounded: (n,) bool, whether there were any.
        held: (L, n) bool, whether each held the actual; false where there was none.
        anomaly: (n,) score of the actual; NaN where there was none.
    """

    bounded: NDArray[np.bool_]
    held: NDArray[np.bool_]
    anomaly: NDArray[np.float64]


class Intervals:
    """The intervals of a group's forecasts, one or several for each row.

    A block is any columns `t` (ticks that have settled the forecast so far; negative where none stands), `yhat`,
    `bounds`, `residual_size`, `residuals_seen` and `correction`.

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
        self._beyond = np.concatenate([beyond, beyond])[:, None]  # (2L, 1) share of actuals beyond each bound
        self._probability = np.concatenate([beyond, 1.0 - beyond])  # (2L,) lower sides, then upper

    @property
    def _kept(self) -> NDArray[np.float32]:
        """(rows, window) the latest residuals, in sizes."""
        return self._column.rows.reshape(-1, self._recipe.window)

    def told(self, block: Columns) -> NDArray[np.float64]:
        """(2L, n) bounds of the standing forecasts as the wire tells them: lower and upper of each level in turn."""
        L = len(self._recipe.levels)
        sides: NDArray[np.float64] = block["bounds"].reshape(2, L, -1).swapaxes(0, 1)
        return sides.reshape(2 * L, -1)

    def settle(self, row: NDArray[np.int64], block: Columns, y: NDArray[np.float64]) -> Settlement:
        """Compare actuals with the standing bounds, and learn from both.

        Args:
            row: (n,) rows.
            block: (n,) columns before the tick.
            y: (n,) actuals.
        """
        recipe, L, bounds = self._recipe, len(self._recipe.levels), block["bounds"]
        stands = block["t"] >= 0
        # Not what is calibrated by now: a forecast that waited for its actual may have been made before that.
        bounded = ~np.isnan(bounds[0]) & stands if L else np.zeros(len(y), np.bool_)
        missed = np.concatenate([y < bounds[:L], y > bounds[L:]])
        push = recipe.gain * (missed - self._beyond)
        push *= bounded
        block["correction"][...] += push.astype(np.float32)
        error = y - block["yhat"]
        self._keep(row, block, np.where(stands, error, 0.0), stands)
        if not L:
            return Settlement(bounded, missed, error)
        reach = np.abs(bounds[[L - 1, 2 * L - 1]] - block["yhat"])
        anomaly = np.where(bounded, anomaly_of(error, reach), np.nan)
        return Settlement(bounded, ~(missed[:L] | missed[L:]) & bounded, anomaly)

    def _keep(
        self,
        row: NDArray[np.int64],
        block: Columns,
        residual: NDArray[np.float64],
        stands: NDArray[np.bool_],
    ) -> None:
        recipe, seen, size = self._recipe, block["residuals_seen"], block["residual_size"]
        known = size > TINY
        u = np.where(known, residual / np.where(known, size, 1.0), np.sign(residual))
        self._kept[row, seen % recipe.window] = u.clip(-recipe.clip, recipe.clip)
        limit = np.where(known, recipe.clip * size, np.inf)
        share = np.maximum(recipe.rate, 1.0 / (seen + 1)) * stands
        size[...] += share * (np.minimum(np.abs(residual), limit) - size)
        seen[...] += stands

    def bound(self, row: NDArray[np.int64], block: Columns) -> None:
        """Set the bounds of the new standing forecasts: lower sides, then upper; NaN before calibration.

        Args:
            row: (m,) distinct ascending rows.
            block: columns of these m; what a block holds behind them repeats the last.
        """
        m, bounds = len(row), block["bounds"]
        calibrated = block["residuals_seen"][:m] > self._recipe.warm_residuals
        if calibrated.all():
            bounds[:, :m] = self._bounds(row, block, slice(m))
        else:
            at = np.flatnonzero(calibrated)
            bounds[...] = np.nan
            if len(at):
                bounds[:, at] = self._bounds(row[at], block, at)
        bounds[:, m:] = bounds[:, m - 1 : m]

    def _bounds(self, row: NDArray[np.int64], block: Columns, at: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        L = len(self._recipe.levels)
        seen = np.minimum(block["residuals_seen"][at], self._recipe.window)
        quantile = _quantiles(self._kept[as_slice(row)], seen, self._probability).T
        correction = block["correction"][:, at].astype(np.float64)
        # A bound never crosses its forecast, and a wider interval never lies inside a narrower one.
        lower = np.minimum.accumulate(np.minimum(quantile[:L] - correction[:L], 0.0), axis=0)
        upper = np.maximum.accumulate(np.maximum(quantile[L:] + correction[L:], 0.0), axis=0)
        reach = np.concatenate([lower, upper]) * block["residual_size"][at]
        bounds: NDArray[np.float64] = block["yhat"][at] + reach
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


def anomaly_of(error: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) 0 where an actual is the forecast, 1 at the bound of the widest interval, more beyond it.

    Args:
        error: (n,) actual − forecast.
        reach: (2, n) distances of the widest interval's lower and upper bound from the forecast.
    """
    side = np.maximum(np.where(error < 0, reach[0], reach[1]), TINY)
    score: NDArray[np.float64] = np.abs(error) / side
    return np.minimum(score, _SCORE_MAX, out=score)
