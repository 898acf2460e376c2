"""What the model sees at each tick: numbers that do not change when a series is shifted or measured in another unit.

The LSTM's F = 28 inputs
    0–7     asinh(d_{t−i}/s), i = 0 … 7: the latest first differences
    8–9     asinh of the deviations from two moving averages, in scales
    10–13   the day: asinh(d/s) at t+2−P, t+1−P, t−P, and asinh(.3 (y_t − y_{t−P})/s); 0 without a season
    14–17   the week, likewise
    18–21   sin and cos of the time of day and of the week at the expected time of the next tick
    22      log(fast scale / scale)
    23      1/(1 + t/50): how young the series is
    24–26   asinh of the forecasts of the linear experts, filled in by the ensemble
    27      log of the latest spacing over its running mean: 0 on a regular series
    28–     asinh of what is heard of other features (`exogenous`)

The linear experts' 27 features, all clipped to ±20 scales: the latest 16 differences, 1, the two deviations, and
columns 10–17, none of them compressed; then what is heard of other features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from foretick.core.exogenous import heard_width
from foretick.core.recipe import MS_PER_DAY
from foretick.core.scaling import inverse_scale
from foretick.core.seasons import update_seasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block
    from foretick.core.recipe import Recipe

RECENT = 8  # first differences
LINEAR_FORECASTS = slice(24, 27)  # columns of the inputs
PACE = 27  # column of the inputs
WIDTH = 28  # F, without other features
DIFFERENCES = 16  # of the linear features
PLAIN_WIDTH = DIFFERENCES + 3  # linear features without seasons
LINEAR_WIDTH = PLAIN_WIDTH + 8
_ASINH = slice(0, 18)  # columns that are compressed: differences have heavy tails
_AVERAGE_WEIGHTS = np.array([0.3, 0.1])  # a deviation from a slower average is larger; brings both near one
SEASON_WEIGHT = 0.3  # likewise for the change since one season ago
YOUTH_TICKS = 50.0
_PACE_MAX = 5.0  # a gap of a hundred and fifty spacings: a longer one says no more
RATIO_FLOOR = 0.05  # of fast over slow scale: a pause is no −∞
_DAY_AND_WEEK_MS = np.array([MS_PER_DAY, 7 * MS_PER_DAY])
_OFFSETS = np.arange(DIFFERENCES + 1)[None, :]


def input_width(recipe: Recipe) -> int:
    """F of a recipe."""
    return WIDTH + heard_width(recipe)


def linear_width(recipe: Recipe) -> int:
    """k, features of the linear experts of a recipe."""
    return LINEAR_WIDTH + heard_width(recipe)


class Sight(NamedTuple):
    """What there is to see of n series after a tick.

    Attributes:
        x: (n, F) float32 inputs of the LSTM, without the forecasts of the linear experts.
        linear: (n, …) float32, what the linear experts see besides.
        seasonal: (n,) float64 y_{t+1−P} − y_t in scales, 0 where there is no season yet.
    """

    x: NDArray[np.float32]
    linear: NDArray[np.float32]
    seasonal: NDArray[np.float64]


class Features:
    """The inputs of a group's series.

    Args:
        arena: holder of the windows.
        recipe: constants.
    """

    def __init__(self, arena: Arena, recipe: Recipe) -> None:
        self._arena, self._recipe = arena, recipe

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew: what is older than a series is never read."""

    def observe(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Take in the outcome z of tick t while the block still holds the time of tick t − 1: nothing here."""

    def take(self, row: NDArray[np.int64], block: Block, d: NDArray[np.float64]) -> None:  # noqa: ARG002  as compact
        """Put tick t, whose difference d is in the block's scales by now, into the windows."""
        self._arena.window.push(row, block["t"], block["y"])
        update_seasons(self._arena, row, block, self._recipe.season)

    def see(self, row: NDArray[np.int64], block: Block, heard: NDArray[np.float32] | None) -> Sight:
        """What there is to see after tick t; `heard` are the (n, 4E) columns of other features."""
        x, linear, seasonal = features(self._arena, row, block, self._recipe)
        return Sight(beside(x, asinh(heard)), beside(linear, heard), seasonal)

    def ahead(self, row: NDArray[np.int64], block: Block, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, M) y_{t+h−P} − y_t in scales for each number of steps h; 0 where there is no season yet."""
        P = block["season"][:, 0, None].astype(np.int64)
        past = self._arena.window.at(row, block["t"], (P - steps).clip(0))
        known = (steps <= P) & (block["t"][:, None] > P)
        return np.where(known, (past - block["y"][:, None]) * inverse_scale(block), 0.0)


def beside(columns: NDArray[np.float32], heard: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """These columns with those heard of other features behind them."""
    return columns if heard is None else np.concatenate([columns, heard], axis=1)


def asinh(heard: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Compressed, if there is anything."""
    return None if heard is None else torch.asinh(torch.from_numpy(heard)).numpy()


def pace(block: Block) -> NDArray[np.float64]:
    """(n,) log of the latest spacing over its running mean, in milliseconds."""
    ratio = (np.maximum(block["gap"], 0) + 1.0) / (block["spacing"] + 1.0)  # an unstamped tick may seem to be earlier
    return torch.log_(torch.from_numpy(ratio.astype(np.float64))).numpy().clip(-_PACE_MAX, _PACE_MAX)


def season_offsets(season: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n, 8) offsets of y_{t+2−P} … y_{t−1−P} for both seasons: four values give three differences and the change."""
    back = np.arange(-2, 2)
    return (season[:, :, None].astype(np.int64) + back).clip(0).reshape(len(season), 8)


def features(
    arena: Arena, rows: NDArray[np.int64], block: Block, recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """The inputs after tick t, and the seasonal naive forecast.

    Args:
        arena: holder of the windows, tick t already pushed.
        rows: (n,) rows of the block.
        block: (n,) records, scaling already updated with tick t.
        recipe: constants.

    Returns:
        (n, F) float32 inputs of the LSTM, without the linear forecasts; (n, 27) float32 features of the linear
        experts; (n,) float64 y_{t+1−P} − y_t in scales, 0 where there is no season yet.
    """
    n, t, clip = len(rows), block["t"], recipe.scaling.clip
    per_scale = inverse_scale(block)
    x = np.zeros((n, WIDTH), np.float32)

    linear = np.zeros((n, LINEAR_WIDTH), np.float32)

    recent = arena.window.at(rows, t, _OFFSETS)
    seen = _OFFSETS[:, 1:] <= t[:, None]
    linear[:, :DIFFERENCES] = np.where(seen, ((recent[:, :-1] - recent[:, 1:]) * per_scale).clip(-clip, clip), 0.0)
    linear[:, DIFFERENCES] = 1.0
    deviation = block["deviation"][:, : len(_AVERAGE_WEIGHTS)]
    linear[:, DIFFERENCES + 1 : PLAIN_WIDTH] = (_AVERAGE_WEIGHTS * deviation * per_scale).clip(-clip, clip)
    x[:, :RECENT] = linear[:, :RECENT]
    x[:, 8:10] = linear[:, DIFFERENCES + 1 : PLAIN_WIDTH]

    seasonal = np.zeros(n)
    season = block["season"]
    if season.any():
        past = arena.window.at(rows, t, season_offsets(season)).reshape(n, 2, 4)
        known = (season > 0) & (t[:, None] > season)
        moves = past[:, :, :3] - past[:, :, 1:]
        change = SEASON_WEIGHT * (block["y"][:, None] - past[:, :, 2])
        columns = np.concatenate([moves, change[:, :, None]], axis=2) * per_scale[:, :, None]
        columns = np.where(known[:, :, None], columns.clip(-clip, clip), 0.0)
        linear[:, PLAIN_WIDTH:] = x[:, 10:18] = columns.reshape(n, 8)
        naive = (past[:, 0, 1] - block["y"]) * per_scale[:, 0]
        seasonal = np.where(known[:, 0], naive.clip(-clip, clip), 0.0)

    compressed = np.ascontiguousarray(x[:, _ASINH])
    torch.asinh_(torch.from_numpy(compressed))
    x[:, _ASINH] = compressed
    x[:, 18:22] = clock(block["ts"] + block["gap"])
    ratio = block["fast"] * per_scale[:, 0]
    x[:, 22] = torch.log_(torch.from_numpy(ratio + RATIO_FLOOR)).numpy()
    x[:, 23] = 1.0 / (1.0 + t / YOUTH_TICKS)
    x[:, PACE] = pace(block)
    return x, linear, seasonal


def clock(ts: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, 4) sin day, sin week, cos day, cos week of times in ms."""
    phase = (ts[:, None] % _DAY_AND_WEEK_MS) * (2 * np.pi / _DAY_AND_WEEK_MS)
    angle = torch.from_numpy(phase)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1).numpy().astype(np.float32)
