"""The balanced and the lean profile against their formulas in plain Python, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.core.columns import Table
from foretick.core.engine import Engine
from foretick.core.features_compact import Layout
from foretick.core.kalman import Kalman
from foretick.core.linear import LinearBank
from foretick.core.profiles import PROFILES, balanced, lean
from foretick.core.recipe import KalmanRecipe
from property.engine_streams import ticks_of
from unit.core.plain import PlainLinear
from unit.core.plain_compact import PlainCompact, PlainKalman, PlainTracking
from unit.core.test_against_plain_python import HOUR, MONDAY, values
from unit.core.test_linear import outcomes

KINDS = ["walk", "steps", "season"]
ALONE = np.array([0])


def still(profile):
    recipe = PROFILES[profile]()
    return replace(recipe, hidden=8, learn=replace(recipe.learn, enabled=False))


def test_the_kalman_filter_follows_its_formulas():
    table, recipe = Table(), KalmanRecipe(moves=5)
    expert, plain = Kalman(table, recipe), PlainKalman(5, recipe.start, recipe.drift, recipe.hub)
    table.resize(1)
    for t, (x, z) in enumerate(zip(*outcomes(300, 5), strict=True), 1):
        assert expert.forecast(ALONE, x[None])[0] == pytest.approx(plain.forecast(x.tolist()), rel=2e-2, abs=2e-2)
        expert.learn(ALONE, x[None], z[None], np.array([t]))
        plain.learn(x.tolist(), float(z))
        np.testing.assert_allclose(table.views(1)["kalman.variance"][0], plain.v, rtol=5e-2)
    assert abs(table.views(1)["kalman.theta"][0] - plain.theta).max() < 2e-2


def test_the_kalman_filter_forgets_a_poisoned_state_and_learns_again():
    table, recipe = Table(), KalmanRecipe(moves=5)
    expert, (x, z) = Kalman(table, recipe), outcomes(200, 5)
    table.resize(2)
    rows = np.array([0, 1])
    for t in range(200):
        if t == 100:
            table.views(2)["kalman.theta"][1, 2] = np.nan
        expert.learn(rows, np.stack([x[t], x[t]]), np.array([z[t], z[t]]), np.array([t + 1, t + 1]))
    assert all(np.isfinite(column).all() for column in table.views(2).values())
    theta = table.views(2)["kalman.theta"]
    assert np.abs(theta[1]).max() > 0.5 * np.abs(theta[0]).max() > 0


def test_half_a_matrix_says_what_a_whole_one_says():
    recipe = lean().compact.linear
    tables = Table(), Table()
    half, whole = (LinearBank(table, "one", 6, [recipe], packed=table is tables[0]) for table in tables)
    for table in tables:
        table.resize(3)
    plain, rows = PlainLinear(6, recipe.forgetting, recipe.hub, recipe.start), np.array([0, 2])
    for t, (x, z) in enumerate(zip(*outcomes(150, 6), strict=True), 1):
        seen = np.stack([x, x])[:, None]
        said = [bank.forecast(rows, seen) for bank in (half, whole)]
        np.testing.assert_allclose(said[0], said[1], rtol=1e-3, atol=1e-3)
        assert said[0][1, 0] == pytest.approx(plain.forecast(x.tolist()), rel=5e-3, abs=5e-3)
        for bank in (half, whole):
            bank.learn(rows, seen, np.array([z, z]), np.array([t, t]))
        plain.learn(x.tolist(), float(z))
    kept = tables[0].views(3)["one.Q"]
    assert kept.shape == (3, 1, 21)
    assert not kept[1].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["balanced", "lean"])
def test_inputs_and_seasonal_naive_follow_their_formulas(profile, kind):
    recipe = still(profile)
    compact, layout = recipe.compact, Layout(recipe.compact)
    bins = (compact.day_bins, compact.week_bins) if compact.week_bins else (compact.day_bins,)
    plain = PlainCompact(week=compact.week, gaps=recipe.season.gaps, window=recipe.window, bins=bins)
    engine, compared = Engine(recipe), 0
    for i, value in enumerate(values(kind)):
        ts = MONDAY + (i + 1) * HOUR
        engine.advance(ticks_of([(b"a", MONDAY + i, ts, value)]))
        plain.take(value, ts)
        block = engine._arena.gather(ALONE)
        sight = engine._model._features.see(ALONE, block, None)
        seasons = 2 if compact.week else 1
        assert tuple(block["season"][0]) == plain.season[:seasons]
        expected = plain.inputs()
        # Half precision: three digits, of sums over a season fewer.
        np.testing.assert_allclose(sight.x[0, : len(expected)], expected, rtol=4e-3, atol=4e-3)
        assert layout.width == len(expected) + 2 * compact.heard
        assert sight.seasonal[0] == pytest.approx(plain.seasonal_naive(), rel=1e-2, abs=1e-2)
        compared += bool(plain.season[0] and plain.t > plain.season[-1])
    assert compared > 40


@pytest.mark.parametrize("kind", KINDS)
def test_tracked_bounds_follow_their_formulas(kind):
    recipe = still("lean")
    tracking = recipe.interval
    plain = PlainTracking(tracking.levels, tracking.gain, tracking.rate, tracking.warm_residuals)
    engine, standing, bounded = Engine(recipe), None, 0
    for i, value in enumerate(values(kind)):
        answer = engine.advance(ticks_of([(b"a", MONDAY + i, None, value)]))
        if standing is not None:
            plain.learn(value, *standing)
        block = engine._arena.gather(ALONE)[0]
        standing = float(block["yhat"]), float(block["mix_loss"]), float(block["scale"])
        expected, told = plain.bounds(*standing), answer.values[0, 1:5]
        if expected is None:
            assert np.isnan(told).all()
        else:
            bounded += 1
            np.testing.assert_allclose(told, np.ravel(expected), rtol=1e-4, atol=1e-4 * standing[2])
    assert bounded == len(values(kind)) - tracking.warm_residuals - 1


@pytest.mark.parametrize(("profile", "limit"), [(balanced, 4000), (lean, 1228)])
def test_a_series_costs_no_more_bytes_than_its_profile_promises(profile, limit):
    engine = Engine(profile())
    engine.advance(ticks_of([(b"a", MONDAY, None, 1.0)]))
    per_row = sum(column[:1].nbytes for column in engine._arena.table.views(1).values())
    name = b"ticks\0sensor-123456"
    # The name index at a million series: a slot of a dict, the bytes object, a row number, and a place in a list.
    index = 42 + 16 * -(-(33 + len(name)) // 16) + 32 + 8 + len(name)
    assert per_row + index <= limit
