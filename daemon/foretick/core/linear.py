"""Robust linear experts: recursive least squares on scaled features of each series, outliers damped.

RLS with exponential forgetting (Haykin, Adaptive Filter Theory, ch. 10) and Huber weights, without which it is worse
than naive on real series. Per series, expert and tick, with the outcome z of the standing forecast θ·x:

    e = z − θ·x
    w = min(1, c/|e|),   c = hub × running mean |e|         an outlier pulls no harder than c
    g = P x / (λ/w + xᵀ P x)
    θ ← θ + g e
    P ← (P − g (P x)ᵀ) / λ

P is kept as ρ Q: dividing by λ then costs one number instead of a pass over memory. When ρ has reached 2 it is folded
into Q, and P's mean diagonal is bounded, which forgetting would inflate where nothing excites it.

A feature that has always been zero has no row in P; it enters with the recipe's start when it first speaks. So seasons
may appear late, and dead features do not grow.

Glossary
    n, m, k     series of a round, experts of a bank, features
    θ           (n, m, k) coefficients
    P           (n, m, k, k) inverse of the weighted correlation matrix of the features, symmetric
    λ           forgetting factor
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.columns import as_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretick.core.columns import Table
    from foretick.core.recipe import LinearRecipe

_ERROR_RATE = 0.01  # ~100 ticks; the running mean |e| follows the noise of the series
_FOLD_AT = 2.0  # ρ: some hundred ticks apart; a mean diagonal overshoots its bound by no more than this
_CACHE_BYTES = 2**18  # of P worked on at once: it and the product beside it fit the second-level cache
_TINY = np.float32(1e-30)  # no error is smaller


class LinearBank:
    """Experts on the same k features, for all series of a group.

    Args:
        table: where their state lives.
        name: of the bank's columns.
        k: features.
        recipes: constants of each of the m experts.
    """

    def __init__(self, table: Table, name: str, k: int, recipes: Sequence[LinearRecipe]) -> None:
        m = len(recipes)
        self.k = k
        self._forgetting = np.array([one.forgetting for one in recipes], np.float32)
        self._hub = np.array([one.hub for one in recipes], np.float32)
        self._start = np.array([one.start for one in recipes], np.float32)[:, None]
        self._theta = table.column(f"{name}.theta", (m, k), np.float32)
        self._diagonal_max = np.array([one.diagonal_max for one in recipes], np.float32)
        self._Q = table.column(f"{name}.Q", (m, k, k), np.float32)
        self._rho = table.column(f"{name}.rho", (m,), np.float32)
        self._size = table.column(f"{name}.size", (m,), np.float32)
        self._entered = table.column(f"{name}.entered", (m, k), np.bool_)
        self._columns = (self._theta, self._Q, self._rho, self._size, self._entered)
        self._rows_at_once = max(1, _CACHE_BYTES // (4 * m * k * k))
        self._outer = np.empty((self._rows_at_once, m, k, k), np.float32)

    def forecast(self, rows: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m) θ·x, in scales.

        Args:
            rows: (n,) distinct ascending rows.
            x: (n, m, k) float32 features.
        """
        forecast: NDArray[np.float32] = np.einsum("nmk,nmk->nm", x, self._theta.rows[as_slice(rows)])
        return forecast

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for column in self._columns:
            column.rows[rows] = 0

    def learn(
        self, rows: NDArray[np.int64], x: NDArray[np.float32], z: NDArray[np.float32], t: NDArray[np.int64]
    ) -> None:
        """Learn from outcomes.

        Args:
            rows: (n,) distinct ascending rows.
            x: (n, m, k) float32 features that the settled forecasts were made from.
            z: (n,) float32 outcomes, in scales, clipped; (n, m) where each expert forecasts something else.
            t: (n,) number of outcomes so far, this one included; (n, m) likewise.
        """
        at = as_slice(rows)
        state = theta, Q, rho, size, entered = [column.rows[at] for column in self._columns]
        rate = np.maximum(_ERROR_RATE, 1.0 / np.maximum(t, 1)).astype(np.float32)
        z, rate = (column if column.ndim > 1 else column[:, None] for column in (z, rate))
        self._learn(theta, Q, rho, size, entered, x, z, rate)
        if not isinstance(at, slice):
            for column, values in zip(self._columns, state, strict=True):
                column.rows[at] = values

    def _learn(
        self,
        theta: NDArray[np.float32],
        Q: NDArray[np.float32],
        rho: NDArray[np.float32],
        size: NDArray[np.float32],
        entered: NDArray[np.bool_],
        x: NDArray[np.float32],
        z: NDArray[np.float32],
        rate: NDArray[np.float32],
    ) -> None:
        """One update of n series, in place."""
        rho[rho == 0] = 1
        enters = (x != 0) > entered
        if enters.any():
            diagonal = np.einsum("nmkk->nmk", Q)
            diagonal[enters] = (self._start / rho[:, :, None] + np.zeros_like(x))[enters]
            entered |= enters

        e = z - np.einsum("nmk,nmk->nm", x, theta)
        error = np.abs(e)
        size += rate * (error - size)
        w = np.minimum(1, self._hub * size / np.maximum(error, _TINY))
        g, energy = self._shrink(Q, rho, x, self._forgetting / np.maximum(w, _TINY))
        theta += g * e[:, :, None]
        rho /= self._forgetting
        fold = rho >= _FOLD_AT
        if fold.any():
            Q[fold] *= rho[fold][:, None, None]
            rho[fold] = 1
            self._bound(Q, fold)
        lost = ~(energy >= 0)
        if lost.any():
            # Collinear features cost P its definiteness, a poisoned state its soundness: every feature enters again
            # with the next tick; what was learned stays, if it is sound.
            Q[lost], rho[lost], entered[lost] = 0, 1, False
            theta[~np.isfinite(theta)] = 0
            size[~np.isfinite(size)] = 0

    def _shrink(
        self, Q: NDArray[np.float32], rho: NDArray[np.float32], x: NDArray[np.float32], floor: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Take out of P, in place, what x has told: (n, m, k) gains g and (n, m) energies xᵀ P x; `floor` is λ/w."""
        g, energy = np.empty_like(x), np.empty_like(rho)
        for start in range(0, len(Q), self._rows_at_once):
            part = slice(start, start + self._rows_at_once)
            q, r = Q[part], rho[part, :, None]
            Px = np.matmul(q, x[part, :, :, None])[:, :, :, 0]
            Px *= r
            np.einsum("nmk,nmk->nm", x[part], Px, out=energy[part])
            np.divide(Px, (floor[part] + energy[part])[:, :, None], out=g[part])
            # einsum forms outer products three times faster than broadcasting; one product each, so it rounds alike.
            q -= np.einsum("nmi,nmj->nmij", g[part] / r, Px, out=self._outer[: len(q)])
        return g, energy

    def _bound(self, Q: NDArray[np.float32], fold: NDArray[np.bool_]) -> None:
        folded = Q[fold]
        mean = np.einsum("fkk->fk", folded).mean(axis=1)
        bound = self._diagonal_max[np.nonzero(fold)[1]]
        high = mean > bound
        if high.any():
            folded[high] *= (bound[high] / mean[high])[:, None, None]
            Q[fold] = folded
