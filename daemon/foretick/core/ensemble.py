"""The linear experts of a group and the readout: what learns per series, beside the shared LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.features import LINEAR_FORECASTS, LINEAR_WIDTH, PLAIN_WIDTH, input_width, linear_width
from foretick.core.linear import LinearBank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.block import Block
    from foretick.core.ensemble_compact import Lesson
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

    def meet(self, block: Block, z: NDArray[np.float32], recent: NDArray[np.float32] | None) -> None:
        """Nothing to note before the running means are updated."""

    def learn(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32], lesson: Lesson | None) -> None:  # noqa: ARG002  likewise
        """Let each expert learn from the outcome z of its standing forecast; the block's t is the outcome's number.

        Args:
            row: (m,) distinct ascending rows, without what repeats the last.
            block: columns after the outcome.
            z: outcomes, in scales.
            lesson: nothing.
        """
        at: slice | NDArray[np.int64] = slice(len(row))
        if block.youngest < 1:
            at = np.flatnonzero(block["t"][: len(row)] > 0)  # a first tick settles nothing
            row = row[at]
            if len(row) == 0:
                return
        t, z = block["t"][at], z[at]
        if self._linear:
            self._linear.learn(row, self._seen(block["linear_x"][:, at]), z, t)
        if self._readout:
            self._readout.learn(row, self._readout_features(block, at), z, t)

    def mend(self, block: Block) -> None:
        """Nothing: the banks look after themselves."""

    def forecast_linear(self, row: NDArray[np.int64], block: Block, sight: Sight) -> None:
        """Let the linear experts forecast from their 27 features, and say in the LSTM's inputs what."""
        x, linear, _ = sight
        block["linear_x"][...] = linear
        if self._linear:
            said = self._linear.forecast(row, self._seen(linear[:, : len(row)]))
            experts = slice(_FIRST, _FIRST + said.shape[1])
            self._say(block, experts, said)
            heard = LINEAR_FORECASTS.start + min(said.shape[1], LINEAR_FORECASTS.stop - LINEAR_FORECASTS.start)
            first = block["expert"][experts][: heard - LINEAR_FORECASTS.start]
            np.arcsinh(first, out=x[LINEAR_FORECASTS.start : heard])

    def forecast_readout(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> None:
        """Let the readout forecast from the block's new h and the inputs x that led to it."""
        block["inputs"][...] = x
        if self._readout:
            seen = self._readout_features(block, slice(len(row)))
            self._say(block, slice(len(block["expert"]) - 1, None), self._readout.forecast(row, seen))

    def _seen(self, linear: NDArray[np.float32]) -> NDArray[np.float32]:
        """(m, experts, 27) the features as each expert sees them."""
        return np.ascontiguousarray(linear.T)[:, None, :] * self._sees

    def _say(self, block: Block, experts: slice, said: NDArray[np.float32]) -> None:
        """Let (m, experts) forecasts stand: 0 while the series is young, within the clip."""
        m, clip, columns = len(said), np.float32(self._recipe.mix.clip), block["expert"][experts]
        np.minimum(np.maximum(said.T, -clip), clip, out=columns[:, :m])
        columns[:, m:] = columns[:, m - 1 : m]
        if block.youngest < self._recipe.linear_cold_ticks:
            columns[:, block["t"] < self._recipe.linear_cold_ticks] = 0

    def _readout_features(self, block: Block, at: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """(m, 1, H + F + 1) the top layer's state after the newest tick, the inputs of its step, and 1."""
        h, inputs = block["h"][-self._recipe.hidden :, at], block["inputs"][:, at]
        one = np.ones((1, h.shape[1]), np.float32)
        return np.ascontiguousarray(np.concatenate([h, inputs, one]).T)[:, None, :]
