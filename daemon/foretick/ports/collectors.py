"""Metrics that are made when Prometheus asks: lags, conditions, accuracy.

Each collector is filled by the loop and collected by a scrape's thread, under a lock that is held for microseconds.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from foretick.core.scores import GroupScores

NAMESPACE: Final = "foretick"
BUCKETS_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005),  # a turn with few ticks, in memory
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),  # entry ids count milliseconds, so latencies begin here
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),  # a daemon that falls behind
)


class LagCollector(Collector):
    """The lag of every stream; those that share a label are added up, or the oldest of them told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lags: dict[bytes, tuple[str, int, float]] = {}

    def put(self, stream: bytes, label: str, ticks: int, seconds: float) -> None:
        """Keep the stream's latest lag."""
        with self._lock:
            self._lags[stream] = label, ticks, seconds

    def remove(self, stream: bytes) -> None:
        """Keep no lag of the stream."""
        with self._lock:
            self._lags.pop(stream, None)

    def worst(self) -> tuple[int, float]:
        """Entries not yet read, of all streams, and the age of the oldest of them in seconds."""
        with self._lock:
            lags = list(self._lags.values())
        return sum(ticks for _, ticks, _ in lags), max((seconds for *_, seconds in lags), default=0.0)

    def collect(self) -> Iterator[Metric]:
        """Lags by label."""
        with self._lock:
            lags = list(self._lags.values())
        sums: dict[str, int] = defaultdict(int)
        oldest: dict[str, float] = defaultdict(float)
        for label, ticks, seconds in lags:
            sums[label] += ticks
            oldest[label] = max(oldest[label], seconds)
        entries = _gauge("stream_lag_ticks", "Entries of a stream that are not yet read.", "stream")
        ages = _gauge("stream_lag_seconds", "Age of a stream's oldest entry that is not yet read.", "stream")
        for label, ticks in sums.items():
            entries.add_metric([label], ticks)
            ages.add_metric([label], oldest[label])
        yield from (entries, ages)


class ConditionsCollector(Collector):
    """The conditions of readiness, asked for at each scrape: an alert says why, where `/readyz` says whether."""

    def __init__(self) -> None:
        self._source: Callable[[], Mapping[str, tuple[bool, str]]] = dict

    def watch(self, source: Callable[[], Mapping[str, tuple[bool, str]]]) -> None:
        """Ask this source: whether each condition holds, by its name, or by partition, stroke and name."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Every condition as 0 or 1."""
        family = _gauge("condition_ok", "Whether a condition of readiness holds.", "partition", "condition")
        for name, (ok, _) in self._source().items():
            partition, _, condition = name.rpartition("/")
            family.add_metric([partition, condition], float(ok))
        yield family


class ScoresCollector(Collector):
    """Accuracy, asked for at each scrape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, Callable[[], Sequence[GroupScores]]] = {}

    def watch(self, partition: str, source: Callable[[], Sequence[GroupScores]]) -> None:
        """Ask this source for the partition's accuracy."""
        with self._lock:
            self._sources[partition] = source

    def forget(self, partition: str) -> None:
        """Ask for the partition's accuracy no more."""
        with self._lock:
            self._sources.pop(partition, None)

    def collect(self) -> Iterator[Metric]:
        """Accuracy by partition and group, activity and weights by group."""
        with self._lock:
            sources = dict(self._sources)
        scores = [(partition, scored) for partition, source in sources.items() for scored in source()]
        for field, meaning in _SCORES.items():
            family = CounterMetricFamily(f"{NAMESPACE}_{field}", meaning, labels=["partition", "group"])
            for partition, scored in scores:
                family.add_metric([partition, scored.group], getattr(scored, field))
            yield family
        covered = CounterMetricFamily(
            f"{NAMESPACE}_interval_covered",
            "Forecasts whose interval held their actual.",
            labels=["partition", "group", "level"],
        )
        for partition, scored in scores:
            for level, n in scored.interval_covered.items():
                covered.add_metric([partition, scored.group, level], n)
        yield covered
        nominal = _gauge(
            "interval_nominal", "The share of actuals that an interval is to hold.", "partition", "group", "level"
        )
        for partition, scored in scores:
            for level in scored.interval_covered:
                nominal.add_metric([partition, scored.group, level], float(level))
        yield nominal
        yield from _horizon_families(scores)
        groups: dict[str, list[GroupScores]] = defaultdict(list)
        for _, scored in scores:
            groups[scored.group].append(scored)
        active = _gauge("series_active", "Series that ticked lately.", "group")
        expired = CounterMetricFamily(
            f"{NAMESPACE}_series_expired",
            "Series that were forgotten after `series.ttl` without a tick.",
            labels=["group"],
        )
        weights = _gauge("expert_weight", "Mean weight of an expert in the published forecasts.", "group", "expert")
        for group, parts in groups.items():
            active.add_metric([group], sum(part.series_active for part in parts))
            expired.add_metric([group], sum(part.series_expired for part in parts))
            for expert, weight in _mean_weights(parts).items():
                weights.add_metric([group, expert], weight)
        yield from (active, expired, weights)


_SCORES = {
    "scored": "Forecasts that have met their actual.",
    "interval_scored": "Forecasts with intervals that have met their actual.",
    "scaled_abs_error": "Absolute errors, in units of the series' mean absolute first difference.",
    "naive_scaled_abs_error": "The same of the naive forecast on the same ticks.",
    "scaled_squared_error": "Squared errors, in the same units squared.",
    "naive_scaled_squared_error": "The same of the naive forecast on the same ticks.",
}


def _horizon_families(scores: Sequence[tuple[str, GroupScores]]) -> Iterator[Metric]:
    """Accuracy of each step ahead beyond the next tick, where there are any."""
    labels = ["partition", "group", "horizon"]
    ahead = [
        ([partition, scored.group, str(h)], one) for partition, scored in scores for h, one in scored.horizons.items()
    ]
    if not ahead:
        return
    for field, meaning in _SCORES.items():
        family = CounterMetricFamily(f"{NAMESPACE}_horizon_{field}", f"Several steps ahead: {meaning}", labels=labels)
        for names, one in ahead:
            family.add_metric(names, getattr(one, field))
        yield family
    covered = CounterMetricFamily(
        f"{NAMESPACE}_horizon_interval_covered",
        "Several steps ahead: forecasts whose interval held their actual.",
        labels=[*labels, "level"],
    )
    for names, one in ahead:
        for level, n in one.interval_covered.items():
            covered.add_metric([*names, level], n)
    yield covered


def _mean_weights(parts: list[GroupScores]) -> dict[str, float]:
    """The expert weights of a group over its partitions, each counted by its active series."""
    shares = np.array([part.series_active for part in parts], np.float64)
    shares = shares / shares.sum() if shares.any() else np.full(len(parts), 1 / len(parts))
    means: dict[str, float] = defaultdict(float)
    for part, share in zip(parts, shares.tolist(), strict=True):
        for expert, weight in part.expert_weight.items():
            means[expert] += share * weight
    return means


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=labels)
