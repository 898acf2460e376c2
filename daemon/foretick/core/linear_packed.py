"""The robust linear expert of `linear` where series are many: one expert, half of the symmetric P, columns of series.

The formulas are the same. P is kept itself, without ρ: of k ≤ 20 features a pass over it costs little. Its upper half
stands row by row in k(k + 1)/2 columns, so that every step works on one number of many series at once.

Glossary
    n, k    series of a block, features
    θ       (k, n) coefficients
    P       (k(k + 1)/2, n) upper half of the inverse of the weighted correlation matrix of the features
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Columns
    from foretick.core.recipe import LinearRecipe


def packed_size(k: int) -> int:
    """Numbers in the upper half of a k × k matrix."""
    return k * (k + 1) // 2


class PackedLinear:
    """One such expert for every series of a group; its state are `linear_theta` and `linear_P` of a block.

    Args:
        k: features.
        recipe: constants.
    """

    def __init__(self, k: int, recipe: LinearRecipe) -> None:
        self._recipe, self._k = recipe, k
        self._i, self._j = np.triu_indices(k)
        self._diagonal = np.flatnonzero(self._i == self._j)
        whole = np.zeros((k, k), np.int64)
        whole[self._i, self._j] = whole[self._j, self._i] = np.arange(packed_size(k))
        self._whole = whole.reshape(-1)

    def forecast(
        self, block: Columns, x: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(n,) θ·x, in scales, from (k, n) features."""
        forecast: NDArray[np.float32] = np.einsum("kn,kn->n", x, block["linear_theta"], out=out)
        return forecast

    def learn(
        self, block: Columns, x: NDArray[np.float32], e: NDArray[np.float32], per_weight: NDArray[np.float32]
    ) -> None:
        """Learn from outcomes.

        Args:
            block: columns.
            x: (k, n) features that the settled forecasts were made from.
            e: (n,) their errors.
            per_weight: (n,) 1/w.
        """
        theta, P = block["linear_theta"], block["linear_P"]
        self._enter(P, x)
        k, forgetting = self._k, np.float32(self._recipe.forgetting)
        Px = np.einsum("ijn,jn->in", P.take(self._whole, axis=0).reshape(k, k, -1), x)
        energy = np.einsum("kn,kn->n", Px, x)
        g = Px / (forgetting * per_weight + energy)
        outer = g.take(self._i, axis=0)
        outer *= Px.take(self._j, axis=0)
        P -= outer
        P *= np.float32(1 / self._recipe.forgetting)
        g *= e
        theta += g
        self._bound(P)
        if not np.minimum.reduce(energy) >= 0:  # so that NaN is found
            # Collinear features cost P its definiteness, a poisoned state its soundness: every feature enters again
            # with the next tick; what was learned stays, if it is sound.
            P[:, ~(energy >= 0)] = 0
            theta[~np.isfinite(theta)] = 0

    def reset(self, block: Columns, lost: NDArray[np.bool_]) -> None:
        """Begin with nothing learned where a state is lost."""
        block["linear_theta"][:, lost] = 0
        block["linear_P"][:, lost] = 0

    def _enter(self, P: NDArray[np.float32], x: NDArray[np.float32]) -> None:
        """Give a feature that speaks for the first time its variance."""
        diagonal = P.take(self._diagonal, axis=0)
        if np.count_nonzero(diagonal) < diagonal.size:
            feature, series = np.logical_and(x, diagonal == 0).nonzero()
            P[self._diagonal[feature], series] = self._recipe.start

    def _bound(self, P: NDArray[np.float32]) -> None:
        """Keep the mean diagonal within its bound."""
        total = np.add.reduce(P.take(self._diagonal, axis=0), axis=0)
        limit = self._recipe.diagonal_max * self._k
        if not np.maximum.reduce(total) <= limit:  # a series that is not finite hides no other
            high = np.flatnonzero(total > limit)
            P[:, high] *= np.float32(limit) / total[high]
