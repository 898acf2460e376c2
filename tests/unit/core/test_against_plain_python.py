"""Scaling, seasons, inputs, experts, mix and scores against the formulas in plain Python, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.core import experts
from foretick.core.block import padded
from foretick.core.engine import Engine
from foretick.core.features import PACE, WIDTH
from foretick.core.learner import Knowledge
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.scaling import outcome
from property.engine_streams import ticks_of
from unit.core.plain import PlainMix, PlainSeries, clip

HOUR = 3_600_000
MONDAY = 1_700_000_000_000
STILL = Recipe(hidden=8, learn=LearnRecipe(enabled=False))
EWMA, LSTM = (experts.names(STILL).index(name) for name in (experts.EWMA, experts.LSTM))


def values(kind, n=220):
    rng = np.random.default_rng(7)
    walk = rng.standard_normal(n).cumsum()
    if kind == "steps":  # constant, then moves, then a rest, an outlier, and a jump of unit
        walk[:40], walk[90:120], walk[150] = 3.0, walk[90], 1e6
        walk[180:] *= 1e4
    if kind == "season":
        walk = np.sin(np.arange(n) * 2 * np.pi / 24) + 0.1 * rng.standard_normal(n)
    return walk.tolist()


def run(y, step_ms=HOUR, recipe=STILL):
    """(plain series, record, inputs, seasonal naive, forecast) after each tick."""
    engine, plain = Engine(recipe), PlainSeries(window=recipe.window)
    rng = np.random.default_rng(2)
    theta = engine._knowledge.theta
    engine._adopt(Knowledge.fresh(theta + 0.3 * theta.new_tensor(rng.standard_normal(len(theta)))))
    row = padded(np.array([0]))
    for i, value in enumerate(y):
        ts = MONDAY + (i + 1) * step_ms
        answer = engine.advance(ticks_of([(b"a", MONDAY + i, ts, value)]))
        plain.take(value, ts)
        x, linear, seasonal = engine._model._features.see(row, engine._arena.gather(row), row, None)
        np.testing.assert_allclose(linear[:, 0], plain.linear_features(), rtol=2e-6, atol=2e-6)
        yield plain, engine._arena.records[0].copy(), x[:, 0], seasonal[0], answer


@pytest.mark.parametrize("kind", ["walk", "steps", "season"])
def test_scales_averages_inputs_and_simple_experts_follow_their_formulas(kind):
    for plain, block, x, seasonal, _ in run(values(kind)):
        assert block["t"] == plain.t
        assert block["y"] == plain.y[-1]
        for name, expected in (("scale", plain.s), ("fast", plain.fast), ("move", plain.move)):
            assert block[name] == pytest.approx(expected, rel=1e-12), name
        level = max(map(abs, plain.y))
        for deviation, average in zip(block["deviation"], plain.averages.values(), strict=True):
            assert plain.y[-1] - deviation == pytest.approx(average, abs=1e-12 * level)
        assert tuple(block["season"]) == plain.season
        assert x.shape == (WIDTH,)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x[:24], plain.inputs(), rtol=2e-6, atol=2e-6)
        said = np.arcsinh(block["expert"][LSTM + 1 : LSTM + 4])
        np.testing.assert_allclose(block["inputs"], [*x[:24], *said, x[PACE]], rtol=1e-6)
        assert x[PACE] == pytest.approx(plain.pace(), abs=2e-5)
        assert seasonal == pytest.approx(plain.seasonal_naive(), rel=1e-12)
        assert block["expert"][experts.NAIVE] == 0
        assert block["expert"][experts.SEASONAL_NAIVE] == pytest.approx(plain.seasonal_naive(), rel=1e-6)
        assert block["expert"][EWMA] == pytest.approx(plain.ewma(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["walk", "steps", "season"])
def test_the_mix_follows_its_formulas_and_the_forecast_its_mix(kind):
    mix, standing, listened = PlainMix(len(experts.names(STILL))), None, False
    for plain, block, _, _, answer in run(values(kind)):
        if standing is not None:
            s, p, given = standing
            change = plain.d(plain.t)
            mix.learn(clip(change / s if s > 0 else (change > 0) - (change < 0)), p, given)
        given = block["expert"].tolist()
        np.testing.assert_allclose(block["regret"], mix.R, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(block["regret_square"], mix.V, rtol=2e-4, atol=2e-4)
        warm = plain.t >= 10
        assert answer.warm[0] == warm
        p = mix.blend(given) if warm and plain.s > 0 else 0.0
        assert block["phat"] == pytest.approx(p, rel=1e-3, abs=1e-4)
        assert answer.yhat[0] == plain.y[-1] + block["scale"] * np.float64(block["phat"])
        standing = plain.s, float(block["phat"]), given
        listened |= max(mix.weights()[1:]) > 0.2
    assert listened


@pytest.mark.parametrize("kind", ["walk", "steps", "season"])
def test_the_live_scores_are_what_a_recount_of_ticks_and_forecasts_finds(kind):
    y = np.stack([values(kind), values("walk")], axis=1)
    engine = Engine(replace(STILL, cold_ticks=3))
    ticks = ticks_of((b"s%d" % s, MONDAY + i, MONDAY + i * HOUR, y[i, s]) for i in range(len(y)) for s in range(2))
    answer = engine.advance(ticks)
    sums, scored = np.zeros(4), 0
    for s in range(2):
        actual, yhat, move = y[:, s].tolist(), answer.yhat[s::2].tolist(), 0.0
        for t in range(1, len(actual)):
            change, error = actual[t] - actual[t - 1], actual[t] - yhat[t - 1]
            move += max(0.005, 1 / t) * (abs(change) - move)
            scored += 1
            if move > 0:
                sums += [abs(error) / move, abs(change) / move, (error / move) ** 2, (change / move) ** 2]
    found = engine.scores()[0]
    assert found.scored == scored
    assert [
        found.scaled_abs_error,
        found.naive_scaled_abs_error,
        found.scaled_squared_error,
        found.naive_scaled_squared_error,
    ] == pytest.approx(sums.tolist(), rel=1e-9)
    assert sum(found.expert_weight.values()) <= 1
    assert set(found.expert_weight) == set(experts.names(STILL))


def test_one_outlier_counts_two_hundred_at_the_most():
    engine = Engine(STILL)
    y = [*np.random.default_rng(0).standard_normal(400), 1e30]
    engine.advance(ticks_of((b"a", MONDAY + i, None, v) for i, v in enumerate(y[:-1])))
    before = engine.scores()[0].naive_scaled_abs_error
    engine.advance(ticks_of([(b"a", MONDAY + 400, None, y[-1])]))
    assert engine.scores()[0].naive_scaled_abs_error - before == pytest.approx(200, rel=1e-6)


def test_the_average_expert_weights_do_not_depend_on_the_batches():
    ticks = ticks_of(
        (b"s%d" % s, MONDAY + i, None, v)
        for i, row in enumerate(np.random.default_rng(0).standard_normal((40, 200)).cumsum(axis=0))
        for s, v in enumerate(row)
    )
    one, other = Engine(STILL), Engine(STILL)
    one.advance(ticks)
    for i in range(0, len(ticks), 10):
        other.advance(ticks.slice(i, i + 10))
    assert one.scores()[0].expert_weight == pytest.approx(other.scores()[0].expert_weight, rel=1e-2)


@pytest.mark.parametrize(
    ("step_ms", "expected"),
    [
        (HOUR, (24, 168)),
        (HOUR // 2, (48, 336)),
        (HOUR // 4, (96, 0)),  # a day of more than 48 ticks has no week
        (HOUR // 12, (288, 0)),
        (60_000, (1440, 0)),
        (30_000, (0, 0)),  # 2,880 ticks: longer than the window
        (12 * HOUR, (2, 14)),
        (24 * HOUR, (0, 0)),  # one tick a day is no season
        (7 * HOUR, (0, 0)),  # no whole number of ticks
        (1, (0, 0)),
    ],
)
def test_a_day_and_a_week_are_found_from_the_median_spacing(step_ms, expected):
    *_, (plain, block, _, _, _) = run([0.0] * 33, step_ms)
    assert tuple(block["season"]) == expected == plain.season


@pytest.mark.parametrize(
    ("step_ms", "expected"),
    [
        (HOUR, (24, 168)),
        (HOUR // 2, (48, 336)),
        (HOUR // 4, (96, 0)),
        (HOUR // 12, (288, 0)),
        (60_000, (1440, 0)),
    ],
)
def test_the_season_is_found_where_ticks_are_a_little_early_or_late(step_ms, expected):
    early_or_late = np.random.default_rng(0).integers(-step_ms * 3 // 1000, step_ms * 3 // 1000, (33, 20))
    engine = Engine(STILL)
    engine.advance(
        ticks_of(
            (b"s%d" % s, MONDAY + i, MONDAY + (i + 1) * step_ms + int(early_or_late[i, s]), 0.0)
            for i in range(33)
            for s in range(20)
        )
    )
    assert engine._arena.records["season"].tolist() == [list(expected)] * 20


def test_a_season_is_looked_for_again_at_each_doubling_of_the_ticks():
    rows = [(b"a", MONDAY + i, MONDAY + i * 1000, 0.0) for i in range(40)]
    rows += [(b"a", MONDAY + i, MONDAY + 40_000 + (i - 39) * HOUR, 0.0) for i in range(40, 129)]
    engine, found = Engine(STILL), []
    for i in range(129):
        engine.advance(ticks_of(rows[i : i + 1]))
        found.append(engine._arena.records["season"][0].tolist())
    assert found[:64] == [[0, 0]] * 64  # at tick 32 the spacing is a second
    assert found[64:] == [[24, 168]] * 65  # at tick 64 it is an hour in 25 of the latest 32 gaps


@pytest.mark.parametrize(
    ("durations", "expected"),
    [((), (0, 0)), ((6 * HOUR,), (6, 0)), ((6 * HOUR, 100 * HOUR), (6, 100)), ((HOUR,), (0, 0)), (None, (24, 168))],
)
def test_seasons_can_be_named_or_left_out(durations, expected):
    recipe = replace(STILL, season=replace(STILL.season, durations_ms=durations))
    *_, (_, block, _, _, _) = run([0.0] * 33, recipe=recipe)
    assert tuple(block["season"]) == expected


def test_one_long_pause_does_not_hide_the_season():
    rows = [(b"a", MONDAY + i, MONDAY + i * HOUR + (i > 20) * 77 * HOUR, 0.0) for i in range(33)]
    engine = Engine(STILL)
    engine.advance(ticks_of(rows))
    assert engine._arena.records["season"][0].tolist() == [24, 168]


def test_the_first_move_out_of_a_constant_series_counts_as_one_scale():
    d = np.array([5.0, -1e30, 0.0, 1e-320])
    assert outcome(d, np.zeros(4)).tolist() == [1, -1, 0, 1]
    assert outcome(d[:2], np.array([2.0, 1e30])).tolist() == [2.5, -1]
