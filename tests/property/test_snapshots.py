"""A snapshot that is copied beside a running engine, or turned into plain arrays and back, is the engine to the bit."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from engine_streams import (
    MS,
    SMALL,
    assert_same_forecasts,
    assert_same_snapshots,
    columns,
    drive,
    few,
    streams,
    ticks_of,
)
from hypothesis import given
from hypothesis import strategies as st

from foretick.core import snapshots
from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe
from foretick.core.snapshots import PASSES_MAX, Room, flatten, unflatten

LIVELY = columns(np.random.default_rng(0).standard_normal((60, 5)).cumsum(axis=0))


def take_beside(engine, room, ticks, sizes):
    """A snapshot that was copied ahead while the engine took these ticks, `sizes` at a time."""
    start = 0
    for size in sizes:
        engine.begin_snapshot(room)
        half = start + size // 2
        drive(engine, ticks.slice(start, half))
        room.copy_ahead()
        drive(engine, ticks.slice(half, start + size))
        start += size
        if engine.is_close(room):
            break
    drive(engine, ticks.slice(start, len(ticks)))
    return engine.snapshot(room)


@few
@given(streams, streams, st.lists(st.integers(0, 30), max_size=PASSES_MAX))
def test_a_snapshot_copied_ahead_equals_one_taken_at_once(before, during, sizes):
    engine, room = Engine(SMALL), Room()
    drive(engine, before)
    assert_same_snapshots(take_beside(engine, room, during, sizes), engine.snapshot())
    drive(engine, LIVELY)
    assert_same_snapshots(take_beside(engine, room, before, sizes[::-1]), engine.snapshot())


def test_passes_go_on_while_much_is_touched_and_copy_less_each_time(monkeypatch):
    engine, room = Engine(SMALL), Room()
    drive(engine, LIVELY)
    monkeypatch.setattr(snapshots, "CLOSE_BYTES", 2 * sum(a[:1].nbytes for a in engine._arena.rows.values()))
    engine.begin_snapshot(room)
    room.copy_ahead()
    assert engine.is_close(room)
    drive(engine, LIVELY.slice(0, 3))
    assert not engine.is_close(room)
    engine.begin_snapshot(room)
    assert engine.is_close(room)
    room.copy_ahead()
    drive(engine, LIVELY.slice(3, 5))
    assert engine.is_close(room)
    assert_same_snapshots(engine.snapshot(room), engine.snapshot())


def test_a_busy_engine_is_copied_in_the_end(monkeypatch):
    monkeypatch.setattr(snapshots, "CLOSE_BYTES", 0)
    engine, room = Engine(SMALL), Room()
    for passes in range(1, PASSES_MAX + 1):
        engine.begin_snapshot(room)
        room.copy_ahead()
        drive(engine, LIVELY)
        assert engine.is_close(room) == (passes == PASSES_MAX)
    assert_same_snapshots(engine.snapshot(room), engine.snapshot())


def test_series_that_appear_while_others_are_copied_are_in_the_snapshot():
    recipe = replace(SMALL, max_series=1000)
    engine, room = Engine(recipe), Room()
    drive(engine, LIVELY)
    engine.begin_snapshot(room)
    drive(engine, ticks_of((b"new%d" % i, MS + 99, None, float(i)) for i in range(300)))
    room.copy_ahead()
    assert len(engine.snapshot(room).names) == 305
    assert_same_snapshots(engine.snapshot(), engine.snapshot(room), recipe)


def test_a_thread_may_copy_while_the_engine_runs():
    recipe = replace(SMALL, max_series=3000, learn=LearnRecipe(enabled=False))
    engine, room = Engine(recipe), Room()
    wide = columns(np.random.default_rng(1).standard_normal((12, 3000)))
    drive(engine, wide)
    for _ in range(5):
        engine.begin_snapshot(room)
        copying = threading.Thread(target=room.copy_ahead)
        copying.start()
        drive(engine, wide.slice(0, 9000), [500])
        copying.join()
        assert_same_snapshots(engine.snapshot(room), engine.snapshot(), recipe)


def test_the_memory_of_a_room_is_kept():
    engine, room = Engine(SMALL), Room()
    drive(engine, LIVELY)
    first = engine.snapshot(room)
    size_bytes = room.size_bytes
    second = engine.snapshot(room)
    assert room.size_bytes == size_bytes
    assert all(
        np.shares_memory(first.arrays[name], second.arrays[name]) for name in first.arrays if first.arrays[name].size
    )


def through_plain(snapshot):
    arrays, facts = flatten(snapshot)
    frozen = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in arrays.items()}
    return unflatten(frozen, json.loads(json.dumps(facts)))


@few
@given(streams, st.floats(0, 1))
def test_an_engine_restored_from_plain_arrays_goes_on_as_if_it_had_never_stopped(ticks, share):
    cut = round(share * len(ticks))
    engine, again = Engine(SMALL), Engine(SMALL)
    drive(engine, ticks.slice(0, cut))
    snapshot = engine.snapshot()
    again.restore(through_plain(snapshot))
    assert_same_snapshots(again.snapshot(), snapshot)
    rest = ticks.slice(cut, len(ticks))
    assert_same_forecasts(drive(again, rest), drive(engine, rest))
    assert_same_snapshots(again.snapshot(), engine.snapshot())


@pytest.mark.parametrize("name", [b"", b"\xff\x00", "köln".encode(), b"x" * 200])
def test_any_series_id_survives(name):
    engine, again = Engine(SMALL), Engine(SMALL)
    drive(engine, ticks_of((series, MS, None, 1.0) for series in (b"first", name, b"last")))
    again.restore(through_plain(engine.snapshot()))
    assert again.snapshot().names == [b"first", name, b"last"]


def test_the_layout_tells_what_cannot_be_restored_from_what_can():
    plain = Engine(SMALL).layout
    assert Engine(replace(SMALL, max_series=9, learn=replace(SMALL.learn, every=9, enabled=False))).layout == plain
    assert Engine(replace(SMALL, hidden=16)).layout != plain
    assert Engine(replace(SMALL, window=25)).layout != plain
    assert json.loads(json.dumps(plain)) == plain
