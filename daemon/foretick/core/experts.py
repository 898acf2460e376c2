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

    from foretick.core.arena import Block
    from foretick.core.recipe import MixRecipe, Recipe

NAIVE, SEASONAL_NAIVE = range(2)
EWMA, LSTM = "ewma", "lstm"  # their places depend on the recipe
EWMA_AVERAGE = 2  # index of its rate in ScalingRecipe.average_rates


def names(recipe: Recipe) -> tuple[str, ...]:
    """The K experts of a recipe, in the order of every array over experts."""
    if recipe.compact:
        return ("naive", "seasonal_naive", LSTM, recipe.compact.linear.name, "kalman")
    linear = tuple(one.name for one in recipe.linear)
    return ("naive", "seasonal_naive", EWMA, LSTM, *linear, *((recipe.readout.name,) if recipe.readout else ()))


def priors(experts: int, recipe: MixRecipe) -> NDArray[np.float32]:
    """(K,) prior weights: half on naive, the rest shared."""
    prior = np.full(experts, (1.0 - recipe.naive_prior) / (experts - 1), np.float32)
    prior[NAIVE] = recipe.naive_prior
    return prior


def update_mix(block: Block, z: NDArray[np.float32], recipe: MixRecipe) -> None:
    """Let each series' blend learn from the outcome z of its standing forecasts, in place.

    Args:
        block: (n,) records with standing `phat` and `expert`.
        z: (n,) float32 outcomes, in scales, clipped.
        recipe: constants.
    """
    p = block["phat"]
    error = p - z
    share = np.maximum(recipe.loss_rate, 1.0 / np.maximum(block["t"], 1)).astype(np.float32)
    loss = block["mix_loss"] + share * (np.abs(error) - block["mix_loss"])
    block["mix_loss"] = loss
    per_loss = np.where(loss > 0, np.sign(error) / np.where(loss > 0, loss, 1), 0).astype(np.float32)
    r = (per_loss[:, None] * (p[:, None] - block["expert"])).clip(-recipe.regret_clip, recipe.regret_clip)
    memory = np.float32(recipe.memory)
    block["regret"] = memory * block["regret"] + r
    block["regret_square"] = memory * block["regret_square"] + r * r


def weights(block: Block, prior: NDArray[np.float32], recipe: MixRecipe) -> NDArray[np.float32]:
    """(n, K) float32 weights of the experts, each row summing to one."""
    w = np.maximum(block["regret"], 0) / (1 + block["regret_square"]) + np.float32(recipe.smooth) * prior
    return np.asarray(w / w.sum(axis=1, keepdims=True), np.float32)
