"""The linear experts of a group and the readout: what learns per series, beside the shared LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.core.experts import LSTM
from foretick.core.features import LINEAR_FORECASTS, LINEAR_WIDTH, PLAIN_WIDTH, WIDTH
from foretick.core.linear import LinearExpert

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block
    from foretick.core.recipe import Recipe


class Ensemble:
    """Linear experts on the features, and a readout on the LSTM's state h, its inputs and 1.

    Args:
        arena: where their state lives, row by row.
        recipe: which there are.
    """

    def __init__(self, arena: Arena, recipe: Recipe) -> None:
        self._recipe = recipe
        self._linear = [
            LinearExpert(arena.table, LINEAR_WIDTH if one.seasonal else PLAIN_WIDTH, one) for one in recipe.linear
        ]
        self._readout = recipe.readout and LinearExpert(arena.table, recipe.hidden + WIDTH + 1, recipe.readout)

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for one in (*self._linear, *([self._readout] if self._readout else ())):
            one.forget(row)

    def learn(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Let each expert learn from the outcome z of its standing forecast; the block's t is the outcome's number."""
        t = block["t"]
        settled = t > 0  # a first tick settles nothing
        if not settled.all():
            row, block, z, t = row[settled], block[settled], z[settled], t[settled]
        x = block["linear_x"]
        for one in self._linear:
            one.learn(row, x[:, : one.k], z, t)
        if self._readout:
            self._readout.learn(row, _readout_features(block), z, t)

    def forecast_linear(
        self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32], linear: NDArray[np.float32]
    ) -> None:
        """Let the linear experts forecast from their (n, 27) features, and say in the LSTM's inputs x what."""
        block["linear_x"] = linear
        for k, one in enumerate(self._linear):
            block["expert"][:, LSTM + 1 + k] = self._bounded(one.forecast(row, linear[:, : one.k]), block)
        said = np.zeros((len(row), LINEAR_FORECASTS.stop - LINEAR_FORECASTS.start), np.float32)
        said[:, : len(self._linear)] = block["expert"][:, LSTM + 1 : LSTM + 1 + len(self._linear)]
        x[:, LINEAR_FORECASTS] = torch.asinh(torch.from_numpy(said)).numpy()

    def forecast_readout(self, row: NDArray[np.int64], block: Block) -> None:
        """Let the readout forecast from the block's new h and inputs."""
        if self._readout:
            block["expert"][:, -1] = self._bounded(self._readout.forecast(row, _readout_features(block)), block)

    def _bounded(self, forecast: NDArray[np.float32], block: Block) -> NDArray[np.float32]:
        """(n,) the forecast, 0 while the series is young, within the clip."""
        clip = self._recipe.mix.clip
        return np.where(block["t"] < self._recipe.linear_cold_ticks, 0, forecast.clip(-clip, clip))


def _readout_features(block: Block) -> NDArray[np.float32]:
    """(n, H + F + 1) the state after the newest tick, the inputs of its step, and 1."""
    return np.concatenate([block["h"], block["inputs"], np.ones((len(block), 1), np.float32)], axis=1)
