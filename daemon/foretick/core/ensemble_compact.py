"""The two linear experts of the compact profiles: robust least squares, and a diagonal Kalman filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foretick.core.exogenous import heard_width
from foretick.core.features_compact import Layout
from foretick.core.halves import narrow, widened
from foretick.core.kalman import Kalman
from foretick.core.linear_packed import PackedLinear, packed_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.block import Block
    from foretick.core.features import Sight
    from foretick.core.recipe import Recipe

_EXPERTS = slice(3, 5)  # their places: naive, seasonal naive and LSTM come before
_TINY = 1e-30  # no error is smaller
_TINIER = 1e-60  # so that an error of zero after nothing but zeros teaches nothing


class Lesson(NamedTuple):
    """What the standing forecasts met.

    Attributes:
        x: (k, n) float32, what the linear expert forecast from.
        moves: (k, n) float32, what the Kalman filter forecast from.
        error: (2, n) float32, what each missed.
        size: (2, n) float32, how much that is.
    """

    x: NDArray[np.float32]
    moves: NDArray[np.float32]
    error: NDArray[np.float32]
    size: NDArray[np.float32]


class CompactEnsemble:
    """As `Ensemble`; `recipe.compact` is there."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.compact is not None
        compact, self._recipe = recipe.compact, recipe
        layout = Layout(compact)
        self._heard = layout.heard
        self._columns = np.array([*layout.linear, *range(layout.width, layout.width + heard_width(recipe))])
        self._linear = PackedLinear(linear_width(recipe), compact.linear)
        self._kalman = Kalman(compact.kalman)
        self._hub = np.array([[compact.linear.hub], [compact.kalman.hub]])

    def forget(self, row: NDArray[np.int64]) -> None:
        """Nothing: a new record holds nothing."""

    def meet(self, block: Block, z: NDArray[np.float32], recent: NDArray[np.float32]) -> Lesson:
        """Compare the standing forecasts with the outcome z; `recent` are the moves they were made from."""
        x, moves = widened(block["linear_x"]), self._kalman.seen(recent)
        said = np.empty((2, len(z)), np.float32)
        self._linear.forecast(block, x, said[0])
        self._kalman.forecast(block, moves, said[1])
        error = z - said
        return Lesson(x, moves, error, np.abs(error))

    def learn(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32], lesson: Lesson | None) -> None:  # noqa: ARG002  as `Ensemble.learn`
        """Let each expert learn from its error; block's t is the outcome's number, its mean errors know it."""
        assert lesson is not None
        x, moves, (linear_error, kalman_error), size = lesson
        if block.youngest <= 1:
            block["kalman_variance"][:, block["t"] <= 1] = self._kalman.start
        linear_weight, kalman_weight = self._per_weight(block, size)
        self._linear.learn(block, x, linear_error, linear_weight)
        self._kalman.learn(block, moves, kalman_error, kalman_weight)

    def mend(self, block: Block) -> None:
        """Let an expert begin anew where its error is not finite."""
        linear_size, kalman_size = block["sizes"]
        self._linear.reset(block, ~np.isfinite(linear_size))
        self._kalman.reset(block, ~np.isfinite(kalman_size))

    def _per_weight(self, block: Block, size: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, n) 1/w: an outlier pulls no harder than `hub` mean errors."""
        per_weight = np.maximum(size, _TINY)
        per_weight = per_weight / np.maximum(self._hub * block["sizes"], _TINIER)
        bounded: NDArray[np.float64] = np.minimum(np.maximum(per_weight, 1.0, out=per_weight), 1 / _TINY)
        return bounded.astype(np.float32)

    def forecast_linear(self, row: NDArray[np.int64], block: Block, sight: Sight) -> None:  # noqa: ARG002  likewise
        """Let both forecast from what is seen, and say in the LSTM's inputs what, if it hears them."""
        seen = block["linear_x"]
        narrow(sight.x.take(self._columns, axis=0), seen[:-1])
        seen[-1] = 1.0
        said = block["expert"][_EXPERTS]
        # As it is kept, so that what is learned from is what was forecast from.
        self._linear.forecast(block, widened(seen), said[0])
        self._kalman.forecast(block, self._kalman.seen(sight.linear), said[1])
        clip = np.float32(self._recipe.mix.clip)
        np.minimum(np.maximum(said, -clip, out=said), clip, out=said)
        if block.youngest < self._recipe.linear_cold_ticks:
            said[:, block["t"] < self._recipe.linear_cold_ticks] = 0
        if self._heard.stop > self._heard.start:
            np.arcsinh(said, out=sight.x[self._heard])

    def forecast_readout(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> None:
        """There is no readout."""


def linear_width(recipe: Recipe) -> int:
    """k, features of the linear expert."""
    assert recipe.compact is not None
    return len(Layout(recipe.compact).linear) + heard_width(recipe) + 1


def fields(recipe: Recipe) -> list[tuple[Any, ...]]:
    """The carried state of one series, for its record."""
    assert recipe.compact is not None
    k, moves = linear_width(recipe), recipe.compact.kalman.moves
    return [
        ("linear_theta", np.float32, (k,)),
        ("linear_P", np.float32, (packed_size(k),)),
        ("linear_x", np.float16, (k,)),  # what the standing linear forecast was made from, as it was kept
        ("kalman_theta", np.float32, (moves,)),
        ("kalman_variance", np.float16, (moves,)),  # three digits: a gain needs no more
    ]
