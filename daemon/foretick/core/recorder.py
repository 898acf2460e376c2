"""What the group learns from: chunks of recent ticks, recorded as they pass, in memory that does not grow with S.

Each of R slots records one series at a time. A recording starts at any tick, keeps the state carried into it, and is
closed at the first learning cut that finds it full; the slot keeps its last D closed chunks. Up to R series each have
a slot for good; of more, a hash of the series id chooses who is recorded next.

Glossary
    R, D, T     slots, closed chunks kept per slot, ticks per chunk
    F, H        inputs, hidden units of all layers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe

IDLE_CUTS = 8  # cuts without a tick after which a series is not learned from, and its slot free for another
MIN_TICKS = 2  # an open chunk is learned from once it holds this many outcomes


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks to learn from, copied.

    Attributes:
        x: (B, T, F) float32 inputs.
        z: (B, T) float32 outcomes, in scales.
        length: (B,) int64 outcomes known in each chunk; what lies behind is padding.
        h: (B, H) float32 hidden states before the first tick.
        c: (B, H) float32 cell states before the first tick.
        far: (B, T, O − 1) float32 outcomes of the further horizons, each in scales of the tick; NaN where unknown.
    """

    x: NDArray[np.float32]
    z: NDArray[np.float32]
    length: NDArray[np.int64]
    h: NDArray[np.float32]
    c: NDArray[np.float32]
    far: NDArray[np.float32]


class Recorder:
    """R slots of D closed chunks and an open one. Ring position `cursor` of a slot is its open chunk."""

    def __init__(self, shape: Shape, recipe: LearnRecipe) -> None:
        R, D, T = recipe.slots, recipe.depth, recipe.chunk
        self.chunk = T
        self.row = np.full(R, -1, np.int64)  # series recorded now, −1 for none
        self.awake = np.zeros(R, np.bool_)  # that series ticked lately: only then is it learned from
        self.hash = np.zeros(R, np.uint64)  # of its id
        self.cursor = np.zeros(R, np.int64)
        self.inputs = np.zeros(R, np.int64)  # ticks in the open chunk
        self.outcomes = np.zeros(R, np.int64)  # how many of them have their outcome
        self.length = np.zeros((R, D + 1), np.int64)  # outcomes in closed chunks; 0 where none is closed yet
        self.x = np.zeros((R, D + 1, T, shape.inputs), np.float32)
        self.z = np.zeros((R, D + 1, T), np.float32)
        self.far = np.full((R, D + 1, T, shape.outputs - 1), np.nan, np.float32)
        self.since = np.zeros(R, np.int64)  # ticks since the open chunk began: full ones still wait for far outcomes
        self.h = np.zeros((R, D + 1, shape.carried), np.float32)
        self.c = np.zeros((R, D + 1, shape.carried), np.float32)

    def reveal(self, slot: NDArray[np.int32], z: NDArray[np.float32]) -> None:
        """Note the outcomes of the last recorded ticks of distinct slots."""
        waiting = self.inputs[slot] > self.outcomes[slot]
        slot, z = slot[waiting], z[waiting]
        self.z[slot, self.cursor[slot], self.outcomes[slot]] = z
        self.outcomes[slot] += 1

    def reveal_further(self, slot: NDArray[np.int32], z: NDArray[np.float32]) -> None:
        """Note the (n, O − 1) outcomes, h = 2 … O, that a tick of distinct slots has brought: of the ticks h before."""
        of = self.since[slot, None] - np.arange(2, z.shape[1] + 2)
        which, k = np.nonzero((of >= 0) & (of < self.chunk))
        self.far[slot[which], self.cursor[slot[which]], of[which, k], k] = z[which, k]

    def record(
        self, slot: NDArray[np.int32], x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> None:
        """Note the inputs of a tick of distinct slots, and the state carried into it where a chunk begins."""
        filled = self.inputs[slot]
        begins = filled == 0
        at = slot[begins], self.cursor[slot[begins]]
        self.far[at] = np.nan
        self.h[at] = h[begins]
        self.c[at] = c[begins]
        self.since[slot] += 1
        room = filled < self.chunk
        slot = slot[room]
        self.x[slot, self.cursor[slot], filled[room]] = x[room]
        self.inputs[slot] += 1

    def abort(self, slot: NDArray[np.int32]) -> None:
        """Forget the open chunks of slots whose series began anew."""
        self.inputs[slot] = self.outcomes[slot] = self.since[slot] = 0

    def release(self, slot: NDArray[np.int32]) -> None:
        """Let go of the series in these slots, which are forgotten; what was closed of them is still learned from."""
        self.row[slot] = -1
        self.abort(slot)

    def roll(self, arena: Arena, cut: int) -> None:
        """At a cut: close what is full, and give slots to the series that wait for one."""
        full = np.flatnonzero(self.inputs == self.chunk)
        self.length[full, self.cursor[full]] = self.outcomes[full]
        self.cursor[full] = (self.cursor[full] + 1) % self.length.shape[1]
        self.length[full, self.cursor[full]] = 0
        self.abort(full.astype(np.int32))
        self.awake = (self.row >= 0) & (arena.last_cut[self.row] >= cut - IDLE_CUTS)

        S = len(arena)
        waiting = np.flatnonzero((arena.slots[:S] < 0) & (arena.last_cut[:S] == cut))
        if len(waiting) == 0:
            return
        free = self._free(full)
        order = np.argsort(mix64(arena.hashes[waiting], cut), kind="stable")[: len(free)]
        chosen, free = waiting[order], free[: len(order)]
        former = self.row[free]
        arena.slots[former[former >= 0]] = -1
        self.abort(free.astype(np.int32))
        self.row[free] = chosen
        self.hash[free] = arena.hashes[chosen]
        self.awake[free] = True
        arena.slots[chosen] = free

    def _free(self, full: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots to hand out: never used, then those whose series fell silent, then just closed."""
        never = np.flatnonzero(self.row < 0)
        idle = np.flatnonzero((self.row >= 0) & ~self.awake)
        return np.concatenate([never, idle, np.setdiff1d(full, idle)])

    def batches(self, cut: int, steps: int) -> list[Batch]:
        """The chunks of one job: the latest and a past one of every slot, then `steps` − 1 times a past one."""
        latest = self._latest()
        return [
            self._batch(np.concatenate([latest, self._past(cut, 0)])),
            *(self._batch(self._past(cut, step)) for step in range(1, steps)),
        ]

    def _latest(self) -> NDArray[np.int64]:
        """(B, 2) slot and ring position of each slot's newest chunk: the open one once it has a few outcomes."""
        slots = np.arange(len(self.row))
        last_closed = (self.cursor - 1) % self.length.shape[1]
        position = np.where(self.outcomes >= MIN_TICKS, self.cursor, last_closed)
        known = self.awake & ((self.outcomes >= MIN_TICKS) | (self.length[slots, last_closed] > 0))
        at: NDArray[np.int64] = np.stack([slots, position], axis=1)[known]
        return at

    def _past(self, cut: int, step: int) -> NDArray[np.int64]:
        """(B, 2) slot and ring position of a random closed chunk of each slot that has one; else its open chunk."""
        slots = np.arange(len(self.row))
        closed = np.count_nonzero(self.length, axis=1)
        back = 1 + mix64(self.hash ^ mix64(np.uint64(step), cut), cut) % np.maximum(closed, 1).astype(np.uint64)
        position = (self.cursor - back.astype(np.int64)) % self.length.shape[1]
        position = np.where(closed > 0, position, self.cursor)
        known = self.awake & ((closed > 0) | (self.outcomes >= MIN_TICKS))
        at: NDArray[np.int64] = np.stack([slots, position], axis=1)[known]
        return at

    def _batch(self, at: NDArray[np.int64]) -> Batch:
        slot, position = at[:, 0], at[:, 1]
        length = np.where(position == self.cursor[slot], self.outcomes[slot], self.length[slot, position])
        # Fancy indexing copies: the loop may go on recording while the job is computed elsewhere.
        parts = {name: getattr(self, name)[slot, position] for name in ("x", "z", "h", "c", "far")}
        return Batch(length=length, **parts)

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The recorder's own arrays by name, for snapshots."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "chunk"}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become the recorder whose `state` this is."""
        for name, value in state.items():
            getattr(self, name)[...] = value


def mix64(value: NDArray[np.uint64] | np.uint64, salt: int) -> NDArray[np.uint64]:
    """A pseudo-random permutation of 64-bit numbers for each salt: the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.asarray(value, np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(salt + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)
