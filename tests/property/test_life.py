"""Series that fall silent are forgotten at points that the stream alone decides, and their rows serve others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.life import ERAS, Life
from foretick.core.records import Forecasts, Verdict
from foretick.core.snapshots import Room
from property.engine_streams import (
    MS,
    SMALL,
    STILL,
    Segment,
    assert_same_forecasts,
    assert_same_snapshots,
    batchings,
    columns,
    drive,
    expand,
    few,
    fresh_forecasts,
    streams,
    ticks_of,
)
from property.test_profiles import small

TTL_MS = 8  # segments of `streams` come every few milliseconds, so series come and go
MORTAL = replace(SMALL, ttl_ms=TTL_MS)
COMING_AND_GOING = expand(
    [
        part
        for seed in range(4)
        for part in (
            Segment("rounds", 1 + seed, 12, 2 * seed),
            Segment("crowd", 8, 20, 2 * seed + 1),
            Segment("burst", seed, 12, seed),
            Segment("unstamped", 8 - seed, 12, seed),
        )
    ]
)


def forecasts_of(engine: Engine, rows) -> Forecasts:
    return drive(engine, ticks_of(rows))


def test_the_example_forgets_series_while_others_go_on():
    engine = Engine(MORTAL)
    answer = drive(engine, COMING_AND_GOING)
    assert engine.scores()[0].series_expired > 10
    assert 0 < engine.series_count <= len(engine._arena) <= MORTAL.max_series
    assert engine._schedule.cuts > 10
    endless = fresh_forecasts(SMALL, COMING_AND_GOING)
    refused = [int((one.verdict == Verdict.TOO_MANY_SERIES).sum()) for one in (endless, answer)]
    assert refused[0] > refused[1], "room is made for others"


@pytest.mark.parametrize("sizes", [[1], [2, 3], [64]])
def test_the_example_has_the_same_forecasts_in_any_batches(sizes):
    one, other = Engine(MORTAL), Engine(MORTAL)
    assert_same_forecasts(drive(one, COMING_AND_GOING), drive(other, COMING_AND_GOING, sizes))
    assert_same_snapshots(one.snapshot(), other.snapshot(), MORTAL)


@pytest.mark.parametrize("profile", ["balanced", "lean"])
def test_the_compact_profiles_forget_alike_in_any_batches_and_after_a_restart(profile):
    recipe = replace(small(profile), ttl_ms=TTL_MS)
    one, other, again = Engine(recipe), Engine(recipe), Engine(recipe)
    whole = drive(one, COMING_AND_GOING)
    half = len(COMING_AND_GOING) // 2
    before = drive(other, COMING_AND_GOING.slice(0, half), [3, 1])
    again.restore(other.snapshot())
    after = drive(again, COMING_AND_GOING.slice(half, len(COMING_AND_GOING)), [7])
    assert_same_forecasts(whole, Forecasts.joined([before, after]))
    assert_same_snapshots(one.snapshot(), again.snapshot(), recipe)
    assert one.scores()[0].series_expired > 10


@few
@given(streams, batchings, st.integers(1, 60))
def test_any_batching_forgets_alike(ticks, sizes, ttl_ms):
    recipe = replace(SMALL, ttl_ms=ttl_ms)
    one, other = Engine(recipe), Engine(recipe)
    assert_same_forecasts(drive(one, ticks), drive(other, ticks, sizes))
    assert_same_snapshots(one.snapshot(), other.snapshot(), recipe)


@few
@given(streams, st.floats(0, 1), batchings, st.integers(1, 60))
def test_a_restored_engine_forgets_as_if_it_had_never_stopped(ticks, share, sizes, ttl_ms):
    recipe, cut = replace(SMALL, ttl_ms=ttl_ms), round(share * len(ticks))
    never_cut, stopped, again = Engine(recipe), Engine(recipe), Engine(recipe)
    whole = drive(never_cut, ticks)
    before = drive(stopped, ticks.slice(0, cut), sizes)
    again.restore(stopped.snapshot())
    assert_same_snapshots(again.snapshot(), stopped.snapshot(), recipe)
    after = drive(again, ticks.slice(cut, len(ticks)), sizes)
    assert_same_forecasts(whole, Forecasts.joined([before, after]))
    assert_same_snapshots(never_cut.snapshot(), again.snapshot(), recipe)
    assert again.scores()[0].series_expired == never_cut.scores()[0].series_expired


@pytest.mark.parametrize("cut", range(0, 240, 60))
def test_a_snapshot_that_was_copied_ahead_of_forgetting_is_whole(cut):
    engine, room = Engine(MORTAL), Room()
    drive(engine, COMING_AND_GOING.slice(0, cut))
    engine.begin_snapshot(room)
    room.copy_ahead()
    drive(engine, COMING_AND_GOING.slice(cut, cut + 60))
    assert_same_snapshots(engine.snapshot(room), engine.snapshot(), MORTAL)


def test_a_series_that_comes_back_begins_cold_as_if_it_were_new():
    recipe = replace(STILL, ttl_ms=100)
    rng = np.random.default_rng(0)
    other = [(b"other", MS + 10 * i, None, float(y)) for i, y in enumerate(rng.standard_normal(100))]
    first = [(b"a", MS + 10 * i, None, float(y)) for i, y in enumerate(rng.standard_normal(20))]
    second = [(b"a", MS + 500 + 10 * i, None, float(y)) for i, y in enumerate(rng.standard_normal(20))]
    together = sorted([*other, *first, *second], key=lambda row: row[1])
    answer = forecasts_of(Engine(recipe), together)
    at = [i for i, row in enumerate(together) if row[0] == b"a"]
    alone = forecasts_of(Engine(recipe), second)
    assert answer.values[at[20:]].tobytes() == alone.values.tobytes()
    assert answer.warm[at[20:]].tolist() == alone.warm.tolist()
    assert not alone.warm[0]


def test_a_row_that_is_used_again_knows_nothing_of_its_former_series():
    """Late, duplicate and all: every column of a row that serves another series is as fresh as a new one."""
    rows = [(b"old", MS + i, MS + 1000 * i, float(i * i)) for i in range(40)]
    rows += [(b"old", MS + 40, MS, 1.0)] * 3
    young = [(b"young", MS + 1000 + i, MS + 1000 * i, float(i % 5)) for i in range(40)]
    recipe = replace(STILL, ttl_ms=100)
    used, fresh = Engine(recipe), Engine(recipe)
    forecasts_of(used, rows)
    assert_same_forecasts(forecasts_of(used, young), forecasts_of(fresh, young))
    assert len(used._arena) == 1
    ours, theirs = used.snapshot(), fresh.snapshot()
    for name, array in ours.arrays.items():
        if name.startswith("arena."):
            assert array.tobytes() == theirs.arrays[name].tobytes(), name


def test_a_series_lives_for_its_ttl_and_hardly_longer_whatever_else_ticks():
    ttl_ms = 1600
    recipe = replace(STILL, ttl_ms=ttl_ms)
    for age in range(1, 2 * ttl_ms, 97):
        engine = Engine(recipe)
        forecasts_of(engine, [(b"a", MS, None, 1.0), (b"b", MS + age, None, 1.0)])
        is_known = not engine.unknown([b"a"])
        if age <= ttl_ms:
            assert is_known, age
        if age > ttl_ms + ttl_ms // ERAS:
            assert not is_known, age


def test_a_late_tick_is_a_sign_of_life():
    recipe = replace(STILL, ttl_ms=100)
    engine = Engine(recipe)
    rows = [(b"a", MS + 10 * i, MS + 5000 - i, 1.0) for i in range(15)]
    answer = forecasts_of(engine, [*rows, (b"b", MS + 160, None, 1.0)])
    assert (answer.verdict == Verdict.LATE).sum() == 14
    assert not engine.unknown([b"a"])


def test_max_series_counts_the_living():
    recipe = replace(STILL, ttl_ms=100, max_series=2)
    rows = [(b"%d" % (i // 5), MS + 200 * (i // 10) + i, None, 1.0) for i in range(60)]
    engine = Engine(recipe)
    answer = forecasts_of(engine, rows)
    assert (answer.verdict == Verdict.FORECAST).all()
    assert len(engine._arena) == 2
    crowded = forecasts_of(Engine(recipe), [(b"%d" % i, MS + i, None, 1.0) for i in range(3)])
    assert crowded.verdict.tolist() == [Verdict.FORECAST] * 2 + [Verdict.TOO_MANY_SERIES]


def test_without_a_ttl_nothing_is_forgotten_and_every_bit_stays():
    late = columns(np.ones((3, 2)))
    later = replace(late, ms=late.ms + 10**9, ts=late.ts + 10**12)
    engine = Engine(SMALL)
    drive(engine, late)
    drive(engine, later)
    assert engine.scores()[0].series_expired == 0
    assert engine.series_count == 2


def test_a_hundred_thousand_short_lives_take_no_more_memory_than_those_that_overlap():
    recipe = replace(STILL, ttl_ms=1000, max_series=5000, linear=(), readout=None)
    engine = Engine(recipe)
    room, sizes = Room(), []
    for turn in range(100):
        rows = [(b"session-%d" % (1000 * turn + i), MS + 1000 * turn + i, None, float(i % 7)) for i in range(1000)]
        answer = drive(engine, ticks_of(rows), [500])
        assert (answer.verdict == Verdict.FORECAST).all()
        if turn % 10 == 9:
            engine.begin_snapshot(room)
            room.copy_ahead()
            arrays = engine.snapshot(room).arrays.values()
            sizes.append((len(engine._arena), sum(array.nbytes for array in arrays), room.size_bytes))
    assert engine.scores()[0].series_expired > 97_000
    assert engine.series_count <= 2200
    rows, kept, taken = zip(*sizes, strict=True)
    assert set(rows) == {rows[0]}
    assert max(kept) - min(kept) < 20_000, "ids grow by a digit, nothing else does"
    assert max(taken) - min(taken) < 20_000


@given(st.lists(st.integers(0, 500), min_size=1, max_size=40).map(sorted), st.integers(1, 200), batchings)
def test_eras_begin_at_the_same_ticks_in_any_batches(ms, ttl_ms, sizes):
    def begins(parts):
        life, found = Life(ttl_ms), []
        for begin, part in parts:
            found += [(begin + start, horizon) for start, _, horizon in life.eras(part) if horizon is not None]
        return found

    whole = np.array(ms, np.int64)
    edges, turn = [0], 0
    while edges[-1] < len(ms):
        edges.append(min(edges[-1] + sizes[turn % len(sizes)], len(ms)))
        turn += 1
    wanted = begins([(0, whole)])
    assert begins([(start, whole[start:stop]) for start, stop in pairwise(edges)]) == wanted
    assert all(horizon <= ms[at] - ttl_ms for at, horizon in wanted)
