"""The engine: ticks in, forecasts out, and nothing but the stream decides which.

A batch is split where series are forgotten (`life`), where learning jobs are cut (`schedule`), and between cuts into
rounds in which each series appears at most once (`rounds`); a round is computed for all its series together (`model`).
Every row is computed with the same bits whatever is beside it, and decisions that concern the group fall only at cuts
and eras; so any batching gives the same forecasts.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core.block import ROW_BLOCK
from foretick.core.device import CPU
from foretick.core.learner import InlineTrainer, Job, Knowledge, Trainer, learning_rate
from foretick.core.life import Life
from foretick.core.model import Model
from foretick.core.outputs import output_names
from foretick.core.parts import shape_of, weights_of
from foretick.core.recipe import Recipe
from foretick.core.records import Forecasts, Ticks, Verdict
from foretick.core.rounds import rounds
from foretick.core.schedule import Schedule
from foretick.core.scores import GroupScores, SeriesStates, Tally
from foretick.core.snapshots import Room, Snapshot, shaping
from foretick.core.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from foretick.core.lstm import Shape


class Engine:
    """One group of series: their state, their shared network and its learning.

    Args:
        recipe: constants of the model.
        trainer: computes learning jobs; inline if absent.
        group: name in metrics.
        init: what the network begins with; seeded noise and a head of zeros if absent.
        carried: names of the columns of `Ticks.y`, where they are more than the recipe's features.
        device: torch's name of where the LSTM steps and learns; no part of its state.

    Attributes:
        outputs: names of the columns of its forecasts.
        experts: names of the K experts.
        on_forget: told the series ids that were forgotten, where somebody keeps accounts of them.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        trainer: Trainer | None = None,
        group: str = "default",
        init: Knowledge | None = None,
        carried: Sequence[str] | None = None,
        device: str = CPU,
    ) -> None:
        self.recipe = recipe = recipe or Recipe()
        self.group = group
        self.shape = shape_of(recipe)
        self._inner_outputs = output_names(recipe.interval.levels, recipe.horizon)
        self._targets = Targets(carried or recipe.features, recipe, self._inner_outputs)
        self.outputs = self._targets.names
        self._trainer = trainer or InlineTrainer(self.shape, recipe.learn, device)
        self._model = Model(recipe, device)
        self.experts = self._model.experts
        self._arena, self._recorder = self._model.arena, self._model.recorder
        # What has learned before is not in the hurry of a group's first ticks, whose steps would tear it down again.
        self._schedule = Schedule(t=float(self.recipe.learn.early_until) if init else 0.0)
        self._life = Life(recipe.ttl_ms)
        self._expired = 0  # series that were forgotten
        self.on_forget: Callable[[list[bytes]], object] | None = None
        self._thrown_away = 0  # jobs, because they were not finite
        self._job: Job | None = None
        self._knowledge = init or Knowledge.fresh(weights_of(recipe))
        self._model.adopt(self._knowledge.theta)
        self.limit(recipe.max_series)

    @staticmethod
    def shape_of(recipe: Recipe) -> Shape:
        """Sizes of the network, which a trainer has to share."""
        return shape_of(recipe)

    @property
    def poisoned(self) -> int:
        """Rows whose state was reset, and jobs that were thrown away, because they were not finite."""
        return self._model.poisoned + self._thrown_away

    @property
    def watch(self) -> Callable[[list[bytes], NDArray[np.float32]], None] | None:
        """Told, round by round, the series that were forecast and the (n, K) weights of their experts.

        Of several targets each is told as `names_of` names it. The daemon has none.
        """
        return self._model.watch

    @watch.setter
    def watch(self, watch: Callable[[list[bytes], NDArray[np.float32]], None] | None) -> None:
        self._model.watch = watch

    @property
    def series_count(self) -> int:
        """Series that have a row."""
        return self._arena.live // self._targets.count

    def limit(self, series: int) -> None:
        """Turn new series away where this many have a row."""
        self._arena.max_series = series * self._targets.count

    def unknown(self, series: Iterable[bytes]) -> set[bytes]:
        """Those of the series ids that have no row."""
        series = set(series)
        inner = dict(zip(self._targets.names_of(series), series, strict=True))
        return {inner[name] for name in self._arena.unknown(inner)}

    def scores(self) -> list[GroupScores]:
        """Live accuracy so far."""
        active = self._schedule.lately if self.recipe.learn.enabled else self._arena.live
        scores = self._model.tally.scores(self.group, active, self.experts, self.recipe.interval.levels)
        return [replace(scores, series_expired=self._expired, horizons=self._model.horizon_tally.scores())]

    def series(self) -> list[SeriesStates]:
        """How each series fares, for another thread to look at while this one goes on."""
        names = self._arena.names
        changes = names.changes.copy()  # before the rows: a series that comes meanwhile is seen by the next who asks
        records = self._arena.records
        return [
            SeriesStates(
                group=self.group,
                names=names.by_row,
                last_ms=self._arena.last_ms,
                t=records["t"],
                mean_error=records["mean_error"],
                mean_naive=records["mean_naive"],
                changes=changes,
            )
        ]

    def opinions(self, series: Sequence[bytes]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Of series that have a row: (n,) the running scales, and (n, K) the experts' standing forecasts in scales.

        Of several targets, of the first.
        """
        records = self._arena.records[self._arena.find(self._targets.names_of(series))]
        return records["scale"], records["expert"]

    def weights(self, name: bytes) -> dict[str, float]:
        """The experts' weights in a standing forecast, for another thread; none where `SeriesStates.names` lacks it."""
        [row] = self._arena.find([name]).tolist()
        if row < 0:
            return {}
        records = self._arena.records[[row] * ROW_BLOCK]
        weights = self._model.weights({f: np.ascontiguousarray(records[f].T) for f in ("regret", "regret_square")})
        return dict(zip(self.experts, weights[:, 0].tolist(), strict=True))

    def advance(self, ticks: Ticks) -> Forecasts:
        """Take a batch of ticks, in entry-id order, and forecast each series' next value after each of them."""
        inner = self._targets.spread(ticks)
        return self._targets.gathered(ticks, self._advance(inner))

    def _advance(self, ticks: Ticks) -> Forecasts:
        """The same for ticks of one target each."""
        answer = Forecasts.empty(len(ticks), self._inner_outputs)
        for start, stop, horizon_ms in self._life.eras(ticks.ms):
            if horizon_ms is not None:
                self._forget(horizon_ms)
            if stop - start == len(ticks):
                self._answer(ticks, answer)
            else:
                self._answer(ticks.slice(start, stop), answer.slice(start, stop))
        return answer

    def _forget(self, horizon_ms: int) -> None:
        """Forget the series that last ticked before the horizon: when they come back, they begin anew."""
        rows, names = self._arena.forget(horizon_ms)
        if self.on_forget is not None and names:
            self.on_forget(self._targets.series_of(names))
        slot = self._arena.slots[rows]
        self._recorder.release(slot[slot >= 0])
        self._arena.slots[rows] = -1
        self._expired += len(rows)

    def _answer(self, ticks: Ticks, answer: Forecasts) -> None:
        """Answer the ticks of a part of the batch in which no series is forgotten."""
        rows = self._admit(ticks, answer)
        [at] = (rows >= 0).nonzero()
        learn = self.recipe.learn
        while len(at):
            stop = self._schedule.take(self._arena, rows[at], ticks.ms[at], learn) if learn.enabled else len(at)
            for members in rounds(rows[at[:stop]]):
                self._model.round(ticks, rows, at[:stop][members], answer)
            at = at[stop:]
            if len(at):
                self._cut()

    def _admit(self, ticks: Ticks, answer: Forecasts) -> NDArray[np.int64]:
        """(n,) the row of each tick's series; −1 where there is none, or a feature is not there."""
        if ticks.y.ndim == 1 or not (absent := np.isnan(ticks.y).any(axis=1)).any():
            rows = self._arena.admit(ticks.series, ticks.ms)
            refused = rows < 0
            if np.count_nonzero(refused):
                answer.verdict[refused] = Verdict.TOO_MANY_SERIES
            return rows
        at = np.flatnonzero(~absent)
        rows = np.full(len(ticks), -1, np.int64)
        rows[at] = self._arena.admit([ticks.series[i] for i in at.tolist()], ticks.ms[at])
        answer.verdict[rows < 0] = Verdict.TOO_MANY_SERIES
        answer.verdict[absent] = Verdict.MISSING_FIELD
        return rows

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
            self._thrown_away += 1
            knowledge = Knowledge.fresh(self._knowledge.theta)
        self._knowledge = knowledge
        self._model.adopt(knowledge.theta)

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
        tally, horizons = self._model.tally, self._model.horizon_tally
        whole |= {"tally.weight": tally.weight, "tally.covered": tally.covered, "horizons.sums": horizons.sums}
        whole["names.bytes"] = self._arena.names.joined()
        numbers = {
            "schedule": asdict(self._schedule),
            "tally": tally.numbers,
            "engine": {
                "poisoned": self._model.poisoned,
                "thrown_away": self._thrown_away,
                "expired": self._expired,
            },
        }
        arrays = (room or Room()).take(self._rows, whole, self._arena.touched)
        return Snapshot(arrays, numbers, self._knowledge, self._job)

    def restore(self, snapshot: Snapshot) -> None:
        """Become the engine that `snapshot` was taken from. This one must be fresh, and of the same recipe."""
        own: dict[str, dict[str, NDArray[Any]]] = {name.partition(".")[0]: {} for name in snapshot.arrays}
        for name, value in snapshot.arrays.items():
            part, _, field = name.partition(".")
            own[part][field] = value
        self._arena.restore(snapshot.names_by_row, snapshot.row_of, own["arena"])
        self._recorder.restore(own["recorder"])
        self._schedule = Schedule(**snapshot.numbers["schedule"])
        weight, covered = (own["tally"][name].copy() for name in ("weight", "covered"))
        self._model.tally = Tally(weight, covered, **snapshot.numbers["tally"])
        self._model.horizon_tally.sums[...] = own["horizons"]["sums"]
        counts = snapshot.numbers["engine"]
        self._model.poisoned, self._thrown_away = int(counts["poisoned"]), int(counts["thrown_away"])
        self._expired = int(counts["expired"])
        self._adopt(snapshot.knowledge)
        self._job = snapshot.job
        if self._job is not None:
            self._trainer.submit(self._job)
