"""The linear experts of a group and the readout: what learns per series, beside the shared LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.core.features import LINEAR_FORECASTS, LINEAR_WIDTH, PLAIN_WIDTH, input_width, linear_width
from foretick.core.linear import LinearBank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block
    from foretick.core.features import Sight
    from foretick.core.recipe import Recipe

_FIRST = 4  # place of the first linear expert: naive, seasonal naive, EWMA and LSTM come before


class Ensemble:
    """Linear experts on the features, and a readout on the LSTM's state h, its inputs and 1.

    Args:
        arena: where their state lives, row by row.
        recipe: which there are.
    """

    def __init__(self, arena: Arena, recipe: Recipe) -> None:
        self._recipe = recipe
        width = linear_width(recipe)
        self._sees = np.ones((len(recipe.linear), width), np.float32)
        self._sees[[not one.seasonal for one in recipe.linear], PLAIN_WIDTH:LINEAR_WIDTH] = 0
        self._linear = LinearBank(arena.table, "linear", width, recipe.linear) if recipe.linear else None
        readout = (recipe.readout,) if recipe.readout else ()
        seen = recipe.hidden + input_width(recipe) + 1
        self._readout = LinearBank(arena.table, "readout", seen, readout) if readout else None

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for bank in (self._linear, self._readout):
            if bank:
                bank.forget(row)

    def learn(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Let each expert learn from the outcome z of its standing forecast; the block's t is the outcome's number."""
        t = block["t"]
        settled = t > 0  # a first tick settles nothing
        if not settled.all():
            row, block, z, t = row[settled], block[settled], z[settled], t[settled]
        if self._linear:
            self._linear.learn(row, self._seen(block["linear_x"]), z, t)
        if self._readout:
            self._readout.learn(row, self._readout_features(block), z, t)

    def forecast_linear(self, row: NDArray[np.int64], block: Block, sight: Sight) -> None:
        """Let the linear experts forecast from their (n, 27) features, and say in the LSTM's inputs what."""
        x, linear, _ = sight
        block["linear_x"] = linear
        if self._linear:
            said = self._bounded(self._linear.forecast(row, self._seen(linear)), block)
            m = said.shape[1]
            block["expert"][:, _FIRST : _FIRST + m] = said
            heard = LINEAR_FORECASTS.start + min(m, LINEAR_FORECASTS.stop - LINEAR_FORECASTS.start)
            first = said[:, : heard - LINEAR_FORECASTS.start]
            x[:, LINEAR_FORECASTS.start : heard] = torch.asinh(torch.from_numpy(np.ascontiguousarray(first))).numpy()

    def forecast_readout(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> None:
        """Let the readout forecast from the block's new h and the inputs x that led to it."""
        block["inputs"] = x
        if self._readout:
            seen = self._readout_features(block)
            block["expert"][:, -1:] = self._bounded(self._readout.forecast(row, seen), block)

    def _seen(self, linear: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m, 27) the features as each expert sees them."""
        return linear[:, None, :] * self._sees

    def _bounded(self, forecast: NDArray[np.float32], block: Block) -> NDArray[np.float32]:
        """(n, m) the forecasts, 0 while the series is young, within the clip."""
        clip = self._recipe.mix.clip
        return np.where(block["t"][:, None] < self._recipe.linear_cold_ticks, 0, forecast.clip(-clip, clip))

    def _readout_features(self, block: Block) -> NDArray[np.float32]:
        """(n, 1, H + F + 1) the top layer's state after the newest tick, the inputs of its step, and 1."""
        h = block["h"][:, -self._recipe.hidden :]
        return np.concatenate([h, block["inputs"], np.ones((len(block), 1), np.float32)], axis=1)[:, None, :]
