"""What every profile promises: the same bits in any batches, after any restart, in any unit, wherever zero is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.outputs import ANOMALY
from foretick.core.profiles import PROFILES
from foretick.core.records import Forecasts
from property.engine_streams import (
    SMALL,
    Segment,
    assert_same_forecasts,
    assert_same_snapshots,
    batchings,
    bits,
    columns,
    drive,
    expand,
    few,
    pick,
    records_of,
    streams,
    with_values,
)
from property.test_invariance import UNITLESS

BUSY = expand([Segment("rounds", 6, 40, 1), Segment("late", 1, 10, 4), Segment("rounds", 8, 30, 3)])
HERE = np.random.default_rng(0).standard_normal((50, 6)).cumsum(axis=0)


def small(profile):
    """The profile in the size of `SMALL`: few ticks meet cuts, a full pool, seasons, and intervals."""
    recipe = PROFILES[profile]()
    learn = replace(
        SMALL.learn,
        pool=replace(recipe.learn.pool, chunks=6, begins=2, slots=3, newest=2, batch=4) if recipe.learn.pool else None,
    )
    return replace(
        recipe,
        hidden=8,
        window=24,
        cold_ticks=3,
        linear_cold_ticks=4,
        max_series=7,
        season=replace(SMALL.season),
        interval=replace(recipe.interval, warm_residuals=4),
        learn=learn,
    )


COMPACT = pytest.mark.parametrize("profile", ["balanced", "lean"])


@COMPACT
def test_the_small_profiles_do_all_that_the_properties_speak_of(profile):
    recipe = small(profile)
    engine = Engine(recipe)
    answer = drive(engine, BUSY)
    pool = engine._recorder
    assert pool.pushed[0] > recipe.learn.pool.chunks
    assert not np.array_equal(engine._knowledge.theta, Engine(recipe)._knowledge.theta)
    assert (records_of(engine)["season"][:, 0] == 4).any()
    assert np.isfinite(answer.values).all(axis=1).any()
    assert (np.abs(records_of(engine)["expert"]).max(axis=0)[1:] > 0).all()
    assert engine.poisoned == 0


@COMPACT
@few
@given(streams, batchings)
def test_any_batching_gives_the_same_forecasts_and_the_same_state(profile, ticks, sizes):
    one, other = Engine(small(profile)), Engine(small(profile))
    assert_same_forecasts(drive(one, ticks), drive(other, ticks, sizes))
    assert_same_snapshots(one.snapshot(), other.snapshot(), small(profile))


@COMPACT
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_restored_engine_goes_on_as_if_it_had_never_stopped(profile, share):
    recipe, cut = small(profile), round(share * len(BUSY))
    never_cut, stopped, again = (Engine(recipe) for _ in range(3))
    whole = drive(never_cut, BUSY)
    before = drive(stopped, BUSY.slice(0, cut), [7])
    again.restore(stopped.snapshot())
    after = drive(again, BUSY.slice(cut, len(BUSY)), [1, 50])
    assert_same_forecasts(whole, Forecasts.joined([before, after]))
    assert_same_snapshots(never_cut.snapshot(), again.snapshot(), recipe)


@COMPACT
def test_a_thousand_series_in_one_round_have_the_bits_they_have_alone(profile):
    recipe = PROFILES[profile]()
    recipe = replace(recipe, learn=replace(recipe.learn, enabled=False))
    together = columns(np.random.default_rng(0).standard_normal((45, 300)).cumsum(axis=0))
    one, other = Engine(recipe), Engine(recipe)
    assert_same_forecasts(drive(one, together), drive(other, together, [1, 333, 17, 5000]))
    assert_same_snapshots(one.snapshot(), other.snapshot(), recipe)


@COMPACT
@few
@given(streams, st.integers(-60, 60), st.integers(-(2**40), 2**40))
def test_neither_unit_nor_zero_change_what_is_carried(profile, ticks, power, shift):
    factor = 2.0**power
    here, scaled, shifted = (Engine(small(profile)) for _ in range(3))
    plain = drive(here, ticks)
    units = [1.0 if name == ANOMALY else factor for name in plain.names]
    assert_same_forecasts(
        replace(plain, values=plain.values * units), drive(scaled, with_values(ticks, ticks.y * factor))
    )
    drive(shifted, with_values(ticks, ticks.y + shift))
    for name in (*UNITLESS, "swing", "linear_x"):
        kept = [bits(np.ascontiguousarray(records_of(engine)[name])) for engine in (here, scaled, shifted)]
        assert kept[0] == kept[1] == kept[2], name
    assert bits(here._knowledge) == bits(scaled._knowledge) == bits(shifted._knowledge)


@COMPACT
def test_series_do_not_feel_each_other_without_learning(profile):
    recipe = replace(small(profile), learn=replace(small(profile).learn, enabled=False))
    ticks = columns(HERE)
    together = drive(Engine(recipe), ticks)
    for s in range(HERE.shape[1]):
        at = np.arange(s, len(ticks.y), HERE.shape[1])
        alone = drive(Engine(recipe), pick(ticks, at))
        assert bits(alone.values) == bits(together.values[at])


@COMPACT
@pytest.mark.parametrize("level", [0.0, 1e-300, 1e30])
def test_constant_huge_and_tiny_values_stay_finite(profile, level):
    y = np.concatenate([np.full(30, level), [-level, level] * 10, [0.0, 1e30, -1e30], np.full(20, level)])
    engine = Engine(small(profile))
    answer = drive(engine, columns(y[:, None]))
    assert np.isfinite(answer.yhat).all()
    assert (answer.yhat[:29] == level).all()
    assert all(np.isfinite(a).all() for name, a in engine.snapshot().arrays.items() if a.dtype.kind == "f")
    assert engine.poisoned == 0


@COMPACT
def test_what_is_learned_does_not_depend_on_the_order_of_series_inside_a_millisecond(profile):
    ticks = columns(HERE)
    S = HERE.shape[1]
    backwards = np.arange(len(ticks.y)).reshape(-1, S)[:, ::-1].ravel()
    straight, mixed = Engine(small(profile)), Engine(small(profile))
    one, other = drive(straight, ticks), drive(mixed, pick(ticks, backwards))
    assert bits(one.values) == bits(other.values[backwards])
    assert straight._knowledge.theta.equal(mixed._knowledge.theta)
    assert straight._recorder.pushed[0] > straight.recipe.learn.pool.chunks
