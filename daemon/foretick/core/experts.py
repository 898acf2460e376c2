"""The experts, and the online aggregation that guards the forecast against each of them.

ML-Poly (Gaillard, Stoltz and van Erven 2014, "A second-order bound with excess losses"), with the gradient of the
absolute loss, a memory, and a smooth start. All in scales, per series:

    p = Σ w_k E_k                                   the blend
    r_k = clip(sign(p − z) (p − E_k) / ℓ, ±5)       regret against expert k; ℓ is the running |z − p|
    R ← .999 R + r,   V ← .999 V + r²
    w_k ∝ ε prior_k + max(R_k, 0) / (1 + V_k)

The rule matters little (others are within 1%). What matters is that naive is among the experts: without it 2% of the
series end up worse than naive, with it none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.columns import Columns
    from foretick.core.recipe import MixRecipe, Recipe

NAIVE, SEASONAL_NAIVE = range(2)
EWMA, LSTM = "ewma", "lstm"  # their places depend on the recipe
_TINY = 1e-30  # no loss is smaller
EWMA_AVERAGE = 2  # index of its rate in ScalingRecipe.average_rates


def names(recipe: Recipe) -> tuple[str, ...]:
    """The K experts of a recipe, in the order of every array over experts."""
    if recipe.compact:
        return ("naive", "seasonal_naive", LSTM, recipe.compact.linear.name, "kalman")
    linear = tuple(one.name for one in recipe.linear)
    return ("naive", "seasonal_naive", EWMA, LSTM, *linear, *((recipe.readout.name,) if recipe.readout else ()))


def priors(experts: int, recipe: MixRecipe) -> NDArray[np.float32]:
    """(K, 1) ε · prior weights: half on naive, the rest shared."""
    prior = np.full((experts, 1), (1.0 - recipe.naive_prior) / (experts - 1), np.float32)
    prior[NAIVE] = recipe.naive_prior
    return np.float32(recipe.smooth) * prior


def update_mix(block: Columns, excess: NDArray[np.float32], recipe: MixRecipe) -> None:
    """Let each series' blend learn from the outcome z of its standing forecasts, in place.

    Args:
        block: columns with the standing `phat` and `expert`, and `mix_loss` with this outcome in it.
        excess: (n,) float32 p − z, in scales.
        recipe: constants.
    """
    regret, square = block["regret"], block["regret_square"]
    # Where ℓ is 0 there never was an error.
    per_loss = (np.sign(excess) / np.maximum(block["mix_loss"], _TINY)).astype(np.float32)
    r = block["phat"] - block["expert"]
    r *= per_loss
    np.minimum(np.maximum(r, -recipe.regret_clip, out=r), recipe.regret_clip, out=r)
    regret *= np.float32(recipe.memory)
    regret += r
    square *= np.float32(recipe.memory)
    square += np.square(r, out=r)


def weights(block: Columns, prior: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, n) float32 weights of the experts, each column summing to one; `prior` is ε · prior."""
    w: NDArray[np.float32] = np.maximum(block["regret"], np.float32(0))
    w /= block["regret_square"] + np.float32(1)
    w += prior
    w /= np.add.reduce(w, axis=0)
    return w
