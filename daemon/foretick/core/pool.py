"""What a group of many series learns from: a first-in-first-out pool of chunks of whichever series a hash chose.

At each learning cut a few of the series that tick begin to be recorded, each in a slot, for the ticks of one chunk. A
full chunk goes into the pool, where it replaces the oldest. So memory and the work of a cut are the same whatever the
number of series, and any of them is learned from in its turn. A batch is drawn half from the newest chunks, half from
all.

The pool is kept in float16: it holds compressed inputs, states within ±1, and outcomes of which ±10 are learned from.

Glossary
    R, N, T     slots, chunks in the pool, ticks per chunk
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core.recorder import IDLE_CUTS, MIN_TICKS, Batch, Recorder, mix64

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe, PoolRecipe

_PARTS = ("x", "z", "h", "c", "far")


class Pool(Recorder):
    """R slots that record one chunk each, and the latest N chunks that were recorded."""

    def __init__(self, shape: Shape, recipe: LearnRecipe, pool: PoolRecipe) -> None:
        super().__init__(shape, replace(recipe, slots=pool.slots, depth=0))
        self._recipe = pool
        self._kept = {name: np.zeros((pool.chunks, *getattr(self, name).shape[2:]), np.float16) for name in _PARTS}
        self._kept_length = np.zeros(pool.chunks, np.int64)
        self.pushed = np.zeros(1, np.int64)  # chunks ever put into the pool: the newest is at this − 1, modulo N

    @property
    def filled(self) -> int:
        """Chunks in the pool."""
        return min(int(self.pushed[0]), self._recipe.chunks)

    def roll(self, arena: Arena, cut: int) -> None:
        """At a cut: move what is full into the pool, and begin to record other series."""
        full = np.flatnonzero(self.inputs == self.chunk)
        self._push(full)
        idle = (self.row >= 0) & (arena.last_cut[self.row] < cut - IDLE_CUTS)
        done = np.union1d(full, np.flatnonzero(idle))
        arena.slots[self.row[done]] = -1
        self.row[done] = -1
        self.abort(done.astype(np.int32))

        S = len(arena)
        waiting = np.flatnonzero((arena.slots[:S] < 0) & (arena.last_cut[:S] == cut))
        free = np.flatnonzero(self.row < 0)[: self._recipe.begins]
        if len(waiting) > len(free):
            # Also where many wait: sorting 10^6 hashes would take 100 ms.
            key = mix64(arena.hashes[waiting], cut)
            near = np.argpartition(key, len(free))[: len(free)] if len(free) else waiting[:0]
            waiting = waiting[near[np.argsort(key[near])]]
        else:
            waiting = waiting[np.argsort(mix64(arena.hashes[waiting], cut))]
        free = free[: len(waiting)]
        self.row[free] = waiting
        self.hash[free] = arena.hashes[waiting]
        arena.slots[waiting] = free

    def _push(self, slot: NDArray[np.int64]) -> None:
        first = int(self.pushed[0])
        at = (first + np.arange(len(slot))) % self._recipe.chunks
        for name, kept in self._kept.items():
            kept[at] = getattr(self, name)[slot, 0]
        self._kept_length[at] = self.outcomes[slot]
        self.pushed[0] = first + len(slot)

    def batches(self, cut: int, steps: int) -> list[Batch]:
        """The chunks of one job; while the pool holds few, open ones are learned from too."""
        opened = np.flatnonzero((self.row >= 0) & (self.outcomes >= MIN_TICKS))
        if self.filled >= self._recipe.newest:
            opened = opened[:0]
        return [self._batch(*self._drawn(cut, step, opened)) for step in range(steps)]

    def _drawn(self, cut: int, step: int, opened: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in the pool, and slots, of one batch; a chunk that is drawn twice counts once."""
        filled, recipe = self.filled, self._recipe
        total = filled + len(opened)
        if total == 0:
            return opened, opened
        random = mix64(np.arange(recipe.batch, dtype=np.uint64) ^ mix64(np.uint64(step), cut), cut)
        newest = min(total, recipe.newest)
        of = np.where(np.arange(recipe.batch) % 2, total, newest).astype(np.uint64)
        back = 1 + (random % of).astype(np.int64)  # open ones are the newest
        drawn = np.unique(total - back)
        closed = drawn[drawn < filled]
        position = (int(self.pushed[0]) - filled + closed) % recipe.chunks
        return position, opened[drawn[drawn >= filled] - filled]

    def _batch(self, position: NDArray[np.int64], slot: NDArray[np.int64]) -> Batch:  # type: ignore[override]
        parts = {
            name: np.concatenate([kept[position].astype(np.float32), getattr(self, name)[slot, 0]])
            for name, kept in self._kept.items()
        }
        return Batch(length=np.concatenate([self._kept_length[position], self.outcomes[slot]]), **parts)

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, for snapshots: of the pool only what is filled."""
        filled = self.filled
        kept = {f"kept_{name}": kept[:filled] for name, kept in self._kept.items()}
        return super().state | kept | {"kept_length": self._kept_length[:filled]}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become the pool whose `state` this is."""
        super().restore({name: value for name, value in state.items() if not name.startswith("kept_")})
        filled = self.filled
        for name, kept in self._kept.items():
            kept[:filled] = state[f"kept_{name}"]
        self._kept_length[:filled] = state["kept_length"]
