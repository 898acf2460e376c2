"""Metrics that every turn of the loop adds to, often for a single tick: plain sums, made into metrics by a scrape.

`Counter.inc` takes 1 µs and `Histogram.observe` 4, and a turn of one tick would make nine such calls. Here it makes
five, of 1 to 2 µs. The loop fills a collector and a scrape's thread collects it, under a lock that is held for
microseconds; whatever was told before a scrape began is in it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from foretick.ports.collectors import BUCKETS_SECONDS, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

WAITING_TICKS = 500  # whose latencies wait for a scrape before they are counted, in 0.1 ms
_BUCKETS = len(BUCKETS_SECONDS) + 1  # the last is beyond all bounds


@dataclass(slots=True)
class _Stage:
    """How long a stage took, so far."""

    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    sum_seconds: float = 0.0


class StagesCollector(Collector):
    """How long the stages of a turn take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def observe(self, stages: Mapping[str, float]) -> None:
        """Take in the seconds that some stages of a turn took, by their names."""
        with self._lock:
            for name, seconds in stages.items():
                stage = self._stages.get(name) or self._stages.setdefault(name, _Stage())
                stage.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
                stage.sum_seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """The histograms so far."""
        family = HistogramMetricFamily(
            f"{NAMESPACE}_turn_seconds", "Time of a turn of the loop, by its stages.", labels=["stage"]
        )
        with self._lock:
            found = [(name, list(stage.counts), stage.sum_seconds) for name, stage in self._stages.items()]
        for name, counts, sum_seconds in found:
            family.add_metric([name], _reached(counts), sum_seconds)
        yield family


@dataclass(slots=True)
class _Answers:
    """What became of the entries of the streams that share a label."""

    ticks: int = 0
    cold: int = 0
    warm: int = 0


class AnswersCollector(Collector):
    """Entries answered and forecasts published, by label of their stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, _Answers] = {}

    def count(self, label: str, ticks: int, cold: int, warm: int) -> None:
        """Count so many entries, and the forecasts among what they came to, by stage."""
        with self._lock:
            answers = self._answers.get(label) or self._answers.setdefault(label, _Answers())
            answers.ticks += ticks
            answers.cold += cold
            answers.warm += warm

    def totals(self) -> tuple[int, int]:
        """Entries and forecasts of all streams."""
        with self._lock:
            answers = list(self._answers.values())
            return sum(one.ticks for one in answers), sum(one.cold + one.warm for one in answers)

    def collect(self) -> Iterator[Metric]:
        """The counters so far."""
        ticks = CounterMetricFamily(
            f"{NAMESPACE}_ticks", "Entries read and answered, by a forecast or a dead letter.", labels=["stream"]
        )
        forecasts = CounterMetricFamily(f"{NAMESPACE}_forecasts", "Forecasts published.", labels=["stream", "stage"])
        with self._lock:
            found = [(label, one.ticks, one.cold, one.warm) for label, one in self._answers.items()]
        for label, n, cold, warm in found:
            ticks.add_metric([label], n)
            forecasts.add_metric([label, "cold"], cold)
            forecasts.add_metric([label, "warm"], warm)
        yield from (ticks, forecasts)


class LatencyCollector(Collector):
    """Latencies of ticks; those of many turns are counted at once, when somebody asks or enough of them wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds = np.array(BUCKETS_SECONDS)
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._sum_seconds = 0.0
        self._waiting: list[tuple[NDArray[np.int64], float, float]] = []
        self._waiting_ticks = 0

    def observe(self, arrived_ms: NDArray[np.int64], now_ms: float, since_ms: float) -> None:
        """Take in (n,) arrivals of ticks that are answered now; those up to `since_ms` do not count."""
        with self._lock:
            self._waiting.append((arrived_ms, now_ms, since_ms))
            self._waiting_ticks += len(arrived_ms) + 1
            if self._waiting_ticks >= WAITING_TICKS:
                self._count()

    def counts(self) -> NDArray[np.int64]:
        """How many there were in each bucket so far; the last one is beyond all bounds."""
        with self._lock:
            self._count()
            return self._counts.copy()

    def collect(self) -> Iterator[Metric]:
        """The histogram so far."""
        with self._lock:
            self._count()
            counts, sum_seconds = self._counts.tolist(), self._sum_seconds
        yield HistogramMetricFamily(
            f"{NAMESPACE}_tick_latency_seconds",
            "Time from a live tick's arrival in Redis to the commit of its forecast.",
            buckets=_reached(counts),
            sum_value=sum_seconds,
        )

    def _count(self) -> None:
        """Count what waits; the lock is held."""
        if not self._waiting:
            return
        arrivals, *moments = zip(*self._waiting, strict=True)
        arrived_ms = np.concatenate(arrivals)
        now_ms, since_ms = (np.repeat(moment, [len(some) for some in arrivals]) for moment in moments)
        seconds = np.maximum(now_ms - arrived_ms, 0.0)[arrived_ms > since_ms] / 1000
        self._counts += np.bincount(self._bounds.searchsorted(seconds), minlength=_BUCKETS)
        self._sum_seconds += float(seconds.sum())
        self._waiting.clear()
        self._waiting_ticks = 0


def _reached(counts: Sequence[int]) -> list[tuple[str, float]]:
    """How many lay at or below each bound."""
    return list(zip([*map(str, BUCKETS_SECONDS), "+Inf"], accumulate(counts), strict=True))
