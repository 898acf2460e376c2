"""The two linear experts of the compact profiles: robust least squares, and a diagonal Kalman filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.core.exogenous import heard_width
from foretick.core.features_compact import Layout
from foretick.core.kalman import Kalman
from foretick.core.linear import LinearBank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block
    from foretick.core.features import Sight
    from foretick.core.features_compact import CompactFeatures
    from foretick.core.recipe import Recipe

_EXPERTS = slice(3, 5)  # their places: naive, seasonal naive and LSTM come before


class CompactEnsemble:
    """As `Ensemble`.

    Args:
        arena: where their state lives, row by row.
        recipe: constants; `recipe.compact` is there.
        features: which keeps the moves that the Kalman filter has seen.
    """

    def __init__(self, arena: Arena, recipe: Recipe, features: CompactFeatures) -> None:
        assert recipe.compact is not None
        compact, self._recipe, self._features = recipe.compact, recipe, features
        layout = Layout(compact)
        self._heard = layout.heard
        self._columns = [*layout.linear, *range(layout.width, layout.width + heard_width(recipe))]
        k = linear_width(recipe)
        self._linear = LinearBank(arena.table, "linear", k, (compact.linear,), packed=compact.packed)
        self._kalman = Kalman(arena.table, compact.kalman)

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        self._linear.forget(row)
        self._kalman.forget(row)

    def learn(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Let each expert learn from the outcome z of its standing forecast; the block's t is the outcome's number."""
        t = block["t"]
        settled = t > 0  # a first tick settles nothing
        if not settled.all():
            row, block, z, t = row[settled], block[settled], z[settled], t[settled]
        self._linear.learn(row, block["linear_x"].astype(np.float32)[:, None, :], z, t)
        self._kalman.learn(row, self._kalman.seen(self._features.recent(row, t - 1)), z, t)

    def forecast_linear(self, row: NDArray[np.int64], block: Block, sight: Sight) -> None:
        """Let both forecast from what is seen, and say in the LSTM's inputs what, if it hears them."""
        seen = block["linear_x"]
        seen[:, :-1] = sight.x[:, self._columns]
        seen[:, -1] = 1.0
        said = np.empty((len(row), 2), np.float32)
        # As it is kept, so that what is learned from is what was forecast from.
        said[:, :1] = self._linear.forecast(row, seen.astype(np.float32)[:, None, :])
        said[:, 1] = self._kalman.forecast(row, self._kalman.seen(sight.linear))
        clip = self._recipe.mix.clip
        said = np.where(block["t"][:, None] < self._recipe.linear_cold_ticks, 0, said.clip(-clip, clip))
        block["expert"][:, _EXPERTS] = said
        if self._heard.stop > self._heard.start:
            sight.x[:, self._heard] = torch.asinh(torch.from_numpy(said)).numpy()

    def forecast_readout(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> None:
        """There is no readout."""


def linear_width(recipe: Recipe) -> int:
    """k, features of the linear expert."""
    assert recipe.compact is not None
    return len(Layout(recipe.compact).linear) + heard_width(recipe) + 1
