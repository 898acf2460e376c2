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

Six bytes a move in place of 2k² of a whole covariance; without it the error of some sources is half as large again in
the lean profile.

Glossary
    n, k    series of a block, moves
    θ, v    (k, n) coefficients and their variances
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.halves import narrow, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Columns
    from foretick.core.recipe import KalmanRecipe

_ENERGY_MIN = np.float32(0.5)  # of a sound state it is 1 or more
_VARIANCE_MAX = np.float32(1.0)  # a move that has been zero for long would otherwise gain variance for ever


class Kalman:
    """One such expert for every series of a group; its state are `kalman_theta` and `kalman_variance` of a block."""

    def __init__(self, recipe: KalmanRecipe) -> None:
        self._recipe, self._clip, self._drift = recipe, np.float32(recipe.clip), np.float32(recipe.drift)
        self.start = recipe.start  # variance of a coefficient that has learned nothing

    def seen(self, moves: NDArray[np.float32]) -> NDArray[np.float32]:
        """(k, n) x: the latest moves, in scales, as this expert sees them."""
        bounded: NDArray[np.float32] = np.maximum(moves[: self._recipe.moves], -self._clip)
        return np.minimum(bounded, self._clip, out=bounded)

    def forecast(
        self, block: Columns, x: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(n,) θ·x, in scales."""
        forecast: NDArray[np.float32] = np.einsum("kn,kn->n", x, block["kalman_theta"], out=out)
        return forecast

    def learn(
        self, block: Columns, x: NDArray[np.float32], e: NDArray[np.float32], per_weight: NDArray[np.float32]
    ) -> None:
        """Learn from outcomes.

        Args:
            block: columns.
            x: (k, n) moves that the settled forecasts were made from.
            e: (n,) their errors.
            per_weight: (n,) 1/w.
        """
        theta = block["kalman_theta"]
        variance = widened(block["kalman_variance"])
        variance += self._drift
        np.minimum(variance, _VARIANCE_MAX, out=variance)
        pull = variance * x
        energy = per_weight + np.einsum("kn,kn->n", pull, x)
        g = pull / energy
        pull *= g
        variance -= pull
        narrow(variance, block["kalman_variance"])
        g *= e
        theta += g
        if not np.minimum.reduce(energy) >= _ENERGY_MIN:  # so that NaN is found
            self.reset(block, ~(energy >= _ENERGY_MIN))

    def reset(self, block: Columns, lost: NDArray[np.bool_]) -> None:
        """Begin with nothing learned where a state is lost."""
        block["kalman_theta"][:, lost] = 0
        block["kalman_variance"][:, lost] = self.start
