"""Several groups in one engine: each forecasts as if it were alone, and what they share follows from the stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from foretick.core import groups
from foretick.core.engine import Engine
from foretick.core.groups import GroupedEngine
from foretick.core.recipe import IntervalRecipe
from foretick.core.records import Verdict
from property.engine_streams import (
    LEARNING,
    SMALL,
    Segment,
    assert_same_forecasts,
    assert_same_snapshots,
    batchings,
    columns,
    drive,
    expand,
    few,
    pick,
    streams,
)

DEEP = replace(SMALL, hidden=16, layers=2, seed=3, learn=replace(LEARNING, every=3, steps=1))
RECIPES = {"odd": DEEP, "default": SMALL}
MANY = 100  # more series than any stream has
STREAM = expand(
    [
        Segment("rounds", 2, 12, 1),
        Segment("burst", 1, 12, 2),
        Segment("rounds", 4, 10, 3),
        Segment("crowd", 8, 40, 5),
        Segment("late", 1, 10, 4),
        Segment("unstamped", 4, 6, 7),
        Segment("rounds", 8, 12, 9),
    ]
)


def group_of(series: bytes) -> str:
    return "odd" if series[-1] % 2 else "default"


def grouped(max_series: int = SMALL.max_series, recipes=RECIPES) -> GroupedEngine:
    engines = {group: Engine(replace(one, max_series=max_series), group=group) for group, one in recipes.items()}
    return GroupedEngine(engines, group_of, max_series)


def assert_same_state(one: GroupedEngine, other: GroupedEngine) -> None:
    for group, recipe in RECIPES.items():
        assert_same_snapshots(one.engines[group].snapshot(), other.engines[group].snapshot(), recipe)


@pytest.mark.parametrize("max_series", [SMALL.max_series, MANY])
@pytest.mark.parametrize("sizes", [[1], [2, 3, 50], [64]])
def test_the_example_stream_has_the_same_forecasts_in_any_batches(sizes, max_series):
    one, other = grouped(max_series), grouped(max_series)
    assert_same_forecasts(drive(one, STREAM), drive(other, STREAM, sizes))
    assert_same_state(one, other)
    assert all(engine._schedule.cuts > 5 for engine in one.engines.values())


@few
@given(streams, batchings)
def test_any_batching_gives_the_same_forecasts_and_the_same_state(ticks, sizes):
    one, other = grouped(), grouped()
    assert_same_forecasts(drive(one, ticks), drive(other, ticks, sizes))
    assert_same_state(one, other)


def test_a_group_forecasts_as_if_it_were_alone():
    answer = drive(grouped(MANY), STREAM, [17])
    for group, recipe in RECIPES.items():
        at = np.flatnonzero([group_of(series) == group for series in STREAM.series])
        alone = Engine(replace(recipe, max_series=MANY)).advance(pick(STREAM, at))
        assert alone.yhat.tobytes() == answer.yhat[at].tobytes()
        assert alone.values.tobytes() == answer.values[at].tobytes()
        assert alone.verdict.tobytes() == answer.verdict[at].tobytes()
        assert alone.warm.tobytes() == answer.warm[at].tobytes()


@pytest.mark.parametrize("max_series", [1, 4, 7, 8, 9])
@pytest.mark.parametrize("sizes", [[1], [30], [len(STREAM)]])
def test_the_bound_on_series_is_one_for_all_groups_and_whoever_comes_first_is_in(max_series, sizes):
    engine = grouped(max_series)
    refused = drive(engine, STREAM, sizes).verdict == Verdict.TOO_MANY_SERIES
    wanted = Engine(replace(SMALL, max_series=max_series)).advance(STREAM).verdict == Verdict.TOO_MANY_SERIES
    assert refused.tolist() == wanted.tolist()
    assert engine.series_count == max_series


def test_a_batch_in_which_nobody_can_be_refused_is_taken_group_by_group(monkeypatch):
    engine = grouped(2)
    engine.advance(columns(np.ones((1, 3))))
    monkeypatch.setattr(groups, "_runs", None)
    engine.advance(columns(2 * np.ones((50, 2))))


def test_a_restored_engine_goes_on_with_the_same_bits():
    one, other = grouped(), grouped()
    half = len(STREAM) // 2
    before = one.advance(STREAM.slice(0, half))
    for group, engine in other.engines.items():
        engine.restore(one.engines[group].snapshot())
    assert before.verdict.any()
    rest = STREAM.slice(half, len(STREAM))
    assert_same_forecasts(drive(one, rest), drive(other, rest, [9]))
    assert_same_state(one, other)


def test_a_group_without_intervals_leaves_those_columns_open():
    engine = grouped(MANY, {"odd": replace(DEEP, interval=IntervalRecipe(levels=())), "default": SMALL})
    assert engine.outputs == engine.engines["default"].outputs
    y = np.random.default_rng(0).standard_normal((60, 2)).cumsum(axis=0)
    last = engine.advance(columns(y)).values[-2:]  # of s0 and s1
    assert np.isfinite(last[0]).all()
    assert np.isfinite(last[1, 0])
    assert np.isnan(last[1, 1:]).all()


def test_scores_are_told_by_group():
    engine = grouped(MANY)
    engine.advance(columns(np.random.default_rng(0).standard_normal((20, 3))))
    assert [(scores.group, scores.scored) for scores in engine.scores()] == [("odd", 19), ("default", 38)]


def test_which_group_a_series_is_in_is_asked_once_and_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(groups, "_REMEMBERED_MIN", 4)
    asked = []
    engine = GroupedEngine(
        {"default": Engine(replace(SMALL, max_series=1))}, lambda name: asked.append(name) or "default", 1
    )
    engine.advance(columns(np.ones((3, 2))))
    assert asked == [b"s0", b"s1"]
    for _ in range(3):
        engine.advance(columns(np.ones((1, 6))))
    assert len(engine._numbers._remembered) <= 6


def test_no_ticks_are_no_forecasts():
    assert len(grouped().advance(STREAM.slice(0, 0)).verdict) == 0
