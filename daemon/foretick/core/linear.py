"""Robust linear experts: recursive least squares on scaled features of each series, outliers damped.

RLS with exponential forgetting (Haykin, Adaptive Filter Theory, ch. 10) and Huber weights, without which it is worse
than naive on real series. Per series and tick, with the outcome z of the standing forecast θ·x:

    e = z − θ·x
    w = min(1, c/|e|),   c = hub × running mean |e|         an outlier pulls no harder than c
    g = P x / (λ/w + xᵀ P x)
    θ ← θ + g e
    P ← (P − g (P x)ᵀ) / λ,   its mean diagonal bounded       forgetting would inflate P where nothing excites it

A feature that has always been zero has no row in P; it enters with the recipe's start when it first speaks. So seasons
may appear late, and dead features do not grow.

Glossary
    n, k    series of a round, features
    θ       (n, k) coefficients
    P       (n, k, k) inverse of the weighted correlation matrix of the features, symmetric
    λ       forgetting factor
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.columns import as_slice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Table
    from foretick.core.recipe import LinearRecipe

_ERROR_RATE = 0.01  # ~100 ticks; the running mean |e| follows the noise of the series
_DIAGONAL_MAX = 100.0  # mean of P's diagonal: far above any start, far below what float32 cannot carry
_CACHE_BYTES = 2**18  # of P worked on at once: three such fit the second-level cache
_TINY = np.float32(1e-30)  # no error is smaller


class LinearExpert:
    """One copy of the expert, for all series of a group.

    Args:
        table: where its state lives.
        k: features.
        recipe: constants.
    """

    def __init__(self, table: Table, k: int, recipe: LinearRecipe) -> None:
        self.k = k
        self.recipe = recipe
        self._theta = table.column(f"{recipe.name}.theta", (k,), np.float32)
        self._P = table.column(f"{recipe.name}.P", (k, k), np.float32)
        self._size = table.column(f"{recipe.name}.size", (), np.float32)
        self._rows_at_once = max(1, _CACHE_BYTES // (4 * k * k))

    def forecast(self, rows: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) θ·x, in scales.

        Args:
            rows: (n,) distinct ascending rows.
            x: (n, k) float32 features.
        """
        forecast: NDArray[np.float32] = np.einsum("nk,nk->n", x, self._theta.rows[as_slice(rows)])
        return forecast

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for column in (self._theta, self._P, self._size):
            column.rows[rows] = 0

    def learn(
        self, rows: NDArray[np.int64], x: NDArray[np.float32], z: NDArray[np.float32], t: NDArray[np.int64]
    ) -> None:
        """Learn from outcomes.

        Args:
            rows: (n,) distinct ascending rows.
            x: (n, k) float32 features that the settled forecast was made from.
            z: (n,) float32 outcomes, in scales, clipped.
            t: (n,) number of outcomes so far, this one included.
        """
        step = self._rows_at_once
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            self._learn(as_slice(rows[part]), x[part], z[part], t[part])

    def _learn(
        self, at: slice | NDArray[np.int64], x: NDArray[np.float32], z: NDArray[np.float32], t: NDArray[np.int64]
    ) -> None:
        theta, P, size = self._theta.rows[at], self._P.rows[at], self._size.rows[at]
        diagonal = np.einsum("nkk->nk", P)  # a view
        enters = (diagonal == 0) & (x != 0)
        if enters.any():
            diagonal[enters] = self.recipe.start

        e = z - np.einsum("nk,nk->n", x, theta)
        error = np.abs(e)
        size += np.maximum(np.float32(_ERROR_RATE), (1.0 / np.maximum(t, 1)).astype(np.float32)) * (error - size)
        w = np.minimum(1, np.float32(self.recipe.hub) * size / np.maximum(error, _TINY))
        lam = np.float32(self.recipe.forgetting)
        Px = np.matmul(P, x[:, :, None])[:, :, 0]
        energy = np.einsum("nk,nk->n", x, Px)
        g = Px / (lam / np.maximum(w, _TINY) + energy)[:, None]
        theta += g * e[:, None]
        P -= g[:, :, None] * Px[:, None, :]
        P *= 1 / lam
        lost = self._bound(P, diagonal, energy)
        if lost.any():
            P[lost] = 0  # every feature enters again with the next tick; what was learned stays, if it is sound
            theta[~np.isfinite(theta)] = 0
            size[~np.isfinite(size)] = 0
        if not isinstance(at, slice):
            self._theta.rows[at], self._P.rows[at], self._size.rows[at] = theta, P, size

    @staticmethod
    def _bound(P: NDArray[np.float32], diagonal: NDArray[np.float32], energy: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Bound P where features rest; (n,) whether it lost its definiteness (collinear features) or is not finite."""
        mean = diagonal.mean(axis=1)
        high = mean > _DIAGONAL_MAX
        if high.any():
            P[high] *= (_DIAGONAL_MAX / mean[high]).astype(np.float32)[:, None, None]
        lost: NDArray[np.bool_] = (energy < 0) | (diagonal < 0).any(axis=1) | ~np.isfinite(mean)
        return lost
