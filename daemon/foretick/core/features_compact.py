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
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.core.features import RATIO_FLOOR, RECENT, SEASON_WEIGHT, YOUTH_TICKS, Sight, asinh, beside, clock, pace
from foretick.core.recipe import MS_PER_DAY
from foretick.core.scaling import inverse_scale
from foretick.core.seasons import update_seasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block
    from foretick.core.columns import Column
    from foretick.core.recipe import CompactRecipe, Recipe

_AVERAGE_WEIGHTS = np.array([0.5, 0.2])  # a deviation from a slower average is larger; brings both near one
_MOVE_MAX = 1024.0  # scales: the largest u kept, far within float16; a larger jump is taken for one of this size
_OF_SEASON = 4  # inputs
_SEASON_AHEAD = np.array([[-2, -1, 0]])  # of the tick one season ago: u_{t+2−P}, u_{t+1−P}, u_{t−P}


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


def season_count(recipe: CompactRecipe) -> int:
    """Seasons looked back at."""
    return 2 if recipe.week else 1


class CompactFeatures:
    """The inputs of a group's series.

    Args:
        arena: holder of the rings.
        recipe: constants; `recipe.compact` is there.
    """

    def __init__(self, arena: Arena, recipe: Recipe) -> None:
        assert recipe.compact is not None
        self._arena, self._recipe, self._compact = arena, recipe, recipe.compact
        self._layout = Layout(recipe.compact)
        self._recent = np.arange(max(RECENT, recipe.compact.kalman.moves))[None, :]
        self._day = arena.table.column("day", (recipe.compact.day_bins,), np.float16)
        self._week = arena.table.column("week", (recipe.compact.week_bins,), np.float16)

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        self._day.rows[row] = 0
        self._week.rows[row] = 0

    def observe(self, row: NDArray[np.int64], block: Block, z: NDArray[np.float32]) -> None:
        """Take in the outcome z of tick t while the block still holds the time of tick t − 1."""
        settled = block["t"] > 0
        if not settled.all():
            row, block, z = row[settled], block[settled], z[settled]
        due, compact = block["ts"] + block["gap"], self._compact
        z = z.clip(-compact.profile_clip, compact.profile_clip)
        for column, period_ms, floor in self._profiles():
            bins = column.rows.shape[1]
            at = row, _bin(due, period_ms, bins)
            rate = np.maximum(floor, 1.0 / (1.0 + (block["t"] - 1) / bins))
            known = column.rows[at].astype(np.float64)
            column.rows[at] = known + rate * (z - known)

    def take(self, row: NDArray[np.int64], block: Block, d: NDArray[np.float64]) -> None:
        """Put tick t's first difference d, whose scale the block holds by now, into the ring."""
        window, t, season = self._arena.window, block["t"], block["season"].copy()
        u = (d * inverse_scale(block)[:, 0]).clip(-_MOVE_MAX, _MOVE_MAX).astype(np.float16)
        window.push(row, t, u)
        if not season.size:
            return
        left = window.at(row, t, season.astype(np.int64) % window.length).astype(np.float64)
        since = (season > 0) & (t[:, None] > season)
        block["swing"] += np.where(season > 0, u.astype(np.float64)[:, None] - np.where(since, left, 0.0), 0.0)
        update_seasons(self._arena, row, block, self._recipe.season)
        found = np.flatnonzero((block["season"] != season).any(axis=1))
        if len(found):
            back = np.arange(window.length)[None, :]
            moves = window.at(row[found], t[found], back).astype(np.float64)
            moves = np.where(back < t[found, None], moves, 0.0)[:, None, :]
            block["swing"][found] = (moves * (back < block["season"][found][:, :, None])).sum(axis=2)

    def recent(self, row: NDArray[np.int64], t: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 16) the latest moves u_t, u_{t−1}, … up to tick t, which must be the newest in the rings."""
        moves = self._arena.window.at(row, t, self._recent)
        return np.where(self._recent < t[:, None], moves, 0).astype(np.float32)

    def ahead(self, row: NDArray[np.int64], block: Block, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, M) the change over the season that began P − h ticks ago, in scales, for each number of steps h.

        `steps` counts from 2 up; 0 where there is no season yet.
        """
        window, P = self._arena.window, block["season"][:, 0, None].astype(np.int64)
        since = np.arange(1, int(steps[-1]) + 1)
        moves = window.at(row, block["t"], (P - since).clip(0) % window.length).astype(np.float64)
        changes = moves.cumsum(axis=1)[:, steps - 1] - block["swing"][:, 0, None]
        known = (steps <= P) & (block["t"][:, None] > P)
        return np.where(known, changes, 0.0)

    def see(self, row: NDArray[np.int64], block: Block, heard: NDArray[np.float32] | None) -> Sight:
        """What there is to see after tick t; `heard` are the (n, 4E) columns of other features."""
        layout, clip, t = self._layout, self._recipe.scaling.clip, block["t"]
        per_scale = inverse_scale(block)
        x = np.zeros((len(row), layout.width), np.float32)
        moves = self.recent(row, t)
        x[:, :RECENT] = moves[:, :RECENT]
        x[:, layout.averages] = _AVERAGE_WEIGHTS * block["deviation"] * per_scale
        seasonal = self._see_seasons(row, block, x)
        due = block["ts"] + block["gap"]
        for k, (column, period_ms, _) in enumerate(self._profiles()):
            x[:, layout.profiles.start + k] = column.rows[row, _bin(due, period_ms, column.rows.shape[1])]
        compressed = x[:, layout.compressed].clip(-clip, clip)
        x[:, layout.compressed] = torch.asinh_(torch.from_numpy(compressed)).numpy()
        x[:, layout.clock] = clock(due)
        ratio = block["fast"] * per_scale[:, 0]
        x[:, layout.ratio] = torch.log_(torch.from_numpy(ratio + RATIO_FLOOR)).numpy()
        x[:, layout.ratio + 1] = 1.0 / (1.0 + t / YOUTH_TICKS)
        x[:, layout.pace] = pace(block)
        return Sight(beside(x, asinh(heard)), moves, seasonal)

    def _see_seasons(self, row: NDArray[np.int64], block: Block, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Write the season columns; (n,) the seasonal naive forecast, in scales."""
        season, t, window = block["season"], block["t"], self._arena.window
        seasonal = np.zeros(len(row))
        for k in range(season.shape[1]):
            P = season[:, k, None].astype(np.int64)
            if not P.any():
                continue
            past = window.at(row, t, (P + _SEASON_AHEAD) % window.length).astype(np.float64)
            known = (P > 0) & (t[:, None] > P)
            swing = block["swing"][:, k, None]
            columns = np.concatenate([past, SEASON_WEIGHT * swing], axis=1)
            first = self._layout.seasons.start + _OF_SEASON * k
            x[:, first : first + _OF_SEASON] = np.where(known, columns, 0.0)
            if k == 0:
                clip = self._recipe.scaling.clip
                seasonal = np.where(known, (past[:, 1:2] - swing).clip(-clip, clip), 0.0)[:, 0]
        return seasonal

    def _profiles(self) -> list[tuple[Column, int, float]]:
        """Column, period in ms and floor of the rate of each profile there is."""
        compact = self._compact
        both = ((self._day, MS_PER_DAY, compact.day_rate), (self._week, 7 * MS_PER_DAY, compact.week_rate))
        return [profile for profile in both if profile[0].rows.shape[1]]


def _bin(ts: NDArray[np.int64], period_ms: int, bins: int) -> NDArray[np.int64]:
    """(n,) number of the bin of a period that a time falls into."""
    number: NDArray[np.int64] = (ts % period_ms) * bins // period_ms
    return number
