"""The cheap linear expert: an autoregression whose coefficients wander, each with a variance of its own.

A Kalman filter over random-walk coefficients (Haykin, Adaptive Filter Theory, ch. 14) that keeps only the diagonal of
their covariance, with Huber weights as in `linear`. Per series, with x the latest k moves and z the outcome of the
standing forecast θ·x:

    e = z − θ·x
    w = min(1, c/|e|),   c = hub × running mean |e|         an outlier pulls no harder than c
    v ← v + drift
    g = v x / (1/w + Σ v x²)
    θ ← θ + g e
    v ← v − g x v

Twice 4k bytes a series instead of 2k²; without it the error of some sources is half as large again in the lean profile.

Glossary
    n, k    series of a round, moves
    θ, v    (n, k) coefficients and their variances
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.columns import as_slice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Table
    from foretick.core.recipe import KalmanRecipe

_ERROR_RATE = 0.01  # ~100 ticks; the running mean |e| follows the noise of the series
_VARIANCE_MAX = 1.0  # a move that has been zero for long would otherwise gain variance for ever
_TINY = np.float32(1e-30)  # no error is smaller


class Kalman:
    """One such expert for every series of a group.

    Args:
        table: where its state lives.
        recipe: constants.
    """

    def __init__(self, table: Table, recipe: KalmanRecipe) -> None:
        self._recipe = recipe
        k = recipe.moves
        self._theta = table.column("kalman.theta", (k,), np.float32)
        self._variance = table.column("kalman.variance", (k,), np.float16)  # three digits: a gain needs no more
        self._size = table.column("kalman.size", (), np.float32)

    def seen(self, moves: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, k) x: the latest moves, in scales, as this expert sees them."""
        recipe = self._recipe
        return np.asarray(moves[:, : recipe.moves].clip(-recipe.clip, recipe.clip), np.float32)

    def forecast(self, rows: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) θ·x, in scales, for (n,) distinct ascending rows."""
        forecast: NDArray[np.float32] = np.einsum("nk,nk->n", x, self._theta.rows[as_slice(rows)])
        return forecast

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for column in (self._theta, self._variance, self._size):
            column.rows[rows] = 0

    def learn(
        self, rows: NDArray[np.int64], x: NDArray[np.float32], z: NDArray[np.float32], t: NDArray[np.int64]
    ) -> None:
        """Learn from outcomes.

        Args:
            rows: (n,) distinct ascending rows.
            x: (n, k) float32 moves that the settled forecasts were made from.
            z: (n,) float32 outcomes, in scales, clipped.
            t: (n,) number of outcomes so far, this one included.
        """
        recipe, at = self._recipe, as_slice(rows)
        theta, size = self._theta.rows[at], self._size.rows[at]
        variance = self._variance.rows[at].astype(np.float32)
        begins = t <= 1
        if begins.any():
            variance[begins] = recipe.start
        e = z - np.einsum("nk,nk->n", x, theta)
        error = np.abs(e)
        rate = np.maximum(_ERROR_RATE, 1.0 / np.maximum(t, 1)).astype(np.float32)
        size += rate * (error - size)
        w = np.minimum(1, np.float32(recipe.hub) * size / np.maximum(error, _TINY))
        variance += np.float32(recipe.drift)
        np.minimum(variance, np.float32(_VARIANCE_MAX), out=variance)
        pull = variance * x
        g = pull / (1 / np.maximum(w, _TINY) + np.einsum("nk,nk->n", pull, x))[:, None]
        theta += g * e[:, None]
        variance -= g * pull
        lost = ~np.isfinite(size) | ~np.isfinite(theta).all(axis=1)
        if lost.any():
            theta[lost], variance[lost], size[lost] = 0, recipe.start, 0
        self._theta.rows[at], self._variance.rows[at], self._size.rows[at] = theta, variance, size
