"""What a tick does to the series of a round: everything of the engine between two learning cuts.

Per tick, in this order: reveal the outcome and score the standing forecasts -> let the mix learn from it -> update
window and scaling -> one LSTM step from the carried state -> blend the experts -> the new standing forecasts. So a
forecast never sees its own target. Every row is computed with the same bits whatever is beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core import experts
from foretick.core.arena import Arena
from foretick.core.horizon import Horizons
from foretick.core.horizon_scores import HorizonTally
from foretick.core.lstm import Stepper
from foretick.core.parts import exogenous_of, intervals_of, recorder_of, senses_of, shape_of
from foretick.core.scaling import TINY, outcome, update_scaling
from foretick.core.scores import Tally, update_means
from foretick.core.verdicts import FORECAST, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from foretick.core.arena import Block
    from foretick.core.recipe import Recipe
    from foretick.core.records import Forecasts, Ticks

_SPACING_RATE = 0.02  # ~50 ticks


class Model:
    """The state of a group's series, and the network that all of them step through.

    Args:
        recipe: constants.

    Attributes:
        arena: the state of each series.
        recorder: what is learned from.
        tally: live accuracy.
        horizon_tally: the same of the further horizons.
        experts: names of the K experts.
        poisoned: rows whose state was reset because it was not finite.
        watch: told, round by round, the series that were forecast and the (n, K) weights of their experts.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.shape = shape_of(recipe)
        self.experts = experts.names(recipe)
        self.poisoned = 0
        self.watch: Callable[[list[bytes], NDArray[np.float32]], None] | None = None
        self._place = {name: place for place, name in enumerate(self.experts)}
        self._prior = experts.priors(len(self.experts), recipe.mix)
        self.arena = Arena(recipe, len(self.experts))
        self._features, self._ensemble = senses_of(self.arena, recipe)
        self._exogenous = exogenous_of(self.arena, recipe)
        self.intervals = intervals_of(self.arena, recipe)
        self._horizons = Horizons(self.arena.table, recipe, self._features) if recipe.horizon > 1 else None
        self.recorder = recorder_of(self.shape, recipe.learn)
        self.tally = Tally.empty(len(self.experts), len(recipe.interval.levels))
        self.horizon_tally = HorizonTally(recipe.horizon, recipe.interval.levels)
        self.stepper: Stepper

    def adopt(self, theta: Tensor) -> None:
        """Step through these weights from now on."""
        self.stepper = Stepper(self.shape, theta)

    def weights(self, block: Block) -> NDArray[np.float32]:
        """(n, K) the experts' weights in the standing forecasts of these records."""
        return experts.weights(block, self._prior, self.recipe.mix)

    def round(self, ticks: Ticks, rows: NDArray[np.int64], at: NDArray[np.int64], answer: Forecasts) -> None:
        """Take the ticks at these positions, each of another row, and write what is told of them into the answer.

        Args:
            ticks: n ticks.
            rows: (n,) their rows.
            at: (m,) positions among them, whose rows are ascending.
            answer: to all n.
        """
        block = self.arena.gather(rows[at])
        verdict = judge(self.arena, block, ticks.ts[at], ticks.stamped[at], self.recipe.late_run)
        answer.verdict[at] = verdict
        if verdict.any():
            refused = verdict != FORECAST
            self.arena.scatter(rows[at[refused]], block[refused])
            at, block = at[~refused], block[~refused]
            if len(at) == 0:
                return
        row = rows[at]
        y = ticks.y[at]
        y, beside = (y, None) if y.ndim == 1 else (y[:, 0], y[:, 1:])
        self._reveal(row, block, y, ticks.ts[at])
        answer.values[at], weight = self._forecast(row, block, beside)
        self.arena.scatter(row, block)
        answer.warm[at] = block["t"] >= self.recipe.cold_ticks
        if self.watch is not None:
            self.watch([ticks.series[i] for i in at.tolist()], weight)

    def _reveal(self, row: NDArray[np.int64], block: Block, y: NDArray[np.float64], ts: NDArray[np.int64]) -> None:
        """The actual arrives: score, let the mix learn, move window, scaling and seasons on by one tick."""
        first = block["t"] < 0
        d = np.where(first, 0.0, y - block["y"])
        z = outcome(d, block["scale"])
        error = y - block["yhat"]
        clipped = z.clip(-self.recipe.mix.clip, self.recipe.mix.clip).astype(np.float32)
        slot = self.arena.slots[row]
        if first.any():
            self.recorder.abort(slot[(slot >= 0) & first])
            self._ensemble.forget(row[first])
            self._features.forget(row[first])
            if self._horizons:
                self._horizons.forget(row[first])
        self.tally.cover(*self.intervals.settle(row, block, y))
        settled = self._horizons.settle(row, block, y) if self._horizons else None
        recorded = slot >= 0
        if recorded.any():
            self.recorder.reveal(slot[recorded], clipped[recorded])
            if settled is not None:
                self.recorder.reveal_further(slot[recorded], settled.z[recorded])

        block["t"] += 1
        update_means(block, error, d)
        experts.update_mix(block, clipped, self.recipe.mix)
        self._ensemble.learn(row, block, clipped)
        self._features.observe(row, block, clipped)
        block["gap"] = gap = np.where(first, 0, ts - block["ts"])
        share = np.maximum(_SPACING_RATE, 1.0 / np.maximum(block["t"], 1))
        block["spacing"] += share * (np.maximum(gap, 0) - block["spacing"])
        block["ts"] = ts
        block["y"] = y
        update_scaling(block, d, self.recipe.scaling)
        moved = ~first & (block["move"] > 0)
        self.tally.add(int((~first).sum()), error[moved] / block["move"][moved], d[moved] / block["move"][moved])
        if settled is not None:
            self.horizon_tally.add(settled, block["move"])
        self._features.take(row, block, d)

    def _forecast(
        self, row: NDArray[np.int64], block: Block, beside: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Step the LSTM from the carried state, blend the experts, and let the forecasts stand.

        Returns:
            (n, C) what is told of each, in the order of `output_names`; (n, K) the weights of the experts.
        """
        heard = self._exogenous.take(row, block, beside) if self._exogenous and beside is not None else None
        sight = self._features.see(row, block, heard)
        self._ensemble.forecast_linear(row, block, sight)
        x = sight.x
        slot = self.arena.slots[row]
        recorded = slot >= 0
        if recorded.any():
            self.recorder.record(slot[recorded], x[recorded], block["h"][recorded], block["c"][recorded])
        zhat, h, c = self.stepper.step(x, block["h"], block["c"])
        bad = ~np.isfinite(zhat)
        if bad.any():
            self.poisoned += int(bad.sum())
            zhat[bad], h[bad], c[bad] = 0, 0, 0
        block["h"], block["c"] = h, c
        self._ensemble.forecast_readout(row, block, x)
        weight, warm = self._blend(block, sight.seasonal, zhat)
        self.intervals.bound(row, block)
        told = [block["yhat"][:, None]]
        if self.recipe.interval.levels:
            told += [self.intervals.told(block), block["anomaly"][:, None]]
        if self._horizons:
            told.append(self._horizons.forecast(row, block, self.stepper.further(x, h), sight, warm))
        return np.concatenate(told, axis=1, dtype=np.float64), weight

    def _blend(
        self, block: Block, seasonal: NDArray[np.float64], zhat: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Let the next tick's forecast stand; (n, K) the weights of its experts, (n,) whether it is more than naive."""
        clip = self.recipe.mix.clip
        known = block["scale"] > TINY
        expert = block["expert"]
        expert[:, experts.SEASONAL_NAIVE] = seasonal
        if experts.EWMA in self._place:
            ewma = -block["deviation"][:, experts.EWMA_AVERAGE] / np.where(known, block["scale"], 1.0)
            expert[:, self._place[experts.EWMA]] = ewma.clip(-clip, clip)
        expert[:, self._place[experts.LSTM]] = zhat.clip(-clip, clip)
        weight = self.weights(block)
        warm = known & (block["t"] >= self.recipe.cold_ticks)
        phat = np.where(warm, (weight * expert).sum(axis=1), 0).clip(-clip, clip).astype(np.float32)
        block["phat"] = phat
        block["yhat"] = block["y"] + block["scale"] * phat
        self.tally.weigh(weight)
        return weight, warm
