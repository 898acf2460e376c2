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
from foretick.core.window import Window

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
        self._recipe, L = recipe, len(recipe.levels)
        self._residuals = Window(table.column(name, (copies, recipe.window), np.float32))  # the latest, in sizes
        beyond = (1.0 - np.array(recipe.levels)) / 2
        self._beyond = np.concatenate([beyond, beyond])[:, None]  # (2L, 1) share of actuals beyond each bound
        self._sides = np.repeat([-1.0, 1.0], L)[:, None]  # (2L, 1) lower, then upper
        self._probability = np.concatenate([beyond, 1.0 - beyond])  # (2L,) of the quantiles that bounds begin with
        self._places = _places(self._probability, np.array([recipe.window]))[0]  # theirs in a full window, sorted

    def told(self, block: Columns) -> NDArray[np.float64]:
        """(2L, n) bounds of the standing forecasts as the wire tells them: lower and upper of each level in turn."""
        L = len(self._recipe.levels)
        sides: NDArray[np.float64] = block["bounds"].reshape(2, L, -1).swapaxes(0, 1)
        return sides.reshape(2 * L, -1)

    def settle(
        self, row: NDArray[np.int64], block: Columns, y: NDArray[np.float64], error: NDArray[np.float64]
    ) -> Settlement:
        """Compare actuals with the standing bounds, and learn from both.

        Args:
            row: (n,) rows.
            block: (n,) columns before the tick.
            y: (n,) actuals.
            error: (n,) y − ŷ.
        """
        recipe, L, bounds = self._recipe, len(self._recipe.levels), block["bounds"]
        stands = block["t"] >= 0
        # Not what is calibrated by now: a forecast that waited for its actual may have been made before that.
        bounded = ~np.isnan(bounds[0]) & stands if L else np.zeros(len(y), np.bool_)
        missed = np.concatenate([y < bounds[:L], y > bounds[L:]])
        push = recipe.gain * (missed - self._beyond)
        push *= bounded
        block["correction"][...] += push.astype(np.float32)
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
        u = np.divide(residual, size, out=np.sign(residual), where=known)
        self._residuals.push(row, seen, np.minimum(np.maximum(u, -recipe.clip, out=u), recipe.clip, out=u))
        bounded = np.abs(residual)
        np.minimum(bounded, recipe.clip * size, out=bounded, where=known)
        bounded -= size
        bounded *= np.maximum(recipe.rate, 1.0 / (seen + 1)) * stands
        size += bounded
        seen += stands

    def bound(self, row: NDArray[np.int64], block: Columns) -> None:
        """Set the bounds of the new standing forecasts: lower sides, then upper; NaN before calibration.

        Args:
            row: (m,) distinct ascending rows.
            block: columns of these m; what a block holds behind them repeats the last.
        """
        m, bounds = len(row), block["bounds"]
        at: slice | NDArray[np.int64] = slice(m)
        seen = block["residuals_seen"][:m]
        if np.minimum.reduce(seen) <= self._recipe.warm_residuals:
            bounds[...] = np.nan
            at = np.flatnonzero(seen > self._recipe.warm_residuals)
        if len(row[at]):
            bounds[:, at] = self._bounds(row[at], block, at)
        bounds[:, m:] = bounds[:, m - 1 : m]

    def _bounds(self, row: NDArray[np.int64], block: Columns, at: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        # A bound never crosses its forecast, and a wider interval never lies inside a narrower one.
        quantile = self._quantiles(row, block["residuals_seen"][at])
        reach: NDArray[np.float64] = np.multiply(self._sides, quantile)
        reach += block["correction"][:, at]
        np.maximum(reach, 0.0, out=reach)
        by_side = reach.reshape(2, len(self._recipe.levels), len(row))
        np.maximum.accumulate(by_side, axis=1, out=by_side)
        reach *= self._sides
        reach *= block["residual_size"][at]
        reach += block["yhat"][at]
        return reach

    def _quantiles(self, row: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(2L, n) quantiles of the latest residuals of each row, each rounded outwards to one that was seen."""
        u, window = self._residuals.latest(as_slice(row)), self._recipe.window
        quantile: NDArray[np.float32]
        if np.minimum.reduce(seen) >= window:
            quantile = np.sort(u, axis=1).T[self._places]
        else:
            seen = np.minimum(seen, window)
            ordered = np.sort(np.where(np.arange(window) < seen[:, None], u, np.inf), axis=1)
            quantile = np.take_along_axis(ordered, _places(self._probability, seen), axis=1).T
        return quantile


def _places(probability: NDArray[np.float64], seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 2L) where the quantiles of (n,) numbers of residuals stand among them, sorted."""
    # Of m residuals the ⌈p(m + 1)⌉-th smallest is exceeded with probability 1 − p at most (split conformal).
    rank = probability * (seen[:, None] + 1)
    place = np.where(probability > 1 / 2, np.ceil(rank), np.floor(rank)).astype(np.int64) - 1
    return np.clip(place, 0, seen[:, None] - 1)


def anomaly_of(error: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) 0 where an actual is the forecast, 1 at the bound of the widest interval, more beyond it.

    Args:
        error: (n,) actual − forecast.
        reach: (2, n) distances of the widest interval's lower and upper bound from the forecast.
    """
    side = np.maximum(np.where(error < 0, reach[0], reach[1]), TINY)
    score: NDArray[np.float64] = np.abs(error) / side
    return np.minimum(score, _SCORE_MAX, out=score)
