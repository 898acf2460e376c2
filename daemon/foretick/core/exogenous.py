"""What the model sees of the other features of a series: their moves, each in its own scale.

Of each of the E features besides the target, with d its first difference and s the running mean of |d|:

    d_t/s, d_{t−1}/s, .3 (x − ewma.1)/s, .1 (x − ewma.01)/s        clipped to ±20

for the linear experts, and the asinh of these for the LSTM. So a feature may be shifted or measured in another unit,
and nothing changes. A feature is never asked to be regular: where it does not move, it says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.scaling import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.block import Block
    from foretick.core.columns import Table
    from foretick.core.recipe import Recipe, ScalingRecipe

COLUMNS = 4  # of each feature
_WEIGHTS = np.array([0.3, 0.1])  # of the two deviations, as for the target
_RATES = np.array([0.1, 0.01])


def heard_width(recipe: Recipe) -> int:
    """4E, the columns that come of the features besides a target."""
    return COLUMNS * (len(recipe.features) - 1)


class Exogenous:
    """The other features of a group's series.

    Args:
        table: where their state lives.
        features: E, how many there are.
        recipe: constants of scales.
    """

    def __init__(self, table: Table, features: int, recipe: ScalingRecipe) -> None:
        self._recipe = recipe
        self._state = table.column("exogenous", (features, 6), np.float64)  # value, scale, d, d before, two deviations

    def take(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take in the (n, E) values of tick t, and tell the (4E, n) columns that follow from them.

        Args:
            row: (n,) distinct rows.
            block: (n,) columns, t already that of the tick.
            x: (n, E) values.
        """
        recipe, t = self._recipe, block["t"][:, None]
        state = self._state.rows[row]
        value, scale, d, before = (state[:, :, i] for i in range(4))
        first = t == 0
        before[:] = np.where(first, 0.0, d)
        d[:] = np.where(first, 0.0, x - value)
        value[:] = x
        size = np.abs(d)
        limit = np.where(t > recipe.clip_after, recipe.clip * scale, np.inf)
        size = np.where(limit > TINY, np.minimum(size, limit), size)
        scale[:] = np.where(first, 0.0, scale + np.maximum(recipe.rate, 1.0 / np.maximum(t, 1)) * (size - scale))
        deviation = np.where(first[:, :, None], 0.0, (1.0 - _RATES) * (state[:, :, 4:] + d[:, :, None]))
        state[:, :, 4:] = deviation
        self._state.rows[row] = state
        known = scale > TINY
        per_scale = np.where(known, 1.0 / np.where(known, scale, 1.0), 0.0)[:, :, None]
        seen = np.concatenate([d[:, :, None], before[:, :, None], _WEIGHTS * deviation], axis=2) * per_scale
        bounded = seen.clip(-recipe.clip, recipe.clip).reshape(len(row), -1).astype(np.float32)
        return np.ascontiguousarray(bounded.T)
