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

from foretick.core.recipe import TrackingRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.block import Block
    from foretick.core.recipe import Recipe, ScalingRecipe

TINY = 1e-270  # a smaller scale is no scale: the series is constant, and 1e30/s would overflow
_SPACING_RATE = 0.02  # ~50 ticks
_ERROR_RATE = 0.001  # ~1,000 ticks: for people to look at
_SIZE_RATE = 0.01  # ~100 ticks; the running mean |e| of a linear expert follows the noise of the series


def running_means(recipe: Recipe) -> dict[str, float]:
    """What is averaged over the ticks of a series, in the order of the records, and the rate at which it forgets."""
    scaling = recipe.scaling
    rates = {
        "move": scaling.rate,  # |d|
        "mean_naive": _ERROR_RATE,  # the same
        "scale": scaling.rate,  # s: |d| without its outliers
        "fast": scaling.fast_rate,  # the same
        "mean_error": _ERROR_RATE,  # |y − ŷ|
        "spacing": _SPACING_RATE,  # the gap, ms
        "mix_loss": recipe.mix.loss_rate,  # ℓ: |z − p|
    }
    if isinstance(recipe.interval, TrackingRecipe):
        rates["residual_fast"] = recipe.interval.rate  # |y − ŷ| in scales
    if recipe.compact:
        rates |= {"linear_size": _SIZE_RATE, "kalman_size": _SIZE_RATE}  # |e| of each
    return rates


# Their rows among all of them.
MOVES, SCALES, ERROR, SPACING, LOSS, RESIDUAL = slice(0, 2), slice(2, 4), 4, 5, 6, 7
SIZES = slice(-2, None)  # of the compact experts' errors


class RunningMeans:
    """All running means of a series as one: m ← m + max(rate, 1/t)(v − m) at its t-th outcome.

    So each is the plain mean at first. A first tick settles nothing: all that is averaged is 0 then.
    """

    def __init__(self, recipe: Recipe) -> None:
        rates = running_means(recipe)
        self._rates = np.array(list(rates.values()))[:, None]
        self._grown = int(np.ceil(1.0 / min(rates.values())))  # ticks from which 1/t is below every rate

    def update(self, block: Block, values: NDArray[np.float64]) -> None:
        """Take in the newest value of each, in the order of the records; the block's t counts the tick already.

        Args:
            block: columns.
            values: one row for each mean; used up.
        """
        means, change = block["means"], values
        change -= means
        if block.youngest >= self._grown:
            change *= self._rates
        else:
            change *= np.maximum(self._rates, 1.0 / np.maximum(block["t"], 1))
        means += change


def outcome(d: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """z: the change in scales. A first move out of a constant series counts as one scale."""
    known = scale > TINY
    return np.where(known, d / np.where(known, scale, 1.0), np.sign(d))


def in_scales(d: NDArray[np.float64], block: Block) -> NDArray[np.float64]:
    """(n,) a change in scales, of which a constant series has none: there, its sign."""
    z: NDArray[np.float64] = d * block["per_scale"]
    if not block.all_move:
        z = np.where(block["per_scale"] > 0, z, np.sign(d))
    return z


def bounded_size(size: NDArray[np.float64], block: Block, recipe: ScalingRecipe) -> NDArray[np.float64]:
    """(n,) |d| as it moves the scale: one outlier must not."""
    limit = recipe.clip * block["scale"]
    bounded = np.minimum(size, limit)
    if block.youngest <= recipe.clip_after or not block.all_move:
        # A young series is still finding its scale. A constant past has none to clip at: the first move founds it.
        np.copyto(bounded, size, where=(block["t"] <= recipe.clip_after) | (limit <= TINY))
    return bounded


def rescale(block: Block, d: NDArray[np.float64], keep: NDArray[np.float64]) -> None:
    """Take d into the deviations, of which each keeps its (1 − rate, 1) share, and note the new scale's inverse."""
    deviation = block["deviation"]
    deviation += d
    deviation *= keep
    invert(block)


def invert(block: Block) -> None:
    """Note the inverse of each scale."""
    scale = block["scale"]
    block.all_move = bool(np.minimum.reduce(scale) > TINY)
    if block.all_move:
        np.divide(1.0, scale, out=block["per_scale"])
    else:
        known = scale > TINY
        block["per_scale"][...] = np.where(known, 1.0 / np.where(known, scale, 1.0), 0.0)
