"""When a learning job is cut: a function of the stream alone, so that any batching cuts at the same ticks.

With t counting the group's ticks per active series, a cut falls every `learn.every` of t, always between two
milliseconds of the entry ids (so that merging several streams, or reading them in pieces, cannot move it). Active are
the series that ticked since the last cut; series that fell silent are forgotten by half at each cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.recipe import LearnRecipe


@dataclass(slots=True)
class Schedule:
    """The clock of one group's learning.

    Attributes:
        cuts: number of cuts so far; also the number of the next one.
        t: ticks per active series up to the last cut.
        ticks: ticks since the last cut.
        distinct: series that ticked since the last cut.
        before: series that ticked between the last cut and the one before.
        floor: active series that are remembered from before the last cut.
        last_ms: milliseconds part of the last entry id.
    """

    cuts: int = 0
    t: float = 0.0
    ticks: int = 0
    distinct: int = 0
    before: int = 0
    floor: int = 0
    last_ms: int = -1

    @property
    def active(self) -> int:
        """Active series, at least one."""
        return max(self.distinct, self.floor, 1)

    @property
    def lately(self) -> int:
        """Series that ticked lately, for people to look at: it does not fall at each cut."""
        return max(self.distinct, self.before)

    def take(self, arena: Arena, rows: NDArray[np.int64], ms: NDArray[np.int64], recipe: LearnRecipe) -> int:
        """Count ticks up to the next cut, or all of them.

        Args:
            arena: marks which series have ticked since the last cut.
            rows: (n,) rows of the ticks in entry order.
            ms: (n,) milliseconds parts of their entry ids.
            recipe: constants.

        Returns:
            How many ticks come before the cut; n and no cut due when `due` stays false.
        """
        every = recipe.early_every if self.t < recipe.early_until else recipe.every
        n = len(rows)
        stop = n if self.ticks + n < every * self.active else self._find(arena, rows, ms, every)
        if stop:
            fresh = rows[:stop][arena.last_cut[rows[:stop]] != self.cuts]
            self.distinct += len(np.unique(fresh))
            arena.last_cut[fresh] = self.cuts
            self.ticks += stop
            self.last_ms = int(ms[stop - 1])
        return stop

    def _find(self, arena: Arena, rows: NDArray[np.int64], ms: NDArray[np.int64], every: int) -> int:
        """Position of the first tick of a new millisecond that finds enough ticks before it; n if none does."""
        fresh = arena.last_cut[rows] != self.cuts
        first = np.zeros(len(rows), np.bool_)
        first[np.unique(rows, return_index=True)[1]] = True
        before = np.cumsum(fresh & first) - (fresh & first)
        active = np.maximum(self.distinct + before, max(self.floor, 1))
        enough = self.ticks + np.arange(len(rows)) >= every * active
        boundary = np.diff(ms, prepend=self.last_ms) != 0
        hits = np.flatnonzero(enough & boundary)
        return int(hits[0]) if len(hits) else len(rows)

    def cut(self) -> None:
        """Begin the next interval."""
        self.t += self.ticks / self.active
        self.floor = self.active // 2
        self.before = self.distinct
        self.cuts += 1
        self.ticks = self.distinct = 0
