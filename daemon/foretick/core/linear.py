"""Robust linear experts: recursive least squares on scaled features of each series, outliers damped.

RLS with exponential forgetting (Haykin, Adaptive Filter Theory, ch. 10) and Huber weights, without which it is worse
than naive on real series. Per series, expert and tick, with the outcome z of the standing forecast θ·x:

    e = z − θ·x
    w = min(1, c/|e|),   c = hub × running mean |e|         an outlier pulls no harder than c
    g = P x / (λ/w + xᵀ P x)
    θ ← θ + g e
    P ← (P − g (P x)ᵀ) / λ

P is kept as ρ (Q − UᵀU). Dividing by λ then costs one number, and what an outcome takes out of P one row of U, so that
a tick reads P and does not write it; a tick is as fast as memory gives P away. Every 8th outcome UᵀU is folded into Q,
and where ρ has reached 2, ρ as well; then P's mean diagonal is bounded, which forgetting would inflate where nothing
excites it. With v = (Q − UᵀU) x:

    P x = ρ v,   g = (ρ/D) v,   D = λ/w + ρ xᵀv,   the new row of U is √(ρ/D) v

A feature that has always been zero has no row in P; it enters with the recipe's start when it first speaks. So seasons
may appear late, and dead features do not grow.

Glossary
    n, m, k     series of a round, experts of a bank, features
    θ           (n, m, k) coefficients
    P           (n, m, k, k) inverse of the weighted correlation matrix of the features, symmetric
    U           (n, m, 8, k) what was taken out of P since the last fold
    λ           forgetting factor
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.core.columns import as_slice, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretick.core.columns import Table
    from foretick.core.recipe import LinearRecipe

_ERROR_RATE = 0.01  # ~100 ticks; the running mean |e| follows the noise of the series
_NOTED_MAX = 8  # rows of U: more cost a tick more to read than they save it of the fold
_FOLD_AT = 2.0  # ρ: some hundred ticks apart; a mean diagonal overshoots its bound by little more than this
_TINY = np.float32(1e-30)  # no error is smaller


def completed(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of an arena, with what snapshots from before U lack: nothing had been taken out of Q then."""
    columns = dict(columns)
    for name, Q in list(columns.items()):
        bank, _, part = name.rpartition(".")
        if part == "Q" and f"{bank}.U" not in columns:
            columns[f"{bank}.U"] = np.zeros((*Q.shape[:2], _NOTED_MAX, Q.shape[-1]), np.float32)
            columns[f"{bank}.noted"] = np.zeros(len(Q), np.int8)
    return columns


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
        self._start = np.array([one.start for one in recipes], np.float32)
        self._diagonal_max = np.array([one.diagonal_max for one in recipes], np.float32)
        self._diagonal = np.arange(k)
        self._theta = table.column(f"{name}.theta", (m, k), np.float32)
        self._Q = table.column(f"{name}.Q", (m, k, k), np.float32)
        self._U = table.column(f"{name}.U", (m, _NOTED_MAX, k), np.float32)
        self._noted = table.column(f"{name}.noted", (), np.int8)  # rows of U in use
        self._rho = table.column(f"{name}.rho", (m,), np.float32)
        self._size = table.column(f"{name}.size", (m,), np.float32)
        self._entered = table.column(f"{name}.entered", (m, k), np.bool_)
        self._narrow = (self._theta, self._rho, self._size, self._entered, self._noted)

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
        for column in (*self._narrow, self._Q, self._U):
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
        state = theta, rho, size, entered, noted = [column.rows[at] for column in self._narrow]
        rate = np.maximum(_ERROR_RATE, 1.0 / t).astype(np.float32)
        z, rate = (column if column.ndim > 1 else column[:, None] for column in (z, rate))
        enters = (x != 0) > entered
        if np.logical_or.reduce(enters, axis=None):
            self._enter(rows, enters, rho)
            entered |= enters

        e = z - np.einsum("nmk,nmk->nm", x, theta)
        v = self._times(rows, x)
        energy = rho * np.einsum("nmk,nmk->nm", x, v)
        if not np.minimum.reduce(energy, axis=None) >= 0:  # so that NaN is found
            lost = ~(energy >= 0)
            self._lose(rows, lost, state, e)
            v[lost] = energy[lost] = 0
        error = np.abs(e)
        size += rate * (error - size)
        w = np.minimum(1, self._hub * size / np.maximum(error, _TINY))
        share = rho / (self._forgetting / np.maximum(w, _TINY) + energy)
        theta += v * (share * e)[:, :, None]
        v *= np.sqrt(share)[:, :, None]
        self._U.rows[rows, :, noted] = v
        noted += 1
        rho /= self._forgetting
        if np.maximum.reduce(noted) == _NOTED_MAX:
            full = noted == _NOTED_MAX
            rho[full] = self._fold(rows[full], rho[full])
            noted[full] = 0
        if not isinstance(at, slice):
            for column, values in zip(self._narrow, state, strict=True):
                column.rows[at] = values

    def _enter(self, rows: NDArray[np.int64], enters: NDArray[np.bool_], rho: NDArray[np.float32]) -> None:
        """Give features that speak for the first time their variance."""
        rho[np.logical_or.reduce(enters, axis=2) & (rho == 0)] = 1  # not where nothing enters
        series, expert, feature = np.nonzero(enters)
        self._Q.rows[rows[series], expert, feature, feature] = self._start[expert] / rho[series, expert]

    def _times(self, rows: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m, k) v: the product of Q − UᵀU and x."""
        x, U = x[:, :, None], self._U.rows[as_slice(rows)]
        Qx = np.empty_like(x)
        for part, run in runs(rows):  # Q stays where it is: to copy it costs as much as the product
            np.matmul(x[part], self._Q.rows[run], out=Qx[part])
        Qx -= x @ U.mT @ U
        v: NDArray[np.float32] = Qx[:, :, 0]
        return v

    def _lose(
        self, rows: NDArray[np.int64], lost: NDArray[np.bool_], state: Sequence[NDArray[Any]], e: NDArray[np.float32]
    ) -> None:
        """Collinear features cost P its definiteness, a poisoned state its soundness: every feature enters again.

        What was learned stays, if it is sound.
        """
        theta, rho, size, entered, _ = state
        series, expert = np.nonzero(lost)
        self._Q.rows[rows[series], expert] = 0
        self._U.rows[rows[series], expert] = 0
        rho[lost], entered[lost] = self._forgetting[expert], False  # ρ is 1 after this outcome
        for values in (theta, size, e):
            values[lost] = np.nan_to_num(values[lost], nan=0, posinf=0, neginf=0)

    def _fold(self, rows: NDArray[np.int64], rho: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take UᵀU out of Q, and bring large ρ into it; (n, m) the new ρ."""
        for _, run in runs(rows):
            # One call that reads and writes Q once. A matrix has the same bits in any batch and at any address (tests),
            # if torch has one thread: more share the work as the batch suggests.
            Q, U = (torch.from_numpy(column.rows[run]).flatten(0, 1) for column in (self._Q, self._U))
            Q.baddbmm_(U.mT, U, alpha=-1)
            U.zero_()
        high = rho >= _FOLD_AT
        series, expert = np.nonzero(high)
        if len(series):
            row, factor, bound = rows[series], rho[high], self._diagonal_max[expert]
            mean = self._Q.rows[row[:, None], expert[:, None], self._diagonal, self._diagonal].mean(axis=1)
            np.divide(bound, mean, out=factor, where=mean * factor > bound)
            for r, m, by in zip(row.tolist(), expert.tolist(), factor, strict=True):
                self._Q.rows[r, m] *= by
        return np.where(high, np.float32(1), rho)
