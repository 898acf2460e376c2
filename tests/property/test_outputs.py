"""Several features, targets and steps ahead promise what one value one step ahead does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.outputs import ANOMALY
from foretick.core.profiles import PROFILES
from foretick.core.records import Ticks, Verdict
from property.engine_streams import SMALL, assert_same_forecasts, assert_same_snapshots, columns, drive, few
from property.test_profiles import small

BARS = {"features": ("close", "high", "volume"), "targets": ("close", "high"), "horizon": 3}
RECIPES = {name: replace(SMALL if name == "accurate" else small(name), **BARS) for name in PROFILES}
ALL = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def bars(T=60, S=4, seed=0) -> Ticks:
    """T rounds of S series of three features, with repeated and restarted clocks among them."""
    rng = np.random.default_rng(seed)
    ticks = columns(rng.standard_normal((T, S)).cumsum(axis=0))
    close = ticks.y
    y = np.stack([close, close + np.abs(rng.standard_normal(len(close))), rng.exponential(1e6, len(close))], axis=1)
    ts = ticks.ts.copy()
    ts[10 * S : 14 * S : S] = 5  # one series is late for a while
    return replace(ticks, y=y, ts=ts)


TICKS = bars()


@ALL
def test_what_the_properties_are_about_happens(recipe):
    engine = Engine(recipe)
    answer = drive(engine, TICKS)
    assert engine.outputs == answer.names
    assert {"y.close", "yhat.high", "yhat_3_upper_95.close"} <= set(answer.names)
    assert np.isfinite(answer.values).all(axis=1).any()
    assert (answer.verdict == Verdict.LATE).any()
    assert engine.series_count == 4
    assert engine._schedule.cuts > 5
    assert engine.scores()[0].horizons[3].scored > 300
    assert engine.poisoned == 0


@few
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.sampled_from(list(RECIPES.values())))
def test_any_batching_gives_the_same_forecasts_and_state(sizes, recipe):
    one, other = Engine(recipe), Engine(recipe)
    assert_same_forecasts(drive(one, TICKS), drive(other, TICKS, sizes))
    assert_same_snapshots(one.snapshot(), other.snapshot(), recipe)


@few
@given(st.integers(0, len(TICKS)), st.sampled_from(list(RECIPES.values())))
def test_a_restored_engine_goes_on_as_if_it_had_never_stopped(at, recipe):
    whole = drive(Engine(recipe), TICKS)
    first, second = Engine(recipe), Engine(recipe)
    drive(first, TICKS.slice(0, at))
    second.restore(first.snapshot())
    rest = drive(second, TICKS.slice(at, len(TICKS)))
    assert rest.values.tobytes() == whole.values[at:].tobytes()


@ALL
def test_each_feature_may_have_another_unit(recipe):
    plain, scaled = drive(Engine(recipe), TICKS), drive(Engine(recipe), replace(TICKS, y=TICKS.y * [2.0**20, 0.5, 4.0]))
    units = [
        1.0 if name.startswith(ANOMALY) else {"close": 2.0**20, "high": 0.5}[name.rpartition(".")[2]]
        for name in plain.names
    ]
    assert_same_forecasts(replace(plain, values=plain.values * units), scaled)


@ALL
def test_each_feature_may_be_shifted(recipe):
    y = np.round(TICKS.y * 1024) / 1024  # so that the sums are exact
    shift = np.array([2.0**20, -(2.0**10), 0.0])
    plain = drive(Engine(recipe), replace(TICKS, y=y))
    shifted = drive(Engine(recipe), replace(TICKS, y=y + shift))
    for name, by in (("yhat.close", shift[0]), ("yhat_3.high", shift[1])):
        difference = np.nan_to_num(shifted.column(name) - by - plain.column(name))
        assert np.abs(difference).max() <= 4 * np.spacing(abs(by) + 1e3)


@ALL
def test_a_feature_that_helps_is_heard(recipe):
    """The other feature tells the next move of the target: what no history of the target itself holds."""
    rng = np.random.default_rng(1)
    moves = rng.standard_normal(1500)
    close, hint = np.concatenate([[0], moves[:-1].cumsum()]), moves.cumsum()
    ticks = columns(close[:, None])
    recipe = replace(recipe, features=("close", "hint"), targets=("close",), horizon=1, season=recipe.season)
    answer = drive(Engine(recipe), replace(ticks, y=np.stack([close, hint], axis=1)))
    errors = np.abs(np.diff(close)[700:] - (answer.yhat - close)[700:-1])
    assert errors.mean() < 0.3 * np.abs(np.diff(close)[700:]).mean()


def test_a_tick_without_a_feature_of_its_group_is_refused_and_leaves_no_trace():
    recipe = RECIPES["accurate"]
    y = TICKS.y.copy()
    y[7::13, 2] = np.nan
    missing = np.isnan(y).any(axis=1)
    engine, without = Engine(recipe), Engine(recipe)
    answer = drive(engine, replace(TICKS, y=y), [11])
    assert np.array_equal(answer.verdict == Verdict.MISSING_FIELD, missing)
    kept = drive(without, TICKS.at(np.flatnonzero(~missing)), [9])
    assert answer.values[~missing].tobytes() == kept.values.tobytes()
    assert_same_snapshots(engine.snapshot(), without.snapshot(), recipe)


def test_series_are_counted_by_their_ids_not_by_their_targets():
    engine = Engine(replace(RECIPES["accurate"], max_series=3))
    answer = drive(engine, TICKS)
    assert engine.series_count == 3
    refused = answer.verdict == Verdict.TOO_MANY_SERIES
    assert {TICKS.series[i] for i in np.flatnonzero(refused)} == {b"s3"}
    assert engine.unknown([b"s0", b"s3"]) == {b"s3"}
