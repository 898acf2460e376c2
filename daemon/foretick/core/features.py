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
_AVERAGE_WEIGHTS = np.array([[0.3], [0.1]])  # a deviation from a slower average is larger; brings both near one
SEASON_WEIGHT = 0.3  # likewise for the change since one season ago
YOUTH_TICKS = 50.0
_PACE_MAX = np.float32(5.0)  # a gap of a hundred and fifty spacings: a longer one says no more
RATIO_FLOOR = 0.05  # of fast over slow scale: a pause is no −∞
_DAY_AND_WEEK_MS = np.array([[MS_PER_DAY], [7 * MS_PER_DAY]])
_ANGLE_PER_MS = 2 * np.pi / _DAY_AND_WEEK_MS
_OFFSETS = np.arange(DIFFERENCES + 1)[:, None]
_SEASON_OFFSETS = np.arange(-2, 2)[:, None]


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
        linear, seasonal = self._see_past(row, block)
        x = np.zeros((WIDTH, len(row)), np.float32)
        np.arcsinh(linear[:RECENT], out=x[:RECENT])
        np.arcsinh(linear[DIFFERENCES + 1 :], out=x[RECENT : _CLOCK.start])
        clock(block["ts"] + block["gap"], x[_CLOCK])
        rest = np.empty((3, len(row)), np.float32)
        write_youth_and_pace(block, rest)
        x[_CLOCK.stop : _CLOCK.stop + 2], x[PACE] = rest[:2], rest[2]
        return Sight(beside(x, None if heard is None else np.arcsinh(heard)), beside(linear, heard), seasonal)

    def _see_past(self, row: NDArray[np.int64], block: Block) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(27, n) linear features, (n,) the seasonal naive forecast, in scales."""
        season, t, y, per_scale = block["season"], block["t"], block["y"], block["per_scale"]
        n, clip, has_season = len(row), self._recipe.scaling.clip, np.count_nonzero(season) > 0
        offset = np.empty((len(_OFFSETS) + (8 if has_season else 0), n), np.int64)
        offset[: len(_OFFSETS)] = _OFFSETS
        if has_season:
            np.maximum(season[:, None] + _SEASON_OFFSETS, 0, out=offset[len(_OFFSETS) :].reshape(2, 4, n))
        past = self._arena.window.at(row, t, offset)

        change, naive = np.zeros((LINEAR_WIDTH, n)), np.zeros(n)
        np.subtract(past[:DIFFERENCES], past[1 : DIFFERENCES + 1], out=change[:DIFFERENCES])
        if has_season:
            known = (season > 0) & (t > season)
            seasons, then = change[PLAIN_WIDTH:].reshape(2, 4, n), past[len(_OFFSETS) :].reshape(2, 4, n)
            np.subtract(then[:, :3], then[:, 1:], out=seasons[:, :3])
            np.multiply(SEASON_WEIGHT, y - then[:, 2], out=seasons[:, 3])
            np.copyto(seasons, 0.0, where=~known[:, None])
            np.subtract(then[0, 1], y, out=naive, where=known[0])
            naive = bounded(naive * per_scale, clip)
        linear = bounded(change * per_scale, clip).astype(np.float32)
        linear[DIFFERENCES] = 1.0
        deviation = block["deviation"][: len(_AVERAGE_WEIGHTS)]
        linear[DIFFERENCES + 1 : PLAIN_WIDTH] = bounded(deviation * (_AVERAGE_WEIGHTS * per_scale), clip)
        if block.youngest < DIFFERENCES:
            linear[:DIFFERENCES][_OFFSETS[1:] > t] = 0.0
        return linear, naive

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
    columns[1] = YOUTH_TICKS / (block["t"] + YOUTH_TICKS)
