"""The engine: ticks in, forecasts out, and nothing but the stream decides which.

Per tick, in this order: reveal the outcome and score the standing forecast -> let the mix learn from it -> update
window and scaling -> one LSTM step from the carried state -> blend the experts -> the new standing forecast. So a
forecast never sees its own target.

A batch is split where learning jobs are cut (`schedule`) and between cuts into rounds in which each series appears at
most once; a round is computed for all its series together. Every row is computed with the same bits whatever is beside
it, and decisions that concern the group fall only at cuts; so any batching gives the same forecasts.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core import experts
from foretick.core.arena import Arena
from foretick.core.learner import InlineTrainer, Job, Knowledge, Trainer, learning_rate
from foretick.core.life import Life
from foretick.core.lstm import ROWS_AT_ONCE, Shape, Stepper, init_weights
from foretick.core.outputs import output_names
from foretick.core.parts import intervals_of, recorder_of, senses_of, shape_of
from foretick.core.recipe import Recipe
from foretick.core.records import Forecasts, Ticks, Verdict
from foretick.core.scaling import TINY, outcome, update_scaling
from foretick.core.schedule import Schedule
from foretick.core.scores import GroupScores, SeriesStates, Tally, update_means
from foretick.core.snapshots import Room, Snapshot, shaping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretick.core.arena import Block

_FORECAST = int(Verdict.FORECAST)  # comparing an array with the enum itself takes ten times as long


class Engine:
    """One group of series: their state, their shared network and its learning.

    Args:
        recipe: constants of the model.
        trainer: computes learning jobs; inline if absent.
        group: name in metrics.
        init: what the network begins with; seeded noise and a head of zeros if absent.

    Attributes:
        outputs: names of the columns of its forecasts.
        experts: names of the K experts.
        watch: told, round by round, the series that were forecast and the (n, K) weights of their experts; the daemon
            has none.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        trainer: Trainer | None = None,
        group: str = "default",
        init: Knowledge | None = None,
    ) -> None:
        self.recipe = recipe or Recipe()
        self.group = group
        self.shape = self.shape_of(self.recipe)
        self.poisoned = 0  # rows whose state was reset, and jobs that were thrown away, because they were not finite
        self._trainer = trainer or InlineTrainer(self.shape, self.recipe.learn)
        self.experts = experts.names(self.recipe)
        self.watch: Callable[[list[bytes], NDArray[np.float32]], None] | None = None
        self._place = {name: place for place, name in enumerate(self.experts)}
        self._arena = Arena(self.recipe, len(self.experts))
        self._features, self._ensemble = senses_of(self._arena, self.recipe)
        self._intervals = intervals_of(self._arena, self.recipe)
        self.outputs = output_names(self.recipe.interval.levels)
        self._recorder = recorder_of(self.shape, self.recipe.learn)
        # What has learned before is not in the hurry of a group's first ticks, whose steps would tear it down again.
        self._schedule = Schedule(t=float(self.recipe.learn.early_until) if init else 0.0)
        self._life = Life(self.recipe.ttl_ms)
        self._expired = 0  # series that were forgotten
        self._tally = Tally.empty(len(self.experts), len(self.recipe.interval.levels))
        self._prior = experts.priors(len(self.experts), self.recipe.mix)
        self._job: Job | None = None
        self._knowledge = init or Knowledge.fresh(init_weights(self.shape, self.recipe.seed))
        self._stepper = Stepper(self.shape, self._knowledge.theta)

    @staticmethod
    def shape_of(recipe: Recipe) -> Shape:
        """Sizes of the network, which a trainer has to share."""
        return shape_of(recipe)

    @property
    def series_count(self) -> int:
        """Series that have a row."""
        return self._arena.live

    def limit(self, series: int) -> None:
        """Turn new series away where this many have a row."""
        self._arena.max_series = series

    def unknown(self, series: Iterable[bytes]) -> set[bytes]:
        """Those of the series ids that have no row."""
        return self._arena.unknown(series)

    def scores(self) -> list[GroupScores]:
        """Live accuracy so far."""
        active = self._schedule.lately if self.recipe.learn.enabled else self._arena.live
        scores = self._tally.scores(self.group, active, self.experts, self.recipe.interval.levels)
        return [replace(scores, series_expired=self._expired)]

    def series(self) -> list[SeriesStates]:
        """How each series fares, for another thread to look at while this one goes on."""
        records = self._arena.records
        means = records["mean_error"], records["mean_naive"]
        return [SeriesStates(self.group, self._arena.names, self._arena.last_ms, records["t"], *means)]

    def opinions(self, series: Sequence[bytes]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Of series that have a row: (n,) the running scales, and (n, K) the experts' standing forecasts in scales."""
        block = self._arena.records[self._arena.find(series)]
        return block["scale"], block["expert"]

    def advance(self, ticks: Ticks) -> Forecasts:
        """Take a batch of ticks, in entry-id order, and forecast each series' next value after each of them."""
        answer = Forecasts.empty(len(ticks), self.outputs)
        for start, stop, horizon_ms in self._life.eras(ticks.ms):
            if horizon_ms is not None:
                self._forget(horizon_ms)
            if stop - start == len(ticks):
                self._advance(ticks, answer)
            else:
                self._advance(ticks.slice(start, stop), answer.slice(start, stop))
        return answer

    def _forget(self, horizon_ms: int) -> None:
        """Forget the series that last ticked before the horizon: when they come back, they begin anew."""
        rows = self._arena.forget(horizon_ms)
        slot = self._arena.slots[rows]
        self._recorder.release(slot[slot >= 0])
        self._arena.slots[rows] = -1
        self._expired += len(rows)

    def _advance(self, ticks: Ticks, answer: Forecasts) -> None:
        """Answer the ticks of a part of the batch in which no series is forgotten."""
        rows = self._arena.admit(ticks.series, ticks.ms)
        answer.verdict[rows < 0] = Verdict.TOO_MANY_SERIES
        at = np.flatnonzero(rows >= 0)
        learn = self.recipe.learn
        while len(at):
            stop = self._schedule.take(self._arena, rows[at], ticks.ms[at], learn) if learn.enabled else len(at)
            for members in _rounds(rows[at[:stop]]):
                self._round(ticks, rows, at[:stop][members], answer)
            at = at[stop:]
            if len(at):
                self._cut()

    # One round: every row once.

    def _round(self, ticks: Ticks, rows: NDArray[np.int64], at: NDArray[np.int64], answer: Forecasts) -> None:
        block = self._arena.gather(rows[at])
        verdict = self._judge(block, ticks.ts[at], ticks.stamped[at])
        answer.verdict[at] = verdict
        if verdict.any():
            refused = verdict != _FORECAST
            self._arena.scatter(rows[at[refused]], block[refused])
            at, block = at[~refused], block[~refused]
            if len(at) == 0:
                return
        row = rows[at]
        self._reveal(row, block, ticks.y[at], ticks.ts[at])
        weight = self._forecast(row, block)
        self._arena.scatter(row, block)
        answer.values[at] = self._values(block)
        answer.warm[at] = block["t"] >= self.recipe.cold_ticks
        if self.watch is not None:
            self.watch([ticks.series[i] for i in at.tolist()], weight)

    def _values(self, block: Block) -> NDArray[np.float64]:
        """(n, C) what is told of each standing forecast, in the order of `output_names`."""
        L = len(self.recipe.interval.levels)
        if not L:
            return block["yhat"][:, None]
        return np.concatenate(
            [block["yhat"][:, None], self._intervals.told(block), block["anomaly"][:, None]], axis=1, dtype=np.float64
        )

    def _judge(self, block: Block, ts: NDArray[np.int64], stamped: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(n,) verdicts; a series whose clock was set back begins anew after `late_run` late ticks."""
        known = stamped & (block["t"] >= 0)
        late = known & (ts < block["ts"])
        verdict = np.zeros(len(block), np.uint8)
        verdict[known & (ts == block["ts"])] = Verdict.DUPLICATE
        if late.any():
            anew = late & (block["late_run"] >= self.recipe.late_run)
            block[anew] = self._arena.blank(int(anew.sum()))
            late &= ~anew
            verdict[late] = Verdict.LATE
            block["late_run"][late] += 1
        block["late_run"][verdict == _FORECAST] = 0
        return verdict

    def _reveal(self, row: NDArray[np.int64], block: Block, y: NDArray[np.float64], ts: NDArray[np.int64]) -> None:
        """The actual arrives: score, let the mix learn, move window, scaling and seasons on by one tick."""
        first = block["t"] < 0
        d = np.where(first, 0.0, y - block["y"])
        z = outcome(d, block["scale"])
        error = y - block["yhat"]
        clipped = z.clip(-self.recipe.mix.clip, self.recipe.mix.clip).astype(np.float32)
        slot = self._arena.slots[row]
        if first.any():
            self._recorder.abort(slot[(slot >= 0) & first])
            self._ensemble.forget(row[first])
            self._features.forget(row[first])
        self._tally.cover(*self._intervals.settle(row, block, y))
        recorded = slot >= 0
        if recorded.any():
            self._recorder.reveal(slot[recorded], clipped[recorded])

        block["t"] += 1
        update_means(block, error, d)
        experts.update_mix(block, clipped, self.recipe.mix)
        self._ensemble.learn(row, block, clipped)
        self._features.observe(row, block, clipped)
        block["gap"] = np.where(first, 0, ts - block["ts"])
        block["ts"] = ts
        block["y"] = y
        update_scaling(block, d, self.recipe.scaling)
        moved = ~first & (block["move"] > 0)
        self._tally.add(int((~first).sum()), error[moved] / block["move"][moved], d[moved] / block["move"][moved])
        self._features.take(row, block, d)

    def _forecast(self, row: NDArray[np.int64], block: Block) -> NDArray[np.float32]:
        """Step the LSTM from the carried state, blend the experts, and let the forecast stand; (n, K) their weights."""
        sight = self._features.see(row, block)
        self._ensemble.forecast_linear(row, block, sight)
        x = sight.x
        slot = self._arena.slots[row]
        recorded = slot >= 0
        if recorded.any():
            self._recorder.record(slot[recorded], x[recorded], block["h"][recorded], block["c"][recorded])
        zhat, h, c = self._stepper.step(x, block["h"], block["c"])
        bad = ~np.isfinite(zhat)
        if bad.any():
            self.poisoned += int(bad.sum())
            zhat[bad], h[bad], c[bad] = 0, 0, 0
        block["h"], block["c"] = h, c
        self._ensemble.forecast_readout(row, block, x)

        clip = self.recipe.mix.clip
        known = block["scale"] > TINY
        expert = block["expert"]
        expert[:, experts.SEASONAL_NAIVE] = sight.seasonal
        if experts.EWMA in self._place:
            ewma = -block["deviation"][:, experts.EWMA_AVERAGE] / np.where(known, block["scale"], 1.0)
            expert[:, self._place[experts.EWMA]] = ewma.clip(-clip, clip)
        expert[:, self._place[experts.LSTM]] = zhat.clip(-clip, clip)
        weight = experts.weights(block, self._prior, self.recipe.mix)
        warm = known & (block["t"] >= self.recipe.cold_ticks)
        phat = np.where(warm, (weight * expert).sum(axis=1), 0).clip(-clip, clip).astype(np.float32)
        block["phat"] = phat
        block["yhat"] = block["y"] + block["scale"] * phat
        self._tally.weigh(weight)
        self._intervals.bound(row, block)
        return weight

    # Learning: only here do series meet.

    def _cut(self) -> None:
        """Adopt what the last job learned, and cut the next one."""
        cut = self._schedule.cuts
        if self._job is not None:
            self._adopt(self._trainer.collect())
        self._recorder.roll(self._arena, cut)
        self._schedule.cut()
        learn = self.recipe.learn
        batches = self._recorder.batches(cut, learn.steps)
        rate = learning_rate(self._schedule.t, learn)
        self._job = Job(number=cut, knowledge=self._knowledge, rate=rate, batches=batches)
        self._trainer.submit(self._job)

    def _adopt(self, knowledge: Knowledge) -> None:
        """Forecast with these weights from now on; if they are not sound, stay with the last sound ones."""
        if not knowledge.sound:
            self.poisoned += 1
            knowledge = Knowledge.fresh(self._knowledge.theta)
        self._knowledge = knowledge
        self._stepper = Stepper(self.shape, knowledge.theta)

    # Snapshots.

    @property
    def layout(self) -> dict[str, Any]:
        """What a snapshot has to share with this engine for `restore` to make sense of it, as JSON values."""
        return shaping(self.recipe) | {"experts": list(self.experts), "record": str(self._arena.dtype.descr)}

    def begin_snapshot(self, room: Room) -> None:
        """Have `room` note what can be copied while the engine goes on."""
        room.begin(self._rows, self._arena.touched)

    def is_close(self, room: Room) -> bool:
        """Whether a snapshot into `room` would be quick by now."""
        return room.is_close(self._rows, self._arena.touched)

    @property
    def _rows(self) -> dict[str, NDArray[Any]]:
        return {f"arena.{name}": value for name, value in self._arena.rows.items()}

    def snapshot(self, room: Room | None = None) -> Snapshot:
        """Everything carried, copied into `room`. Weights and job are never changed in place and need no copy."""
        whole = {f"arena.{name}": value for name, value in self._arena.marks.items()}
        whole |= {f"recorder.{name}": value for name, value in self._recorder.state.items()}
        whole |= {"tally.weight": self._tally.weight, "tally.covered": self._tally.covered}
        whole["names.bytes"] = self._arena.name_bytes
        numbers = {
            "schedule": asdict(self._schedule),
            "tally": self._tally.numbers,
            "engine": {"poisoned": self.poisoned, "expired": self._expired},
        }
        arrays = (room or Room()).take(self._rows, whole, self._arena.touched)
        return Snapshot(arrays, numbers, self._knowledge, self._job)

    def restore(self, snapshot: Snapshot) -> None:
        """Become the engine that `snapshot` was taken from. This one must be fresh, and of the same recipe."""
        own: dict[str, dict[str, NDArray[Any]]] = {name.partition(".")[0]: {} for name in snapshot.arrays}
        for name, value in snapshot.arrays.items():
            part, _, field = name.partition(".")
            own[part][field] = value
        self._arena.restore(snapshot.names_by_row, own["arena"])
        self._recorder.restore(own["recorder"])
        self._schedule = Schedule(**snapshot.numbers["schedule"])
        weight, covered = (own["tally"][name].copy() for name in ("weight", "covered"))
        self._tally = Tally(weight, covered, **snapshot.numbers["tally"])
        self.poisoned, self._expired = (int(snapshot.numbers["engine"][name]) for name in ("poisoned", "expired"))
        self._adopt(snapshot.knowledge)
        self._job = snapshot.job
        if self._job is not None:
            self._trainer.submit(self._job)


def _rounds(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of ticks, split so that no row appears twice in a round and each row's ticks keep their order."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    position = np.arange(len(rows))
    begins = np.diff(ordered, prepend=-1) != 0
    rank = position - np.maximum.accumulate(np.where(begins, position, 0))
    by_rank = order[np.argsort(rank, kind="stable")]
    ends = np.cumsum(np.bincount(rank))
    for start, end in pairwise([0, *ends]):
        for first in range(start, end, ROWS_AT_ONCE):
            yield by_rank[first : min(first + ROWS_AT_ONCE, end)]
