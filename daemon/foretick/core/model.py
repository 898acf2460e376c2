"""What a tick does to the series of a round: everything of the engine between two learning cuts.

Per tick, in this order: reveal the outcome and score the standing forecasts -> let the mix learn from it -> update
window and scaling -> one LSTM step from the carried state -> blend the experts -> the new standing forecasts. So a
forecast never sees its own target. Every row is computed with the same bits whatever is beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core import experts, scaling
from foretick.core.arena import Arena
from foretick.core.block import padded
from foretick.core.device import CPU
from foretick.core.horizon import Horizons
from foretick.core.horizon_scores import HorizonTally
from foretick.core.lstm_device import stepper_of
from foretick.core.outputs import output_names
from foretick.core.parts import exogenous_of, intervals_of, recorder_of, senses_of, shape_of
from foretick.core.scaling import RunningMeans, in_scales, rescale
from foretick.core.scores import Tally
from foretick.core.tracking import Tracking
from foretick.core.verdicts import FORECAST, in_order, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from foretick.core.block import Block
    from foretick.core.columns import Columns
    from foretick.core.ensemble_compact import Lesson
    from foretick.core.lstm import Stepper
    from foretick.core.recipe import Recipe
    from foretick.core.records import Forecasts, Ticks


class Model:
    """The state of a group's series, and the network that all of them step through.

    Args:
        recipe: constants.
        device: where the LSTM steps.

    Attributes:
        arena: the state of each series.
        recorder: what is learned from.
        tally: live accuracy.
        horizon_tally: the same of the further horizons.
        experts: names of the K experts.
        poisoned: rows whose state was reset because it was not finite.
        watch: told, round by round, the series that were forecast and the (n, K) weights of their experts.
    """

    def __init__(self, recipe: Recipe, device: str = CPU) -> None:
        self.recipe = recipe
        self._device = device
        self.shape = shape_of(recipe)
        self.experts = experts.names(recipe)
        self.poisoned = 0
        self.watch: Callable[[list[bytes], NDArray[np.float32]], None] | None = None
        self._place = {name: place for place, name in enumerate(self.experts)}
        self._prior = experts.priors(len(self.experts), recipe.mix)
        self._clip = np.float32(recipe.mix.clip)
        self._outputs = len(output_names(recipe.interval.levels, recipe.horizon))
        self.arena = Arena(recipe, len(self.experts))
        self._features, self._ensemble = senses_of(self.arena, recipe)
        self._exogenous = exogenous_of(self.arena, recipe)
        self.intervals = intervals_of(self.arena, recipe)
        self._horizons = Horizons(self.arena.table, recipe, self._features) if recipe.horizon > 1 else None
        self._means = RunningMeans(recipe)
        self._kept = 1.0 - np.array(recipe.scaling.average_rates)[:, None]  # share that a deviation keeps
        self.recorder = recorder_of(self.shape, recipe.learn)
        self.tally = Tally.empty(len(self.experts), len(recipe.interval.levels))
        self.horizon_tally = HorizonTally(recipe.horizon, recipe.interval.levels)
        self.stepper: Stepper

    def adopt(self, theta: Tensor) -> None:
        """Step through these weights from now on."""
        self.stepper = stepper_of(self.shape, theta, self._device)

    def weights(self, block: Columns) -> NDArray[np.float32]:
        """(K, n) the experts' weights in the standing forecasts of these columns."""
        return experts.weights(block, self._prior)

    def round(self, ticks: Ticks, rows: NDArray[np.int64], at: NDArray[np.int64], answer: Forecasts) -> None:
        """Take the ticks at these positions, each of another row, and write what is told of them into the answer.

        Args:
            ticks: n ticks.
            rows: (n,) their rows.
            at: (m,) positions among them, whose rows are ascending.
            answer: to all n.
        """
        places = padded(at)
        ts, block = ticks.ts[places], self.arena.gather(rows[places])
        if not in_order(block, ts, ticks.stamped[places]):
            verdict = judge(self.arena, rows[at], ticks.ts[at], ticks.stamped[at], self.recipe.late_run)
            answer.verdict[at] = verdict
            at = at[verdict == FORECAST]
            if len(at) == 0:
                return
            places = padded(at)
            ts, block = ticks.ts[places], self.arena.gather(rows[places])
        row, y, m = rows[places], ticks.y[places], len(at)
        y, others = (y, None) if y.ndim == 1 else (y[:, 0], y[:, 1:])
        [recorded] = (self.arena.slots[row[:m]] >= 0).nonzero()
        moves, anomaly = self._reveal(m, row, block, y, ts, recorded)
        told, weight = self._forecast(m, row, block, moves, others, anomaly, recorded)
        self.arena.scatter(row[:m], block)
        answer.values[places] = told.T
        answer.warm[places] = block["t"] >= self.recipe.cold_ticks
        if self.watch is not None:
            self.watch([ticks.series[i] for i in at.tolist()], weight.T)

    # Of the arrays below, the first m columns are series of the round; what lies behind them repeats the m-th.
    # `recorded` are the places of those that are learned from.

    def _reveal(
        self,
        m: int,
        row: NDArray[np.int64],
        block: Block,
        y: NDArray[np.float64],
        ts: NDArray[np.int64],
        recorded: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The actual arrives: score, let the mix and the experts learn, move everything on by one tick.

        Returns:
            (16, n) the latest moves where the features know them; (n,) the anomaly scores.
        """
        begun = self._begin(m, row, block, y, ts) if block.youngest < 0 else 0
        errors = y - block["standing"]
        d, error = errors
        z = self._outcome(d, block)
        recent = self._features.recall(row, block)
        settlement = self.intervals.settle(row, block, y, error)
        self.tally.cover(settlement.bounded[:m], settlement.held[:, :m])
        settled = self._horizons.settle(row[:m], block, y[:m]) if self._horizons else None
        if len(recorded):
            slot = self.arena.slots[row[recorded]]
            self.recorder.reveal(slot, z[recorded])
            if settled is not None:
                self.recorder.reveal_further(slot, settled.z[recorded])
        lesson = self._ensemble.meet(block, z, recent)

        block["t"] += 1
        block.youngest += 1
        np.subtract(ts, block["ts"], out=block["gap"])
        block["ts"][...] = ts
        block["y"][...] = y
        block["late_run"][...] = 0
        sizes, excess = np.abs(errors), block["phat"] - z
        self._average(block, sizes, excess, lesson)
        experts.update_mix(block, excess, self.recipe.mix)
        self._ensemble.learn(row[:m], block, z, lesson)
        self._features.observe(row, block, z)
        rescale(block, d, self._kept)
        self._score(m - begun, sizes[:, :m], block["move"][:m])
        if settled is not None:
            self.horizon_tally.add(settled, block["move"][:m])
        return self._features.take(row, block, d, recent), settlement.anomaly

    def _begin(
        self, m: int, row: NDArray[np.int64], block: Block, y: NDArray[np.float64], ts: NDArray[np.int64]
    ) -> int:
        """Let series without a tick begin as if they had stood at their first value for ever; how many do."""
        first = block["t"] < 0
        for name, value in (("y", y), ("yhat", y), ("ts", ts)):
            np.copyto(block[name], value, where=first)
        anew = row[:m][first[:m]]
        slot = self.arena.slots[anew]
        self.recorder.abort(slot[slot >= 0])
        self._ensemble.forget(anew)
        self._features.forget(anew)
        if self._horizons:
            self._horizons.forget(anew)
        return len(anew)

    def _outcome(self, d: NDArray[np.float64], block: Block) -> NDArray[np.float32]:
        """(n,) z: what the standing forecasts met, in scales, clipped."""
        clip, change = self.recipe.mix.clip, in_scales(d, block)
        return np.minimum(np.maximum(change, -clip, out=change), clip, out=change).astype(np.float32)

    def _average(
        self,
        block: Block,
        sizes: NDArray[np.float64],
        excess: NDArray[np.float32],
        lesson: Lesson | None,
    ) -> None:
        """Take what this tick tells of sizes into the running means: |d| and |y − ŷ|, p − z, and the gap."""
        values = np.empty_like(block["means"])
        values[scaling.MOVES] = sizes[0]
        values[scaling.SCALES] = scaling.bounded_size(sizes[0], block, self.recipe.scaling)
        values[scaling.ERROR] = sizes[1]
        values[scaling.SPACING] = np.maximum(block["gap"], 0)
        values[scaling.LOSS] = np.abs(excess)
        if isinstance(self.intervals, Tracking):
            values[scaling.RESIDUAL] = self.intervals.residual(block, sizes[1])
        if lesson is not None:
            values[scaling.SIZES] = lesson.size
        self._means.update(block, values)

    def _score(self, scored: int, sizes: NDArray[np.float64], move: NDArray[np.float64]) -> None:
        """Tally (2, m) errors in mean moves; series that never moved have none."""
        if np.minimum.reduce(move) > 0:
            sizes = sizes / move
        else:
            sizes = np.divide(sizes, move, out=np.zeros_like(sizes), where=move > 0)
        self.tally.add(scored, sizes)

    def _forecast(
        self,
        m: int,
        row: NDArray[np.int64],
        block: Block,
        moves: NDArray[np.float32],
        others: NDArray[np.float64] | None,
        anomaly: NDArray[np.float64],
        recorded: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Step the LSTM from the carried state, blend the experts, and let the forecasts stand.

        Returns:
            (C, n) what is told of each, in the order of `output_names`; (K, m) the weights of the experts.
        """
        heard = self._exogenous.take(row, block, others) if self._exogenous and others is not None else None
        sight = self._features.see(row, block, moves, heard)
        self._ensemble.forecast_linear(row[:m], block, sight)
        if len(recorded):
            x, h, c = (columns[:, recorded].T for columns in (sight.x, block["h"], block["c"]))
            self.recorder.record(self.arena.slots[row[recorded]], x, h, c)
        zhat, block["h"][...], block["c"][...] = self.stepper.step(sight.x, block["h"], block["c"])
        self._mend(m, block, zhat)
        self._ensemble.forecast_readout(row[:m], block, sight.x)
        weight, warm = self._blend(m, block, sight.seasonal, zhat)
        self.tally.weigh(weight[:, :m])
        self.intervals.bound(row[:m], block)
        told = np.empty((self._outputs, len(row)))
        told[0] = block["yhat"]
        if near := 2 * len(self.recipe.interval.levels):
            told[1 : near + 1] = self.intervals.told(block)
            told[near + 1] = anomaly
        if self._horizons:
            far = self._horizons.forecast(row[:m], block, self.stepper.further(sight.x, block["h"]), sight, warm)
            told[-far.shape[1] :] = far.take(np.minimum(np.arange(len(row)), m - 1), axis=0).T
        return told, weight[:, :m]

    def _mend(self, m: int, block: Block, zhat: NDArray[np.float32]) -> None:
        """Reset the state of series whose network came apart."""
        sound = np.isfinite(zhat)
        if np.logical_and.reduce(sound):
            return
        bad = ~sound
        self.poisoned += int(np.count_nonzero(bad[:m]))
        zhat[bad] = 0
        block["h"][:, bad] = 0
        block["c"][:, bad] = 0

    def _blend(
        self, m: int, block: Block, seasonal: NDArray[np.float64], zhat: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Let the next tick's forecast stand; (K, n) the weights of its experts, (n,) whether it is more than naive."""
        clip, expert = self._clip, block["expert"]
        expert[experts.SEASONAL_NAIVE] = seasonal
        if experts.EWMA in self._place:
            ewma = -block["deviation"][experts.EWMA_AVERAGE] * block["per_scale"]
            expert[self._place[experts.EWMA]] = ewma.clip(-clip, clip)
        np.minimum(np.maximum(zhat, -clip), clip, out=expert[self._place[experts.LSTM]])
        weight = self.weights(block)
        phat = block["phat"]
        np.einsum("kn,kn->n", weight, expert, out=phat)
        np.minimum(np.maximum(phat, -clip, out=phat), clip, out=phat)
        warm = (block["t"] >= self.recipe.cold_ticks) & (block["per_scale"] > 0)
        phat *= warm
        np.add(block["y"], block["scale"] * phat, out=block["yhat"])
        sound = np.isfinite(block["numbers"])
        if not np.logical_and.reduce(sound, axis=None):
            self._heal(m, block, weight, sound)
        return weight, warm

    def _heal(self, m: int, block: Block, weight: NDArray[np.float32], sound: NDArray[np.bool_]) -> None:
        """Reset what is not finite of series of which anything is, and their mix; naive for once."""
        lost = ~np.logical_and.reduce(sound, axis=0)
        self.poisoned += int(np.count_nonzero(lost[:m]))
        self._ensemble.mend(block)
        block["numbers"][~sound] = 0
        for name in ("expert", "regret", "regret_square", "phat"):
            block[name][..., lost] = 0
        weight[:, lost] = self._prior / np.add.reduce(self._prior)
        np.copyto(block["scale"], block["move"], where=lost & (block["scale"] == 0))
        np.copyto(block["yhat"], block["y"], where=lost)
        scaling.invert(block)
