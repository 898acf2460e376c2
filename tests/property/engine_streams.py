"""Small engines, streams that hypothesis can shrink, and comparisons to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.recipe import IntervalRecipe, LearnRecipe, Recipe, SeasonRecipe
from foretick.core.records import Forecasts, Ticks

MS = 1_700_000_000_000
HOUR = 3_600_000

# The first torch call takes 0.4 s, hence no deadline; an example is two or three engines.
few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])

# Few ticks meet many cuts, closed chunks, full rings and, with more than three series, rotation of the slots.
LEARNING = LearnRecipe(early_every=1, every=4, early_until=12, steps=2, chunk=4, depth=2, slots=3, rate=0.03)
# A season of four ticks where the spacing is even: ticks of one round are an hour apart.
SMALL = Recipe(
    hidden=8,
    window=24,
    cold_ticks=3,
    max_series=7,
    season=SeasonRecipe(durations_ms=(4 * HOUR,), gaps=4),
    interval=IntervalRecipe(window=6, warm_residuals=2),
    learn=LEARNING,
)
STILL = replace(SMALL, learn=replace(LEARNING, enabled=False))


def ticks_of(rows) -> Ticks:
    """Ticks from (name, ms, ts or None, y) tuples; without ts the entry's ms counts."""
    rows = list(rows)
    return Ticks(
        series=[name for name, _, _, _ in rows],
        ms=np.array([ms for _, ms, _, _ in rows], np.int64),
        ts=np.array([ms if ts is None else ts for _, ms, ts, _ in rows], np.int64),
        stamped=np.array([ts is not None for _, _, ts, _ in rows], np.bool_),
        y=np.array([y for _, _, _, y in rows], np.float64),
    )


def with_values(ticks: Ticks, y) -> Ticks:
    return replace(ticks, y=np.asarray(y, np.float64))


def pick(ticks: Ticks, at) -> Ticks:
    """The ticks at these positions, in this order."""
    at = np.asarray(at, np.int64)
    return Ticks([ticks.series[i] for i in at], ticks.ms[at], ticks.ts[at], ticks.stamped[at], ticks.y[at])


def columns(y, step_ms=HOUR) -> Ticks:
    """(T, S) values as T rounds of S series, one millisecond a round."""
    T, S = np.shape(y)
    return ticks_of(
        (b"s%d" % s, MS + i, MS + i * step_ms, y[i][s]) for i in range(T) for s in range(S) if not np.isnan(y[i][s])
    )


def drive(engine: Engine, ticks: Ticks, sizes=None) -> Forecasts:
    """Advance through all ticks in batches of these sizes, over and over; in one go without sizes."""
    parts, start = [], 0
    sizes = sizes or [max(len(ticks), 1)]
    while start < len(ticks) or not parts:
        stop = start + sizes[len(parts) % len(sizes)]
        parts.append(engine.advance(ticks.slice(start, stop)))
        start = stop
    return Forecasts.joined(parts)


def fresh_forecasts(recipe: Recipe, ticks: Ticks) -> Forecasts:
    return drive(Engine(recipe), ticks)


def bits(value):
    """Something that is equal exactly where the value is equal bit by bit (so that NaN equals NaN, and 0 not −0)."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape, value.tobytes())
    if is_dataclass(value):
        return {f.name: bits(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, list):
        return [bits(part) for part in value]
    return value


def assert_same_forecasts(one: Forecasts, other: Forecasts) -> None:
    for f in fields(Forecasts):
        a, b = getattr(one, f.name), getattr(other, f.name)
        assert bits(a) == bits(b), f"{f.name} differs first at {first_difference(a, b)}"


def first_difference(a, b):
    if a.shape != b.shape:
        return f"shapes {a.shape}, {b.shape}"
    i = np.flatnonzero(~((a == b) | (np.isnan(a) & np.isnan(b))))[:1]
    return i.tolist(), a[i], b[i]


def records_of(engine_or_snapshot, recipe=SMALL):
    """(S,) the records of a snapshot or an engine, by field."""
    if isinstance(engine_or_snapshot, Engine):
        return engine_or_snapshot._arena.records.copy()
    return engine_or_snapshot.arrays["arena.records"].copy().view(Engine(recipe)._arena.dtype)[:, 0]


_SUMS = ("tally.weight", "horizons.sums")


def snapshot_bits(snapshot, recipe=SMALL):
    """All of a snapshot that must be equal to the last bit; sums of many floats are compared apart."""
    arrays = {name: bits(value) for name, value in snapshot.arrays.items() if name not in _SUMS}
    records = records_of(snapshot, recipe)
    arrays["arena.records"] = {name: bits(np.ascontiguousarray(records[name])) for name in records.dtype.names}
    numbers = {part: value for part, value in snapshot.numbers.items() if part != "tally"}
    return {
        "names": snapshot.names,
        "arrays": arrays,
        "numbers": numbers,
        "knowledge": bits(snapshot.knowledge),
        "job": bits(snapshot.job),
        "scored": snapshot.numbers["tally"]["scored"],
    }


def assert_same_snapshots(one, other, recipe=SMALL) -> None:
    left, right = snapshot_bits(one, recipe), snapshot_bits(other, recipe)
    for part, value in left.items():
        if isinstance(value, dict) and isinstance(right[part], dict):
            wrong = [name for name in value if value[name] != right[part].get(name)]
            assert not wrong, f"{part} differs in {wrong}"
        assert value == right[part], f"{part} differs"
    assert one.numbers["tally"] == pytest.approx(other.numbers["tally"], rel=1e-9)
    np.testing.assert_allclose(one.arrays["horizons.sums"], other.arrays["horizons.sums"], rtol=1e-9)


# Streams: a few segments that each stand for something that happens, expanded by a seed.


@dataclass(frozen=True)
class Segment:
    kind: str
    series: int
    ticks: int
    seed: int


class Writer:
    """Writes segments one after another; each kind of segment is a method."""

    def __init__(self):
        self.rows, self.ms, self.clock = [], MS, MS
        self.level = [float(i) for i in range(9)]

    def write(self, part: Segment) -> None:
        self.rng = np.random.default_rng(part.seed)
        getattr(self, part.kind)(part.series, part.ticks)
        self.ms += part.seed % 2

    def tick(self, i, ts, move=1.0):
        # Whole eighths: differences are exact, and many of them are zero.
        self.level[i] += move * round(float(self.rng.standard_normal() * 4)) / 8
        self.rows.append((b"n%d" % i, self.ms, ts, self.level[i]))

    def rounds(self, last, count):
        """Series 0 … last, each once in a round, an hour after the round before."""
        for _ in range(count):
            self.clock, self.ms = self.clock + HOUR, self.ms + int(self.rng.integers(0, 3))
            for i in range(last + 1):
                self.tick(i, self.clock)

    def burst(self, i, count):
        """One series, many ticks, one millisecond of arrival."""
        for _ in range(count):
            self.clock += HOUR
            self.tick(i, self.clock)

    def crowd(self, last, count):
        """Any series, in any order, in one millisecond."""
        for _ in range(count):
            self.clock += 1
            self.tick(int(self.rng.integers(0, last + 1)), self.clock)

    def late(self, i, count):
        """Sixteen of them restart a series."""
        for k in range(count + 8):
            self.tick(i, self.clock - 50 * HOUR + k * HOUR)
            self.ms += int(self.rng.integers(0, 2))

    def duplicate(self, i, count):
        for k in range(count):
            self.tick(i, self.clock)
            self.ms += k % 2

    def unstamped(self, i, count):
        for _ in range(count):
            self.tick(i, None)
            self.ms += int(self.rng.integers(0, 2))

    def still(self, i, count):
        for _ in range(count):
            self.clock, self.ms = self.clock + HOUR, self.ms + 1
            self.tick(i, self.clock, move=0.0)

    def silence(self, _, count):
        self.clock, self.ms = self.clock + count * HOUR, self.ms + 1000


def expand(parts: list[Segment]) -> Ticks:
    """The ticks of these segments: nine series at most, of which an engine of `SMALL` has room for seven."""
    writer = Writer()
    for part in parts:
        writer.write(part)
    return ticks_of(writer.rows)


KINDS = ["rounds", "rounds", "rounds", "burst", "crowd", "late", "duplicate", "unstamped", "silence", "still"]
segments = st.builds(Segment, st.sampled_from(KINDS), st.integers(0, 8), st.integers(1, 12), st.integers(0, 2**16))
batchings = st.lists(st.integers(1, 40), min_size=1, max_size=6)
streams = st.lists(segments, min_size=1, max_size=8).map(expand)
