"""Metrics of single series: the worst few, and those that the settings name.

A million series are too many for Prometheus, so a scrape tells only where to look: the series that have been silent
longest, and those whose forecasts fare worst against the naive ones. It reads the engine's own arrays, on its own
thread, without stopping anybody: a number may be of the tick before, and a row that has just been taken over may show
its new name with its former number, once. Arrays are copied while the interpreter serves others; a list is not, and
100,000 names take 3 ms: so names are looked at one by one, and only where some came or went.
"""

from __future__ import annotations

import fnmatch
import re
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foretick.core.names import STRETCH_ROWS, changed
from foretick.core.targets import TARGET_MARK
from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretick.core.scores import SeriesStates

SERIES_MAX = 1000  # that a list of names and globs stands for; more would cost a scrape and Prometheus too much
_FREE_MS = np.iinfo(np.int64).max  # entry time in a free row
SETTLED_MIN = 100  # forecasts whose actual has arrived, before a series counts among the worst: fewer are chance


class SeriesCollector(Collector):
    """Gauges by stream and series, made when somebody asks.

    Args:
        worst: how many of the stalest, and of the least skilled.
        named: names and globs of series that are always told.
    """

    def __init__(self, worst: int = 0, named: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], _Seen] = {}  # by partition and group
        self.choose(worst, named)
        self._sources: dict[str, Callable[[], Sequence[SeriesStates]]] = {}

    def choose(self, worst: int, named: Sequence[str]) -> None:
        """Tell these from now on, as in the constructor."""
        with self._lock:
            self._worst = worst
            self._fits = re.compile("|".join(map(fnmatch.translate, named))).match if named else None
            self._seen.clear()

    def watch(self, partition: str, source: Callable[[], Sequence[SeriesStates]]) -> None:
        """Ask this source for the partition's series."""
        with self._lock:
            self._sources[partition] = source

    def forget(self, partition: str) -> None:
        """Ask for them no more."""
        with self._lock:
            self._sources.pop(partition, None)
            self._seen = {place: seen for place, seen in self._seen.items() if place[0] != partition}

    def collect(self) -> Iterator[Metric]:
        """Staleness, skill and mean error of the series chosen."""
        labels = ["stream", "series"]
        stale = GaugeMetricFamily(
            "foretick_series_staleness_seconds", "Time since the series' newest tick arrived.", labels=labels
        )
        skill = GaugeMetricFamily(
            "foretick_series_skill", "1 - mean error / naive mean error, over the latest ~1,000 ticks.", labels=labels
        )
        mae = GaugeMetricFamily(
            "foretick_series_mae",
            "Mean absolute error over the latest ~1,000 ticks, in the series' unit.",
            labels=labels,
        )
        with self._lock:
            stalest, poorest = self._chosen()
        now_seconds = time.time()
        for key, last_ms in stalest.items():
            stale.add_metric(_labels(key), max(now_seconds - last_ms / 1000, 0.0))
        for key, (error, naive) in poorest.items():
            if naive > 0:
                skill.add_metric(_labels(key), 1 - error / naive)
            mae.add_metric(_labels(key), error)
        yield from (stale, skill, mae)

    def _chosen(self) -> tuple[dict[bytes, int], dict[bytes, tuple[float, float]]]:
        """Entry time of the newest tick, and mean errors, each by series."""
        views = [(partition, _View(one)) for partition, source in self._sources.items() for one in source()]
        stalest = sorted(pair for _, view in views for pair in view.stalest(self._worst))[: self._worst]
        poorest = sorted((triple for _, view in views for triple in view.poorest(self._worst)), reverse=True)
        last_ms = {key: ms for ms, key in stalest}
        errors = {key: means for _, key, means in poorest[: self._worst]}
        for partition, view in views:
            for row in self._named(partition, view):
                if key := view.names[row]:
                    last_ms[key] = int(view.last_ms[row])
                    if view.t[row] > 0:
                        errors[key] = view.means(row)
        return last_ms, errors

    def _named(self, partition: str, view: _View) -> list[int]:
        """Rows of the series that the settings name."""
        if self._fits is None:
            return []
        seen = self._seen.setdefault((partition, view.group), _Seen())
        return seen.update(view, self._fits)


class _Seen:
    """Which rows of a group fit the names, without asking again of series that were asked before."""

    def __init__(self) -> None:
        self._names: Sequence[bytes | None] = []
        self._changes: Sequence[int] = []
        self._rows: set[int] = set()

    def update(self, view: _View, fits: Callable[[str], object]) -> list[int]:
        """The rows that fit, at most `SERIES_MAX`."""
        if view.names is not self._names:  # another engine
            self._names, self._changes, self._rows = view.names, [], set()
        for stretch in changed(self._changes, view.changes):
            for row in range(stretch * STRETCH_ROWS, min((stretch + 1) * STRETCH_ROWS, len(view.t))):
                self._rows.discard(row)
                key = view.names[row]
                if key is not None and len(self._rows) < SERIES_MAX and any(map(fits, _names(key))):
                    self._rows.add(row)
        self._changes = view.changes
        return sorted(self._rows)


class _View:
    """The states of one group, all of one length whatever the loop adds meanwhile; of names there may be more."""

    def __init__(self, states: SeriesStates) -> None:
        n = min(len(states.names), len(states.last_ms), len(states.t))
        self.group, self.names, self.changes = states.group, states.names, states.changes
        # Copied: a selection from numbers that change meanwhile may leave the array. Strided, so once is enough.
        self.last_ms, self.t = states.last_ms[:n].copy(), states.t[:n].copy()
        self._error, self._naive = states.mean_error[:n].copy(), states.mean_naive[:n].copy()

    def means(self, row: int) -> tuple[float, float]:
        """Mean error, and the naive one."""
        return float(self._error[row]), float(self._naive[row])

    def stalest(self, n: int) -> list[tuple[int, bytes]]:
        """Entry time of the newest tick and name, of the series that have been silent longest."""
        rows = _smallest(self.last_ms, n)  # free rows come last
        return [(int(self.last_ms[row]), key) for row in rows if (key := self.names[row])]

    def poorest(self, n: int) -> list[tuple[float, bytes, tuple[float, float]]]:
        """Ratio of the mean errors, name and both, of the series with the least skill."""
        error, naive = self._error, self._naive
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = error / naive
        # Those that never moved have no skill.
        counts = (self.t >= SETTLED_MIN) & (naive > 0) & np.isfinite(ratio) & (self.last_ms != _FREE_MS)
        rows = _smallest(np.where(counts, -ratio, np.inf), n)
        return [(float(ratio[row]), key, self.means(row)) for row in rows if (key := self.names[row])]


def _smallest(values: NDArray[np.int64] | NDArray[np.float64], n: int) -> list[int]:
    """Positions of the n smallest finite values, in no order."""
    if n <= 0 or len(values) == 0:
        return []
    at = np.argpartition(values, n - 1)[:n] if n < len(values) else np.arange(len(values))
    found: list[int] = at[np.isfinite(values[at])].tolist()
    return found


def _labels(key: bytes) -> list[str]:
    return [_text(part.replace(TARGET_MARK, b".")) for part in split_series_key(key)]


def _names(key: bytes) -> set[str]:
    """What settings may call a row: the series, and `series.target` where it has several targets."""
    if TARGET_MARK not in key:
        return {_text(split_series_key(key)[1])}
    return {_text(split_series_key(key.partition(TARGET_MARK)[0])[1]), _labels(key)[1]}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
