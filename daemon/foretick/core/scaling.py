"""Running scale of a series, in float64 so that a shift or a change of unit changes no forecast.

Glossary
    d       y_t − y_{t−1}, the first difference
    s       running mean of |d|: the unit ("scale") of everything the model sees
    z       d / s_{t−1}: the outcome of the forecast made at t−1, in scales
    move    running mean of |d| without a bound on outliers, so that |d|/move ≤ 200: the unit of the live scores
    m       y − moving average, kept as a deviation: as a level it would lose the digits of a shifted series
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Block
    from foretick.core.recipe import ScalingRecipe

TINY = 1e-270  # a smaller scale is no scale: the series is constant, and 1e30/s would overflow


def outcome(d: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) float64 z: the change in scales. A first move out of a constant series counts as one scale."""
    known = scale > TINY
    return np.where(known, d / np.where(known, scale, 1.0), np.sign(d))


def update_scaling(block: Block, d: NDArray[np.float64], recipe: ScalingRecipe) -> None:
    """Take the first difference d of tick t ≥ 1 into the block's scales and deviations, in place."""
    t = block["t"]
    size = np.abs(d)
    limit = np.where(t > recipe.clip_after, recipe.clip * block["scale"], np.inf)
    share = 1.0 / np.maximum(t, 1)
    block["move"] += np.maximum(recipe.rate, share) * (size - block["move"])
    # A constant past has no scale to clip at: the first move founds it.
    size = np.where(limit > TINY, np.minimum(size, limit), size)
    block["scale"] += np.maximum(recipe.rate, share) * (size - block["scale"])
    block["fast"] += np.maximum(recipe.fast_rate, share) * (size - block["fast"])
    rates = np.array(recipe.average_rates)
    block["deviation"] = (1.0 - rates) * (block["deviation"] + d[:, None])


def inverse_scale(block: Block) -> NDArray[np.float64]:
    """(n, 1) float64 1/s, and 0 where the series has been constant: all its features are 0 then."""
    scale = block["scale"]
    known = scale > TINY
    return np.where(known, 1.0 / np.where(known, scale, 1.0), 0.0)[:, None]
