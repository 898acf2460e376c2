from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.outputs import ANOMALY, output_names, percent
from foretick.core.recipe import LINEAR, IntervalRecipe, LearnRecipe, Recipe
from foretick.core.records import Ticks

# The cheapest engine there is: intervals ask for nothing but forecasts.
PLAIN = Recipe(hidden=8, window=17, linear=(), readout=None, learn=LearnRecipe(enabled=False))
LEVELS = PLAIN.interval.levels


def answers(y, recipe=PLAIN):
    n = len(y)
    ms = np.arange(n, dtype=np.int64)
    engine = Engine(recipe)
    return engine, engine.advance(Ticks([b"a"] * n, ms, ms, np.zeros(n, np.bool_), np.asarray(y, float)))


def sides(answer):
    """(L, n) lower and upper bounds."""
    names = [(f"yhat_lower_{percent(level)}", f"yhat_upper_{percent(level)}") for level in LEVELS]
    return np.array([answer.column(low) for low, _ in names]), np.array([answer.column(high) for _, high in names])


def walk(kind, n=3000):
    rng = np.random.default_rng(0)
    noise = {
        "normal": rng.standard_normal(n),
        "heavy tails": rng.standard_t(2, n),
        "one-sided": rng.exponential(1.0, n),
        "regimes": rng.standard_normal(n) * np.repeat([1, 30, 0.1, 5], n // 4),
        "rounded": np.round(rng.standard_normal(n)),
    }[kind]
    return noise.cumsum()


def plain_bounds(y, yhat, recipe):
    """The formulas of the module, one tick and one bound at a time, with all history."""
    n, v, kept = len(y), 0.0, []
    probability = {}
    for level in recipe.levels:
        probability[level, "lower"], probability[level, "upper"] = (1 - level) / 2, (1 + level) / 2
    q = dict.fromkeys(probability, 0.0)
    standing, all_bounds = None, []
    for t in range(n):
        if t:
            r = y[t] - yhat[t - 1]
            for side in standing or ():
                beyond = r + yhat[t - 1] < standing[side] if side[1] == "lower" else r + yhat[t - 1] > standing[side]
                q[side] += recipe.gain * (beyond - (1 - side[0]) / 2)
            kept.append(max(-recipe.clip, min(recipe.clip, r / v if v > 0 else math.copysign(1, r) if r else 0.0)))
            size = min(abs(r), recipe.clip * v) if v > 0 else abs(r)
            v += max(recipe.rate, 1 / len(kept)) * (size - v)
        standing = None
        if len(kept) > recipe.warm_residuals:
            ordered = sorted(kept[-recipe.window :])
            m = len(ordered)
            standing, reach = {}, 0.0
            for side in ("lower", "upper"):
                reach = 0.0
                for level in recipe.levels:
                    p = probability[level, side] * (m + 1)
                    rank = math.floor(p) if side == "lower" else math.ceil(p)
                    quantile = ordered[max(0, min(m - 1, rank - 1))]
                    if side == "lower":
                        reach = min(reach, quantile - q[level, side])
                    else:
                        reach = max(reach, quantile + q[level, side])
                    standing[level, side] = yhat[t] + v * reach
        all_bounds.append(standing)
    return all_bounds


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "regimes"])
def test_the_bounds_follow_their_formulas(kind):
    y = walk(kind, 600)
    _, answer = answers(y)
    lower, upper = sides(answer)
    for t, wanted in enumerate(plain_bounds(y, answer.yhat, PLAIN.interval)):
        if wanted is None:
            assert np.isnan(answer.values[t, 1:-1]).all()
            continue
        scale = wanted[0.95, "upper"] - wanted[0.95, "lower"]
        for i, level in enumerate(LEVELS):
            assert lower[i, t] == pytest.approx(wanted[level, "lower"], abs=1e-4 * scale)
            assert upper[i, t] == pytest.approx(wanted[level, "upper"], abs=1e-4 * scale)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "one-sided", "regimes", "rounded"])
def test_the_intervals_hold_their_share_of_actuals_on_any_kind_of_series(kind):
    y = walk(kind, 1600)
    engine, answer = answers(y, replace(PLAIN, linear=LINEAR))
    lower, upper = sides(answer)
    held = (y[1:] >= lower[:, :-1]) & (y[1:] <= upper[:, :-1])
    bounded = np.isfinite(lower[0, :-1])
    if kind != "rounded":  # whole numbers leave no bound between them: there, an interval holds more than it promises
        assert np.abs(held[:, bounded].mean(axis=1) - LEVELS).max() < 0.02
    assert (held[:, bounded].mean(axis=1) > np.array(LEVELS) - 0.02).all()
    scores = engine.scores()[0]
    assert scores.interval_scored == bounded.sum()
    assert list(scores.interval_covered.values()) == held[:, bounded].sum(axis=1).tolist()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e3, 1e-6]), min_size=60, max_size=200))
def test_whatever_the_series_does_bounds_enclose_the_forecast_and_wider_levels_enclose_narrower_ones(moves):
    _, answer = answers(np.cumsum(moves))
    lower, upper = sides(answer)
    known = np.isfinite(lower[0])
    assert known.tolist() == [t > PLAIN.interval.warm_residuals for t in range(len(moves))]
    for inside, outside in ((answer.yhat, lower[0]), (lower[0], lower[1])):
        assert (outside[known] <= inside[known]).all()
    for inside, outside in ((answer.yhat, upper[0]), (upper[0], upper[1])):
        assert (outside[known] >= inside[known]).all()


def test_the_long_run_coverage_is_bounded_even_when_every_actual_conspires():
    """An adversary who always steps just beyond the bound: the correction grows until it pays him no more."""
    recipe = replace(PLAIN.interval, levels=(0.8,))
    engine = Engine(replace(PLAIN, interval=recipe))
    y, misses, bounded = 0.0, 0, 0
    rng = np.random.default_rng(1)
    for t in range(800):
        at = np.array([t], np.int64)
        answer = engine.advance(Ticks([b"a"], at, at, np.zeros(1, np.bool_), np.array([y])))
        upper = answer.column("yhat_upper_80")[0]
        step = min(abs(rng.standard_normal()), 3.0)
        move = (upper - y) * 1.01 if upper - y < 20.0 else step
        y += move if np.isfinite(move) else step
        if np.isfinite(upper):
            bounded += 1
            misses += y > upper
    assert misses / bounded < 0.1 + 0.05


def test_an_anomaly_score_is_the_distance_in_units_of_the_widest_bound():
    y = walk("normal", 400)
    y[300:] += 500.0
    _, answer = answers(y)
    lower, upper = sides(answer)
    score = answer.column(ANOMALY)
    assert np.isnan(score[: PLAIN.interval.warm_residuals + 2]).all()
    for t in range(PLAIN.interval.warm_residuals + 2, len(y)):
        yhat = answer.yhat[t - 1]
        reach = upper[-1, t - 1] - yhat if y[t] > yhat else yhat - lower[-1, t - 1]
        assert score[t] == pytest.approx(abs(y[t] - yhat) / reach, rel=1e-9)
    assert score[300] > 20
    assert np.nanmedian(score) < 1


def test_a_constant_series_has_intervals_of_no_width_and_its_first_move_is_an_anomaly():
    _, answer = answers([5.0] * 60 + [6.0])
    lower, upper = sides(answer)
    assert (lower[:, 40:60] == 5.0).all()
    assert (upper[:, 40:60] == 5.0).all()
    assert (answer.column(ANOMALY)[40:60] == 0.0).all()
    assert answer.column(ANOMALY)[60] == 1e6


def test_levels_have_the_names_of_the_wire():
    assert output_names((0.8, 0.995)) == (
        *("yhat", "yhat_lower_80", "yhat_upper_80", "yhat_lower_995", "yhat_upper_995"),
        "anomaly_score",
    )
    assert percent(0.05) == "05"
    assert output_names(()) == ("yhat",)


def test_without_levels_there_are_no_intervals_and_the_forecasts_are_the_same():
    y = walk("normal", 200)
    _, answer = answers(y)
    _, bare = answers(y, replace(PLAIN, interval=IntervalRecipe(levels=())))
    assert bare.names == ("yhat",)
    assert bare.yhat.tobytes() == answer.yhat.tobytes()


def test_levels_out_of_order_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        replace(PLAIN, interval=IntervalRecipe(levels=(0.95, 0.8)))


def test_a_group_without_series_has_no_bounds_to_make():
    engine = Engine(PLAIN)
    assert engine.advance(Ticks([], *(np.empty(0, kind) for kind in (int, int, bool, float)))).values.shape == (0, 6)
