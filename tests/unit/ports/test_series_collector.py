"""Metrics of single series: who is told, and that neither many series nor a busy loop hold up a scrape."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foretick.core.names import STRETCH_ROWS, Names
from foretick.core.scores import SeriesStates
from foretick.ports.telemetry import Telemetry

FREE_MS = np.iinfo(np.int64).max


def states(names, last_ms, errors=(), naive=(), t=None, group="default", changes=None):
    n = len(names)
    return SeriesStates(
        group=group,
        names=names,
        last_ms=np.array(last_ms, np.int64),
        t=np.full(n, 500) if t is None else np.array(t, np.int64),
        mean_error=np.array(errors or np.ones(n), np.float64),
        mean_naive=np.array(naive or np.ones(n), np.float64),
        changes=[1] * -(-n // STRETCH_ROWS) if changes is None else changes,
    )


def keys(*names, stream="ticks"):
    return [f"{stream}\0{name}".encode() for name in names]


def told(telemetry, metric):
    """Value by (stream, series)."""
    return {
        (sample.labels["stream"], sample.labels["series"]): sample.value
        for family in text_string_to_metric_families(telemetry.exposition().decode())
        for sample in family.samples
        if sample.name == f"foretick_series_{metric}"
    }


def test_the_stalest_and_the_least_skilled_series_are_told_and_nobody_else():
    now = int(time.time() * 1000)
    telemetry = Telemetry(worst_series=2)
    telemetry.watch_series(
        lambda: [
            states(
                keys("fresh", "old", "older", "good", "poor", "poorest"),
                [now, now - 60_000, now - 90_000, now, now, now],
                [1, 1, 1, 0.5, 3, 8],
                [1, 2, 2, 1, 2, 4],
            )
        ]
    )
    stale = told(telemetry, "staleness_seconds")
    assert stale.keys() == {("ticks", "old"), ("ticks", "older")}
    assert stale["ticks", "older"] == pytest.approx(90, abs=5)
    assert told(telemetry, "skill") == {("ticks", "poorest"): -1.0, ("ticks", "poor"): -0.5}
    assert told(telemetry, "mae") == {("ticks", "poorest"): 8.0, ("ticks", "poor"): 3.0}


def test_series_that_are_named_are_always_told_by_name_or_glob_in_every_stream():
    telemetry = Telemetry(worst_series=0, named_series=["a", "pump-*"])
    telemetry.watch_series(
        lambda: [states(keys("a", "b", "pump-1") + keys("a", stream="other"), [0] * 4, [2, 1, 1, 1], t=[3, 3, 0, 3])]
    )
    assert told(telemetry, "staleness_seconds").keys() == {("ticks", "a"), ("ticks", "pump-1"), ("other", "a")}
    assert told(telemetry, "mae") == {("ticks", "a"): 2.0, ("other", "a"): 1.0}, "pump-1 was never settled"


def test_each_target_of_a_series_is_told_and_may_be_named_by_the_series_or_by_itself():
    names = keys("a\x1fclose", "a\x1fhigh", "b\x1fclose", "b\x1fhigh")
    telemetry = Telemetry(worst_series=0, named_series=["a", "b.high"])
    telemetry.watch_series(lambda: [states(names, [0] * 4)])
    assert told(telemetry, "mae").keys() == {("ticks", "a.close"), ("ticks", "a.high"), ("ticks", "b.high")}


def test_young_series_still_ones_and_free_rows_are_not_among_the_worst():
    telemetry = Telemetry(worst_series=5)
    names = [*keys("young", "still", "sound"), None]
    telemetry.watch_series(
        lambda: [states(names, [5, 5, 5, FREE_MS], [9, 9, 1, 9], [1, 0, 1, 1], t=[50, 500, 500, 500])]
    )
    assert told(telemetry, "mae").keys() == {("ticks", "sound")}
    assert len(told(telemetry, "staleness_seconds")) == 3


def test_the_worst_are_chosen_over_all_groups_and_partitions_and_are_forgotten_with_them():
    telemetry = Telemetry(worst_series=1)
    telemetry.watch_series(lambda: [states(keys("a"), [1], [2]), states(keys("b"), [2], [3], group="b*")], "one")
    telemetry.watch_series(lambda: [states(keys("c"), [3], [4])], "two")
    assert told(telemetry, "mae") == {("ticks", "c"): 4.0}
    telemetry.forget_scores("two")
    assert told(telemetry, "mae") == {("ticks", "b"): 3.0}
    assert told(telemetry, "staleness_seconds").keys() == {("ticks", "a")}


def come(names: Names, *series: object) -> None:
    names.add(names.vacant(len(series)), keys(*series))


def test_a_name_that_comes_later_or_takes_over_a_row_is_found():
    names = Names()
    come(names, *range(STRETCH_ROWS - 1))
    telemetry = Telemetry(named_series=["pump-*"])
    telemetry.watch_series(
        lambda: [states(names.by_row, [1] * len(names), changes=names.changes.copy())], partition="one"
    )
    assert told(telemetry, "mae") == {}
    come(names, "pump-1", "pump-2", "pump-3")
    assert told(telemetry, "mae").keys() == {("ticks", "pump-1"), ("ticks", "pump-2"), ("ticks", "pump-3")}
    names.remove([0, STRETCH_ROWS])
    assert told(telemetry, "mae").keys() == {("ticks", "pump-1"), ("ticks", "pump-3")}
    come(names, "pump-4")
    assert told(telemetry, "mae").keys() == {("ticks", "pump-1"), ("ticks", "pump-3"), ("ticks", "pump-4")}


def test_the_named_series_of_another_engine_are_looked_for_anew():
    telemetry = Telemetry(named_series=["a"])
    for names, wanted in (("ab", 0), ("ba", 1), ("bc", None)):
        engine = states(keys(*names), [1, 1], [1, 2])
        telemetry.watch_series(lambda engine=engine: [engine])
        assert list(told(telemetry, "mae").values()) == ([] if wanted is None else [1.0 + wanted])


def test_a_glob_that_fits_everything_tells_a_thousand_at_most():
    names = keys(*range(3000))
    telemetry = Telemetry(named_series=["*"])
    telemetry.watch_series(lambda: [states(names, [1] * 3000)])
    assert len(told(telemetry, "mae")) == 1000


def test_a_scrape_of_a_hundred_thousand_series_takes_milliseconds_while_a_loop_writes():
    n = 100_000
    names = keys(*range(n))
    records = np.zeros(n, [("t", np.int64), ("error", np.float64), ("naive", np.float64), ("rest", np.uint8, 1000)])
    rng = np.random.default_rng(0)
    records["t"], records["error"], records["naive"] = 500, rng.random(n), 1 + rng.random(n)
    last_ms = np.full(n, int(time.time() * 1000))
    telemetry = Telemetry(worst_series=10, named_series=["77", "99999"])
    telemetry.watch_series(
        lambda: [
            SeriesStates("default", names, last_ms, records["t"], records["error"], records["naive"], changes=[1] * 98)
        ]
    )
    telemetry.exposition()  # which looks for the names once
    done = threading.Event()

    def write():
        while not done.is_set():
            at = rng.integers(0, n, 500)
            last_ms[at] += 1
            records["error"][at] = rng.random(500)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seconds = []
        for _ in range(5):
            begun = time.thread_time()
            list(telemetry._series.collect())
            seconds.append(time.thread_time() - begun)
    finally:
        done.set()
        writer.join()
    assert min(seconds) < 0.02
    assert len(told(telemetry, "mae")) == 12
