"""What the forecasts do not depend on: where zero is, the unit, the neighbours, and numbers of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foretick.core.engine import Engine
from foretick.core.features import WIDTH
from foretick.core.learner import InlineTrainer, Knowledge
from foretick.core.lstm import Shape
from foretick.core.outputs import ANOMALY
from foretick.core.records import Forecasts, Verdict
from property.engine_streams import (
    HOUR,
    MS,
    SMALL,
    STILL,
    assert_same_forecasts,
    bits,
    columns,
    drive,
    few,
    fresh_forecasts,
    pick,
    records_of,
    streams,
    ticks_of,
    with_values,
)

UNITLESS = ("phat", "expert", "regret", "regret_square", "mix_loss", "h", "c", "season")


# Shift and scale. The streams' values are whole eighths below 2^10 in size: sums with whole shifts are exact.


@few
@given(streams, st.integers(-(2**40), 2**40))
def test_a_shifted_series_has_the_same_carried_state_and_shifted_forecasts(ticks, shift):
    here, there = Engine(SMALL), Engine(SMALL)
    plain = drive(here, ticks)
    shifted = drive(there, with_values(ticks, ticks.y + shift))
    a, b = records_of(here), records_of(there)
    for name in (*UNITLESS, "scale", "fast", "deviation"):
        assert bits(np.ascontiguousarray(a[name])) == bits(np.ascontiguousarray(b[name])), name
    # The change is the same to the last bit; only its sum with the value is rounded, at the size of the sum.
    assert bits(here._knowledge) == bits(there._knowledge)
    rounding = 2 * np.spacing(np.abs(np.nan_to_num(shifted.yhat)) + abs(shift))
    assert (np.abs(np.nan_to_num(shifted.yhat - shift - plain.yhat)) <= rounding).all()
    assert np.array_equal(plain.verdict, shifted.verdict)


@few
@given(streams, st.integers(-60, 60))
def test_a_power_of_two_scales_the_forecasts_exactly(ticks, power):
    """A positive unit only: the network is not odd in its inputs, so a mirrored series is another series."""
    factor = 2.0**power
    here, there = Engine(SMALL), Engine(SMALL)
    plain = drive(here, ticks)
    scaled = drive(there, with_values(ticks, ticks.y * factor))
    units = [1.0 if name == ANOMALY else factor for name in plain.names]
    assert_same_forecasts(replace(plain, values=plain.values * units), scaled)
    a, b = records_of(here), records_of(there)
    for name in UNITLESS:
        assert bits(np.ascontiguousarray(a[name])) == bits(np.ascontiguousarray(b[name])), name
    assert bits(here._knowledge) == bits(there._knowledge)
    assert here.scores() == there.scores()


@few
@given(streams, st.floats(1e-9, 1e9))
def test_any_unit_scales_the_forecasts_of_an_engine_that_does_not_learn(ticks, factor):
    plain = wild_forecasts(STILL, ticks)
    scaled = wild_forecasts(STILL, with_values(ticks, ticks.y * factor))
    assert np.array_equal(plain.verdict, scaled.verdict)
    size = 1 + np.abs(ticks.y).max(initial=0)
    # Where the mix weighs experts that are equally bad its weights turn on the last bit, so not to the last digits.
    np.testing.assert_allclose(scaled.yhat / factor, plain.yhat, rtol=0, atol=2e-3 * size)


def wild_forecasts(recipe, ticks):
    """Forecasts with weights that do something: at the start the head is zero and would hide the network."""
    engine = Engine(recipe)
    generator = torch.Generator().manual_seed(5)
    engine._adopt(Knowledge.fresh(0.4 * torch.randn(engine.shape.size, generator=generator)))
    return drive(engine, ticks)


# Neighbours.


@few
@given(streams, st.permutations(range(7)), st.sets(st.integers(0, 6), min_size=1))
def test_without_learning_the_forecasts_of_a_series_do_not_depend_on_the_others(ticks, ranks, chosen):
    ticks = pick(ticks, [i for i, name in enumerate(ticks.series) if name < b"n7"])  # all have room
    together = wild_forecasts(STILL, ticks)
    # All series' ticks one series after another, in any order of first appearance, some of them left out.
    of = np.array([int(name[1:]) for name in ticks.series], int)
    order = [i for s in ranks if s in chosen for i in np.flatnonzero(of == s).tolist()]
    apart = wild_forecasts(STILL, pick(ticks, order))
    for name in ("verdict", "yhat", "warm"):
        assert bits(getattr(together, name)[np.array(order, int)]) == bits(getattr(apart, name)), name


def test_with_learning_a_neighbour_that_is_recorded_changes_the_forecasts():
    """Series share weights: the property above would be worth nothing if the small engine never learned."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((60, 2)).cumsum(axis=0)
    alone = fresh_forecasts(SMALL, columns(y[:, :1]))
    beside = fresh_forecasts(SMALL, columns(y))
    assert not np.array_equal(alone.yhat, beside.yhat[::2])


def test_without_learning_the_name_of_a_series_does_not_matter():
    y = np.random.default_rng(0).standard_normal(80).cumsum()
    one = fresh_forecasts(STILL, ticks_of((b"a", MS + i, None, v) for i, v in enumerate(y)))
    other = fresh_forecasts(STILL, ticks_of((b"\xce\xa9" * 100, MS + i, None, v) for i, v in enumerate(y)))
    assert_same_forecasts(one, other)


# Numbers of any size.


@few
@given(st.floats(-1e30, 1e30), st.integers(1, 40))
@example(0.0, 70)
@example(1e30, 70)
@example(-1e-30, 70)
def test_a_constant_series_is_forecast_exactly(value, ticks):
    engine = Engine(SMALL)
    answer = drive(engine, columns(np.full((ticks, 3), value)))
    assert (answer.yhat == value).all()
    assert_sound(engine, answer)
    assert engine.scores()[0].scaled_abs_error == 0


MAGNITUDES = [0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30, 1e15, 0.1]


@few
@given(st.lists(st.tuples(st.sampled_from(MAGNITUDES), st.integers(1, 20)), min_size=1, max_size=6))
@example([(1e30, 1), (-1e30, 1)] * 20)
@example([(0.0, 60), (1e30, 1), (0.0, 60)])
@example([(1e-30, 30), (-1e-30, 30), (1e30, 2), (1e-30, 40)])
@example([(0.0, 20), (1e-30, 1), (0.0, 20), (1e30, 1)])
def test_huge_and_tiny_values_and_steps_after_constancy_stay_finite(levels):
    y = np.concatenate([np.full(count, value) for value, count in levels])
    engine = Engine(SMALL)
    assert_sound(engine, drive(engine, columns(y[:, None])))


@few
@given(arrays.arrays(np.float64, (40, 2), elements=st.floats(-1e30, 1e30).filter(lambda y: y == 0 or abs(y) > 1e-30)))
def test_any_values_within_sixty_decades_stay_finite(y):
    engine = Engine(SMALL)
    assert_sound(engine, drive(engine, columns(y)))


@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 1e-290, 1e-269])
def test_values_smaller_than_any_sensor_stay_finite(tiny):
    y = np.concatenate([[0.0, tiny] * 40, [0.0, 1e30, 0.0], [1e30, tiny] * 10])
    engine = Engine(SMALL)
    assert_sound(engine, drive(engine, columns(y[:, None])))


def test_a_step_after_a_long_rest_does_not_drown_the_group_in_one_error():
    """Four hours at ten ticks a second; the scale has all but vanished when the sensor moves again."""
    engine = Engine(STILL)
    rng = np.random.default_rng(0)
    y = rng.standard_normal(500).cumsum()
    drive(engine, columns(y[:, None]))
    busy = engine.scores()[0]
    # The rest itself is 140,000 steps of s ← .995 s; here it is written down at once.
    for name in ("scale", "fast", "move"):
        engine._arena.records[name] *= 0.995**140_000
    engine._arena.records["per_scale"] = 1.0 / engine._arena.records["scale"]
    drive(engine, ticks_of([(b"s0", MS + 600, None, y[-1] + 1.0)]))
    after = engine.scores()[0]
    assert after.scored == busy.scored + 1
    assert after.naive_scaled_abs_error < busy.naive_scaled_abs_error + 201
    assert after.scaled_abs_error < busy.scaled_abs_error + 221


def assert_sound(engine, answer: Forecasts):
    assert (answer.verdict == Verdict.FORECAST).all()
    assert np.isfinite(answer.yhat).all()
    snapshot = engine.snapshot()
    for name in records_of(engine).dtype.names:
        if name not in ("bounds", "anomaly"):  # NaN where there are none
            assert np.isfinite(records_of(engine)[name]).all(), name
    assert all(np.isfinite(value).all() for value in snapshot.arrays.values() if value.dtype.kind == "f")
    assert all(np.isfinite(list(snapshot.numbers["tally"].values())))
    assert engine.poisoned == 0
    assert snapshot.knowledge.sound


def test_an_unstamped_tick_that_seems_to_be_earlier_than_a_stamped_one_is_forecast_soundly():
    stamped = [(b"a", MS + i, MS + (i + 1) * HOUR, float(i % 5)) for i in range(20)]
    unstamped = [(b"a", MS + 20 + i, None, float(i % 7)) for i in range(30)]
    engine = Engine(SMALL)
    assert_sound(engine, drive(engine, ticks_of(stamped + unstamped)))


# A poisoned model.


class Spoiler(InlineTrainer):
    """A trainer whose outcome is spoiled from job `first` on to before job `last`."""

    def __init__(self, recipe, spoil, first, last):
        super().__init__(Shape(WIDTH, recipe.hidden), recipe.learn)
        self.spoil, self.first, self.last = spoil, first, last
        self.spoiled, self.learned = 0, []

    def collect(self):
        number = self._job.number
        knowledge = super().collect()
        if self.first <= number < self.last:
            self.spoiled += 1
            return self.spoil(knowledge)
        self.learned.append(knowledge)
        return knowledge


def nan_weights(knowledge):
    return replace(knowledge, theta=knowledge.theta * float("nan"))


def one_nan_weight(knowledge):
    theta = knowledge.theta.clone()
    theta[-1] = float("nan")
    return replace(knowledge, theta=theta)


def infinite_moments(knowledge):
    return replace(knowledge, square=knowledge.square + float("inf"))


LIVELY = columns(np.random.default_rng(0).standard_normal((80, 4)).cumsum(axis=0))


@pytest.mark.parametrize("spoil", [nan_weights, one_nan_weight, infinite_moments])
def test_a_spoiled_job_is_thrown_away_and_counted_and_learning_goes_on(spoil):
    trainer = Spoiler(SMALL, spoil, first=5, last=9)
    engine = Engine(SMALL, trainer)
    answer = drive(engine, LIVELY)
    assert np.isfinite(answer.yhat).all()
    assert trainer.spoiled == 4
    assert engine.poisoned == 4
    assert engine._knowledge.sound
    assert len(trainer.learned) > 10
    assert engine._knowledge is trainer.learned[-1]
    assert all(knowledge.sound for knowledge in trainer.learned)
    untouched = fresh_forecasts(SMALL, LIVELY)
    before = 4 * 5 * SMALL.learn.early_every
    assert np.array_equal(answer.yhat[:before], untouched.yhat[:before])


def test_an_engine_whose_trainer_only_ever_fails_keeps_forecasting_from_its_first_weights():
    trainer = Spoiler(SMALL, nan_weights, first=0, last=10**9)
    engine = Engine(SMALL, trainer)
    answer = drive(engine, LIVELY)
    assert np.isfinite(answer.yhat).all()
    assert engine.poisoned == trainer.spoiled > 10
    assert engine._knowledge.theta.equal(Engine(SMALL)._knowledge.theta)


@pytest.mark.parametrize("weight", [3e38, 1e10, 999.0])
def test_finite_but_absurd_weights_reach_no_forecast_and_the_group_learns_again(weight):
    trainer = Spoiler(SMALL, lambda knowledge: replace(knowledge, theta=torch.full_like(knowledge.theta, weight)), 5, 6)
    engine = Engine(SMALL, trainer)
    answer = drive(engine, LIVELY)
    moves = 20 * np.abs(np.diff(LIVELY.y.reshape(-1, 4), axis=0)).max()
    assert (np.abs(answer.yhat - LIVELY.y) <= moves).all()
    assert engine.poisoned == (weight > 1e3)
    assert engine._knowledge is trainer.learned[-1]
    assert np.isfinite(records_of(engine)["h"]).all()


def test_a_carried_state_that_is_not_finite_is_reset_and_counted():
    engine = Engine(STILL)
    engine._adopt(Knowledge.fresh(engine._knowledge.theta + 0.1))
    half = len(LIVELY) // 2
    drive(engine, LIVELY.slice(0, half))
    engine._arena.records["h"][2] = np.nan
    answer = drive(engine, LIVELY.slice(half, len(LIVELY)))
    assert np.isfinite(answer.yhat).all()
    assert engine.poisoned == 1
    assert np.isfinite(records_of(engine)["h"]).all()
    assert records_of(engine)["h"][2].any()
