"""What the compact profiles see: as `features`, from a short ring of differences in place of a long one of values.

The ring keeps u_i = d_i/s_i, each difference in the scale of its own tick, in float16: a shift or a change of unit
changes none of its bits, and rounding is a thousandth of what the noise of any series is. The change since one season
ago, which would need values, is carried as a sum that each tick adds to and takes from: of float16 numbers, in
float64, so exactly.

    D_t = u_{t−P+1} + … + u_t = D_{t−1} + u_t − u_{t−P}         stands for (y_t − y_{t−P})/s

Profiles keep what usually happens at a time of the day, and of the week, in bins: of the move z that the predicted
bin b has seen,

    p_b ← p_b + max(rate, 1/(1 + (t − 1)/bins)) (clip(z, ±8) − p_b)

The LSTM's inputs, in order: asinh of the 8 latest u; asinh of the deviations from two moving averages, in scales; for
the day, and for the week if the recipe says so, asinh of u_{t+2−P}, u_{t+1−P}, u_{t−P} and .3 D; asinh of the
profiles' words for the next tick; sin and cos of the
time of day and of the week of the expected next tick; log(fast scale / scale); 1/(1 + t/50); log of the latest spacing
over its running mean; asinh of the two linear experts' forecasts if the LSTM hears them; asinh of what is heard of
other features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foretick.core.features import RECENT, SEASON_WEIGHT, Sight, beside, bounded, clock, write_youth_and_pace
from foretick.core.halves import widened
from foretick.core.recipe import MS_PER_DAY
from foretick.core.seasons import update_seasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.block import Block
    from foretick.core.columns import Column
    from foretick.core.recipe import CompactRecipe, Recipe

_AVERAGE_WEIGHTS = np.array([[0.5], [0.2]])  # a deviation from a slower average is larger; brings both near one
_MOVE_MAX = 1024.0  # scales: the largest u kept, far within float16; a larger jump is taken for one of this size
_OF_SEASON = 4  # inputs
_SEASON_AHEAD = np.array([[-2], [-1], [0]])  # of the tick one season ago: u_{t+2−P}, u_{t+1−P}, u_{t−P}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each kind of the LSTM's F inputs stands."""

    recipe: CompactRecipe

    @property
    def averages(self) -> slice:
        """Two deviations from moving averages, behind the moves."""
        return slice(RECENT, RECENT + 2)

    @property
    def seasons(self) -> slice:
        """Four of the day, four of the week."""
        return slice(self.averages.stop, self.averages.stop + _OF_SEASON * season_count(self.recipe))

    @property
    def profiles(self) -> slice:
        """What the profiles say."""
        count = (self.recipe.day_bins > 0) + (self.recipe.week_bins > 0)
        return slice(self.seasons.stop, self.seasons.stop + count)

    @property
    def compressed(self) -> slice:
        """All that has heavy tails."""
        return slice(0, self.profiles.stop)

    @property
    def clock(self) -> slice:
        """Sines and cosines."""
        return slice(self.profiles.stop, self.profiles.stop + 4)

    @property
    def ratio(self) -> int:
        """Fast over slow scale; youth is next to it."""
        return int(self.clock.stop)

    @property
    def pace(self) -> int:
        """Latest spacing over its mean."""
        return self.ratio + 2

    @property
    def heard(self) -> slice:
        """The linear experts' forecasts, behind ratio, youth and pace."""
        first = self.ratio + 3
        return slice(first, first + 2 * self.recipe.heard)

    @property
    def width(self) -> int:
        """F."""
        return int(self.heard.stop)

    @property
    def linear(self) -> list[int]:
        """The columns that the linear expert sees besides a constant."""
        return [*range(self.recipe.linear_moves), *range(self.averages.start, self.profiles.stop)]


class _Profile(NamedTuple):
    """What usually happens at a time of a period.

    Attributes:
        bins: (S, B) float16 the usual move of each bin.
        period_ms: what is divided into bins.
        floor: of the rate at which a bin forgets.
    """

    bins: Column
    period_ms: int
    floor: float

    def rate(self, block: Block) -> NDArray[np.float64] | float:
        """(n,) at which bins learn from the t-th outcome; one number where all have come down to the floor."""
        B, t = self.bins.rows.shape[1], block["t"]
        if block.youngest * self.floor > B:
            return self.floor
        rate: NDArray[np.float64] = np.maximum(self.floor, B / (B + np.maximum(t - 1, 0)))
        return rate if block.youngest > 0 else rate * (t > 0)  # a first tick settles nothing


class CompactFeatures:
    """The inputs of a group's series.

    Args:
        arena: holder of the rings.
        recipe: constants; `recipe.compact` is there.
    """

    def __init__(self, arena: Arena, recipe: Recipe) -> None:
        assert recipe.compact is not None
        self._arena, self._recipe, self._compact = arena, recipe, recipe.compact
        layout = Layout(recipe.compact)
        self._compressed, self._averages, self._clock = layout.compressed, layout.averages, layout.clock
        self._season_columns, self._profile_columns = layout.seasons, layout.profiles
        self._youth_and_pace, self._width = slice(layout.ratio, layout.pace + 1), layout.width
        self._back = arena.window.places_back(max(RECENT, recipe.compact.kalman.moves))
        compact = recipe.compact
        day = _Profile(arena.table.column("day", (compact.day_bins,), np.float16), MS_PER_DAY, compact.day_rate)
        week = _Profile(arena.table.column("week", (compact.week_bins,), np.float16), 7 * MS_PER_DAY, compact.week_rate)
        self._profiles = [profile for profile in (day, week) if profile.bins.rows.shape[1]]

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew: moves before the first are zero."""
        for column in (self._arena.window.column, *(profile.bins for profile in self._profiles)):
            column.rows[row] = 0

    def recall(self, row: NDArray[np.int64], block: Block) -> NDArray[np.float32]:
        """(16, n) the latest moves u_t, u_{t−1}, … up to tick t, the newest in the rings; before tick 0, none."""
        t = block["t"] if block.youngest >= 0 else np.maximum(block["t"], 0)
        return np.ascontiguousarray(widened(self._arena.window.recent(row, t, self._back)).T)

    def observe(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Take in the outcome z of tick t ≥ 1, whose time was predicted to lie in the block's bins."""
        bound = np.float32(self._compact.profile_clip)
        z = np.minimum(np.maximum(z, -bound), bound)
        for profile, bins in zip(self._profiles, block["bins"], strict=True):
            known = profile.bins.rows[row, bins].astype(np.float64)
            profile.bins.rows[row, bins] = known + profile.rate(block) * (z - known)

    def take(
        self, row: NDArray[np.int64], block: Block, d: NDArray[np.float64], recent: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Put tick t's first difference d, whose scale the block holds by now, into the ring.

        Returns:
            (16, n) the latest moves, this one included; `recent` are those before.
        """
        window, t, season = self._arena.window, block["t"], block["season"]
        u = bounded(d * block["per_scale"], _MOVE_MAX).astype(np.float16)
        window.push(row, t, u)
        if len(season):
            self._swing(row, block, u)
        moves = np.empty_like(recent)
        moves[0] = u
        moves[1:] = recent[:-1]
        return moves

    def _swing(self, row: NDArray[np.int64], block: Block, u: NDArray[np.float16]) -> None:
        """Move the change since one season ago on, and look for seasons where it is time to."""
        window, t, season = self._arena.window, block["t"], block["season"]
        if np.count_nonzero(season):
            left = window.at(row, t, season.astype(np.int64) % window.length).astype(np.float64)
            since = (season > 0) & (t > season)
            block["swing"] += np.where(season > 0, u.astype(np.float64) - np.where(since, left, 0.0), 0.0)
        before = season.copy()
        if not update_seasons(self._arena, row, block, self._recipe.season):
            return
        found = np.flatnonzero((season != before).any(axis=0))
        if len(found):
            back = np.arange(window.length)[:, None]
            moves = window.at(row[found], t[found], back).astype(np.float64)
            moves = np.where(back < t[found], moves, 0.0)
            within = back < season[:, None, found]
            block["swing"][:, found] = (moves * within).sum(axis=1)

    def ahead(self, row: NDArray[np.int64], block: Block, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M, n) the change over the season that began P − h ticks ago, in scales, for each number of steps h.

        `steps` counts from 2 up; 0 where there is no season yet.
        """
        window, P = self._arena.window, block["season"][0].astype(np.int64)
        since, steps = np.arange(1, int(steps[-1]) + 1)[:, None], steps[:, None]
        moves = window.at(row, block["t"], (P - since).clip(0) % window.length).astype(np.float64)
        changes = moves.cumsum(axis=0)[steps[:, 0] - 1] - block["swing"][0]
        known = (steps <= P) & (block["t"] > P)
        return np.where(known, changes, 0.0)

    def see(
        self, row: NDArray[np.int64], block: Block, moves: NDArray[np.float32], heard: NDArray[np.float32] | None
    ) -> Sight:
        """What there is to see after tick t.

        Args:
            row: (n,) rows.
            block: columns after the tick.
            moves: (16, n) the latest moves.
            heard: (4E, n) of other features.
        """
        clip = np.float32(self._recipe.scaling.clip)
        x = np.empty((self._width, len(row)), np.float32)
        x[:RECENT] = moves[:RECENT]
        averages = block["deviation"] * (_AVERAGE_WEIGHTS * block["per_scale"])
        x[self._averages] = bounded(averages, float(clip))
        seasonal = self._see_seasons(row, block, x)
        phase = clock(block["ts"] + block["gap"], x[self._clock])
        self._see_profiles(row, block, phase, x)
        compressed = x[self._compressed]
        np.minimum(np.maximum(compressed, -clip, out=compressed), clip, out=compressed)
        np.arcsinh(compressed, out=compressed)
        write_youth_and_pace(block, x[self._youth_and_pace])
        return Sight(beside(x, heard if heard is None else np.arcsinh(heard)), moves, seasonal)

    def _see_profiles(
        self, row: NDArray[np.int64], block: Block, phase: NDArray[np.int64], x: NDArray[np.float32]
    ) -> None:
        """Note the bins of the next tick, from the (2, n) times of day and week, and write what they hold."""
        columns = x[self._profile_columns]
        for k, profile in enumerate(self._profiles):
            bins = profile.bins.rows.shape[1]
            block["bins"][k] = phase[k] // (profile.period_ms // bins)
            columns[k] = profile.bins.rows[row, block["bins"][k]]

    def _see_seasons(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Write the season columns; (n,) the seasonal naive forecast, in scales."""
        season, t, window = block["season"], block["t"], self._arena.window
        columns = x[self._season_columns].reshape(-1, _OF_SEASON, len(row))
        seasonal = np.zeros(len(row))
        if not np.count_nonzero(season):
            columns[...] = 0.0
            return seasonal
        for k, P in enumerate(season.astype(np.int64)):
            past = window.at(row, t, (P + _SEASON_AHEAD) % window.length).astype(np.float64)
            known = (P > 0) & (t > P)
            swing = block["swing"][k]
            columns[k, :3] = np.where(known, past, 0.0)
            columns[k, 3] = np.where(known, SEASON_WEIGHT * swing, 0.0)
            if k == 0:
                clip = self._recipe.scaling.clip
                seasonal = np.where(known, (past[1] - swing).clip(-clip, clip), 0.0)
        return seasonal


def fields(compact: CompactRecipe) -> list[tuple[Any, ...]]:
    """The carried state of one series, for its record."""
    seasons, profiles = season_count(compact), (compact.day_bins > 0) + (compact.week_bins > 0)
    return [
        ("swing", np.float64, (seasons,)),  # D, the change since one season ago, in scales
        ("season", np.int32, (seasons,)),  # seasonal lags in ticks; 0 where there is none
        ("bins", np.int32, (profiles,)),  # of the next tick, of the day and of the week
    ]


def season_count(recipe: CompactRecipe) -> int:
    """Seasons looked back at."""
    return 2 if recipe.week else 1
