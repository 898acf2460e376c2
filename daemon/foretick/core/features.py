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

from foretick.core.exogenous import heard_width
from foretick.core.recipe import MS_PER_DAY
from foretick.core.seasons import update_seasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.block import Block
    from foretick.core.recipe import Recipe

RECENT = 8  # first differences
LINEAR_FORECASTS = slice(24, 27)  # columns of the inputs
PACE = 27  # column of the inputs
WIDTH = 28  # F, without other features
DIFFERENCES = 16  # of the linear features
PLAIN_WIDTH = DIFFERENCES + 3  # linear features without seasons
LINEAR_WIDTH = PLAIN_WIDTH + 8
_CLOCK = slice(18, 22)
_ASINH = slice(0, 18)  # columns that are compressed: differences have heavy tails
_AVERAGE_WEIGHTS = np.array([[0.3], [0.1]])  # a deviation from a slower average is larger; brings both near one
SEASON_WEIGHT = 0.3  # likewise for the change since one season ago
YOUTH_TICKS = 50.0
_PACE_MAX = np.float32(5.0)  # a gap of a hundred and fifty spacings: a longer one says no more
RATIO_FLOOR = 0.05  # of fast over slow scale: a pause is no −∞
_DAY_AND_WEEK_MS = np.array([[MS_PER_DAY], [7 * MS_PER_DAY]])
_ANGLE_PER_MS = 2 * np.pi / _DAY_AND_WEEK_MS
_OFFSETS = np.arange(DIFFERENCES + 1)[:, None]
_SEASON_OFFSETS = np.arange(-2, 2)[:, None, None]


def input_width(recipe: Recipe) -> int:
    """F of a recipe."""
    return WIDTH + heard_width(recipe)


def linear_width(recipe: Recipe) -> int:
    """k, features of the linear experts of a recipe."""
    return LINEAR_WIDTH + heard_width(recipe)


class Sight(NamedTuple):
    """What there is to see of n series after a tick.

    Attributes:
        x: (F, n) float32 inputs of the LSTM, without the forecasts of the linear experts.
        linear: (…, n) float32, what the linear experts see besides.
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

    def recall(self, row: NDArray[np.int64], block: Block) -> NDArray[np.float32]:  # noqa: ARG002  as compact
        """(0, n) nothing: what the standing forecasts were made from stands in the records."""
        return np.empty((0, len(row)), np.float32)

    def observe(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Take in the outcome z of tick t: nothing here."""

    def take(
        self,
        row: NDArray[np.int64],
        block: Block,
        d: NDArray[np.float64],  # noqa: ARG002  as compact
        recent: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Put tick t, whose difference d is in the block's scales by now, into the windows."""
        self._arena.window.push(row, block["t"], block["y"])
        update_seasons(self._arena, row, block, self._recipe.season)
        return recent

    def see(
        self,
        row: NDArray[np.int64],
        block: Block,
        moves: NDArray[np.float32],  # noqa: ARG002  as compact
        heard: NDArray[np.float32] | None,
    ) -> Sight:
        """What there is to see after tick t; `heard` are the (4E, n) rows of other features."""
        n, clip = len(row), self._recipe.scaling.clip
        linear = np.empty((LINEAR_WIDTH, n), np.float32)
        self._see_moves(row, block, linear[:DIFFERENCES])
        linear[DIFFERENCES] = 1.0
        averages = slice(DIFFERENCES + 1, PLAIN_WIDTH)
        deviation = block["deviation"][: len(_AVERAGE_WEIGHTS)]
        linear[averages] = bounded(deviation * (_AVERAGE_WEIGHTS * block["per_scale"]), clip)
        seasonal = self._see_seasons(row, block, linear[PLAIN_WIDTH:])

        x = np.zeros((WIDTH, n), np.float32)
        x[:RECENT] = linear[:RECENT]
        x[RECENT : RECENT + 2] = linear[averages]
        x[RECENT + 2 : _ASINH.stop] = linear[PLAIN_WIDTH:]
        np.arcsinh(x[_ASINH], out=x[_ASINH])
        clock(block["ts"] + block["gap"], x[_CLOCK])
        rest = np.empty((3, n), np.float32)
        write_youth_and_pace(block, rest)
        x[_CLOCK.stop : _CLOCK.stop + 2], x[PACE] = rest[:2], rest[2]
        return Sight(beside(x, None if heard is None else np.arcsinh(heard)), beside(linear, heard), seasonal)

    def _see_moves(self, row: NDArray[np.int64], block: Block, moves: NDArray[np.float32]) -> None:
        recent = self._arena.window.at(row, block["t"], _OFFSETS)
        moves[...] = bounded((recent[:-1] - recent[1:]) * block["per_scale"], self._recipe.scaling.clip)
        if block.youngest < DIFFERENCES:
            moves[_OFFSETS[1:] > block["t"]] = 0.0

    def _see_seasons(self, row: NDArray[np.int64], block: Block, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        """Write the (8, n) season columns; (n,) the seasonal naive forecast, in scales."""
        season, t, n = block["season"], block["t"], len(row)
        if not np.count_nonzero(season):
            columns[...] = 0.0
            return np.zeros(n)
        offset = (season.astype(np.int64) + _SEASON_OFFSETS).clip(0)  # (4, 2, n)
        past = self._arena.window.at(row, t, offset.reshape(8, n)).reshape(4, 2, n)
        known = (season > 0) & (t > season)
        change = SEASON_WEIGHT * (block["y"] - past[2])
        moves = np.concatenate([past[:3] - past[1:], change[None]]) * block["per_scale"]
        clip = self._recipe.scaling.clip
        columns.reshape(2, 4, n)[...] = np.where(known, bounded(moves, clip), 0.0).swapaxes(0, 1)
        naive = (past[1, 0] - block["y"]) * block["per_scale"]
        return np.where(known[0], bounded(naive, clip), 0.0)

    def ahead(self, row: NDArray[np.int64], block: Block, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M, n) y_{t+h−P} − y_t in scales for each number of steps h; 0 where there is no season yet."""
        P, steps = block["season"][0].astype(np.int64), steps[:, None]
        past = self._arena.window.at(row, block["t"], (P - steps).clip(0))
        known = (steps <= P) & (block["t"] > P)
        return np.where(known, (past - block["y"]) * block["per_scale"], 0.0)


def bounded(values: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """These values within ±clip, in place; as float32 some would overflow before."""
    return np.minimum(np.maximum(values, -clip, out=values), clip, out=values)


def beside(columns: NDArray[np.float32], heard: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """These columns with those heard of other features behind them."""
    return columns if heard is None else np.concatenate([columns, heard])


def clock(ts: NDArray[np.int64], columns: NDArray[np.float32]) -> NDArray[np.int64]:
    """Write sin day, sin week, cos day, cos week of (n,) times in ms; (2, n) the times since day and week began."""
    phase: NDArray[np.int64] = ts % _DAY_AND_WEEK_MS
    angle = (phase * _ANGLE_PER_MS).astype(np.float32)
    np.sin(angle, out=columns[:2])
    np.cos(angle, out=columns[2:])
    return phase


def write_youth_and_pace(block: Block, columns: NDArray[np.float32]) -> None:
    """Write log(fast scale / scale), 1/(1 + t/50), and log of the latest spacing over its running mean, in ms."""
    ratios = np.empty((2, columns.shape[1]))
    np.multiply(block["fast"], block["per_scale"], out=ratios[0])
    ratios[0] += RATIO_FLOOR
    # An unstamped tick may seem to be earlier.
    np.divide(np.maximum(block["gap"], 0) + 1.0, block["spacing"] + 1.0, out=ratios[1])
    columns[::2] = np.log(ratios, out=ratios)
    pace = columns[2]
    np.minimum(np.maximum(pace, -_PACE_MAX, out=pace), _PACE_MAX, out=pace)
    np.divide(YOUTH_TICKS, block["t"] + YOUTH_TICKS, out=columns[1], casting="same_kind")
