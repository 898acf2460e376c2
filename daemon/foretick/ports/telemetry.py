"""What the daemon tells Prometheus (docs/metrics.md is the contract). The loop counts; a scrape's thread reads.

Counting costs the loop a few microseconds per turn, whatever the number of ticks: what every turn tells is kept as sums
and arrays, and put into metrics only when somebody asks, as are accuracy and lag.
"""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from foretick import __version__
from foretick.ports.collectors import (
    BUCKETS_SECONDS,
    NAMESPACE,
    ConditionsCollector,
    LagCollector,
    ScoresCollector,
)
from foretick.ports.pulse import Pulse
from foretick.ports.series_collector import SeriesCollector
from foretick.ports.turn_collectors import AnswersCollector, LatencyCollector, StagesCollector
from foretick.ports.wire import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from foretick.core.scores import GroupScores, SeriesStates

STREAM_LABELS_MAX = 100  # streams with a label of their own; each costs about a dozen time series


class Telemetry:
    """All metrics of one daemon, on a registry of its own.

    Streams are given as their keys, in bytes. The first `STREAM_LABELS_MAX` of them get a label of their own; the ticks
    of later ones count under the name of their partition, so that every sum over the label stays whole.

    Args:
        embedded: whether there is an embedded server.
        worst_series: how many series have metrics of their own because they fare worst.
        named_series: names and globs of series that always have.

    Attributes:
        registry: where other collectors may join.
    """

    def __init__(self, *, embedded: bool = False, worst_series: int = 0, named_series: Sequence[str] = ()) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` beside each counter doubles the series
        self.registry = registry = CollectorRegistry()
        self._labels: dict[bytes, str] = {}  # by stream
        self._held: set[str] = set()
        self._stages, self._answers, self._latency = StagesCollector(), AnswersCollector(), LatencyCollector()
        self._lag = LagCollector()
        self._scores = ScoresCollector()
        self._series = SeriesCollector(worst_series, named_series)
        self._conditions = ConditionsCollector()
        for collector in (self._stages, self._answers, self._latency):  # of what each turn tells
            registry.register(collector)
        for asked in (self._lag, self._scores, self._series, self._conditions):
            registry.register(asked)
        ProcessCollector(registry=registry)
        Info("build", "The running version.", namespace=NAMESPACE, registry=registry).info(
            {"version": __version__, "torch": version("torch")}
        )
        self._dead = self._counter("dead_letters", "Entries set aside as unusable.", "stream", "reason")
        self._learn = self._histogram("learn_seconds", "Time to compute a learning job.")
        self._learn_wait = self._histogram("learn_wait_seconds", "Time that the loop waited for a learning job.")
        self._learn_steps = self._counter("learn_steps", "Optimiser steps taken.")
        self._trainer_restarts = self._counter("trainer_restarts", "Trainer processes that took a dead one's place.")
        self._engine_failures = self._counter("engine_failures", "Engines thrown away because they failed at a tick.")
        self._reconnects = self._counter("redis_reconnects", "Connections to Redis made anew after a loss.")
        self._leases_held = self._gauge("leases_held", "Partitions that this process owns.")
        self._leases_lost = self._counter("lease_lost", "Leases that another process took or that expired.")
        self._regressions = self._counter("position_regressions", "Times that Redis came back with an older position.")
        self._replayed = self._counter("replayed_ticks", "Ticks read again, unpublished, to rebuild state.")
        self._trimmed = self._counter(
            "history_trimmed", "Replays of a stream that missed what had been trimmed from it."
        )
        self._checkpoint_age = self._gauge("checkpoint_age_seconds", "Time since state was last safe.", "partition")
        self._checkpoint_bytes = self._gauge("checkpoint_bytes", "Size of the newest checkpoint.", "partition")
        self._checkpoint_failures = self._counter("checkpoint_failures", "Checkpoints not written, or refused.")
        self._checkpoint_every = self._gauge(
            "checkpoint_every_seconds", "Time between two checkpoints; 0: none are taken."
        )
        self._learn_every = self._gauge(
            "learn_every_ticks", "Ticks of a series between two learning jobs; 0: never.", "group"
        )
        self._embedded_up = self._gauge("embedded_server_up", "Whether the embedded server runs.") if embedded else None

    def tell_settings(self, checkpoint_every_seconds: float, learn_every_ticks: Mapping[str, int]) -> None:
        """Tell what is to be expected, so that an alert need not guess.

        Args:
            checkpoint_every_seconds: time between two checkpoints; 0 for none.
            learn_every_ticks: by group, ticks of a series between two learning jobs; 0 for a group that does not learn.
        """
        self._checkpoint_every.set(checkpoint_every_seconds)
        for group, every in learn_every_ticks.items():
            self._learn_every.labels(group).set(every)

    def choose_series(self, worst: int, named: Sequence[str]) -> None:
        """Tell these series from now on: so many of the worst, and those that are named."""
        self._series.choose(worst, named)

    def count_answers(self, stream: bytes, ticks: int, *, cold: int = 0, warm: int = 0) -> None:
        """Count so many entries of a stream, and the forecasts among what they came to, by stage."""
        self._answers.count(self._label_of(stream), ticks, cold, warm)

    def count_dead(self, stream: bytes, reason: str, n: int) -> None:
        """Count n dead letters of one reason."""
        self._dead.labels(self._label_of(stream), reason).inc(n)

    def observe_latency(self, arrived_ms: NDArray[np.int64], now_ms: float, since_ms: float) -> None:
        """Take in (n,) arrivals of ticks that are answered now.

        Args:
            arrived_ms: milliseconds since the epoch, UTC, as the others; later than now counts as now.
            now_ms: the same clock now.
            since_ms: arrivals up to then are history, and do not count.
        """
        self._latency.observe(arrived_ms, now_ms, since_ms)

    def observe_turn(self, **seconds: float) -> None:
        """Take in how long stages of a turn took: `observe_turn(read=0.001)`."""
        self._stages.observe(seconds)

    def observe_learn(self, seconds: float, steps: int) -> None:
        """Take in the time and the optimiser steps of a learning job."""
        self._learn.observe(seconds)
        self._learn_steps.inc(steps)

    def observe_learn_wait(self, seconds: float) -> None:
        """Take in the time that the loop waited for a learning job."""
        self._learn_wait.observe(seconds)

    def count_trainer_restart(self) -> None:
        """Count a trainer process that took the place of a dead one."""
        self._trainer_restarts.inc()

    def set_lag(self, stream: bytes, ticks: int, seconds: float) -> None:
        """Tell how far behind its top a stream is read: entries not yet read, and the age of the oldest of them."""
        self._lag.put(stream, self._label_of(stream), ticks, seconds)

    def forget_lag(self, stream: bytes) -> None:
        """Tell the lag of a stream no more: it is gone, or another process owns it now."""
        self._lag.remove(stream)

    def count_engine_failure(self) -> None:
        """Count an engine that failed at a tick."""
        self._engine_failures.inc()

    def count_reconnect(self) -> None:
        """Count a connection made anew."""
        self._reconnects.inc()

    def hold_lease(self, partition: str) -> None:
        """Tell that this process owns a partition."""
        self._held.add(partition)
        self._leases_held.set(len(self._held))

    def drop_lease(self, partition: str) -> None:
        """Tell that it owns the partition no more, or never did."""
        self._held.discard(partition)
        self._leases_held.set(len(self._held))

    def count_lease_lost(self) -> None:
        """Count a lease lost."""
        self._leases_lost.inc()

    def count_position_regression(self) -> None:
        """Count a position that Redis lost."""
        self._regressions.inc()

    def count_replayed(self, n: int) -> None:
        """Count n ticks read again."""
        self._replayed.inc(n)

    def count_history_trimmed(self) -> None:
        """Count a stream of which a part was trimmed away that the engine should have seen."""
        self._trimmed.inc()

    def put_checkpoint(self, partition: str, size_bytes: int, saved_at_seconds: float) -> None:
        """Tell the size of a partition's newest checkpoint, and when it was taken, in seconds since the epoch, UTC."""
        self._checkpoint_bytes.labels(partition).set(size_bytes)
        self._checkpoint_age.labels(partition).set_function(lambda: max(time.time() - saved_at_seconds, 0.0))

    def renew_checkpoint(self, partition: str) -> None:
        """Tell that the newest checkpoint holds all there is, or that there is none: its age counts from now."""
        saved_at_seconds = time.time()
        self._checkpoint_age.labels(partition).set_function(lambda: max(time.time() - saved_at_seconds, 0.0))

    def forget_checkpoint(self, partition: str) -> None:
        """Tell no more of a partition's checkpoints: another process owns it now."""
        for gauge in (self._checkpoint_age, self._checkpoint_bytes):
            with contextlib.suppress(KeyError):
                gauge.remove(partition)

    def count_checkpoint_failure(self) -> None:
        """Count a checkpoint that could not be written, or was refused when it was read."""
        self._checkpoint_failures.inc()

    def set_embedded_up(self, *, up: bool) -> None:
        """Tell whether the embedded server runs; only for a daemon that has one."""
        if self._embedded_up is None:
            raise RuntimeError("Telemetry was made without `embedded`")
        self._embedded_up.set(up)

    def watch_scores(self, source: Callable[[], Sequence[GroupScores]], partition: str = "default") -> None:
        """Ask `source`, instead of an earlier one, for a partition's accuracy at every scrape, on its thread."""
        self._scores.watch(partition, source)

    def watch_series(self, source: Callable[[], Sequence[SeriesStates]], partition: str = "default") -> None:
        """Ask `source`, instead of an earlier one, for a partition's series at every scrape, on its thread."""
        self._series.watch(partition, source)

    def forget_scores(self, partition: str = "default") -> None:
        """Ask no more for accuracy and series: another process owns the partition now."""
        self._scores.forget(partition)
        self._series.forget(partition)

    def watch_conditions(self, source: Callable[[], Mapping[str, tuple[bool, str]]]) -> None:
        """Ask `source` for the conditions of readiness at every scrape, on its thread: `Health.checks`."""
        self._conditions.watch(source)

    def pulse(self) -> Pulse:
        """Sums so far and lags now, for the page; safe from any thread."""
        lag_ticks, lag_seconds = self._lag.worst()
        ticks, forecasts = self._answers.totals()
        return Pulse(ticks, forecasts, _total(self._dead), self._latency.counts(), lag_ticks, lag_seconds)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format; safe from any thread."""
        return generate_latest(self.registry)

    def _label_of(self, stream: bytes) -> str:
        label = self._labels.get(stream)
        if label is None:
            label = _text(stream if len(self._labels) < STREAM_LABELS_MAX else partition_of(stream))
            self._labels[stream] = label
            self._answers.count(label, 0, 0, 0)  # a stream is told from when it is known, not from its first tick
        return label

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, namespace=NAMESPACE, registry=self.registry, buckets=BUCKETS_SECONDS)


def _total(counter: Counter) -> float:
    """The sum over all labels."""
    return sum(
        sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
