"""The balanced and the lean profile against their formulas in plain Python, tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.core.block import padded
from foretick.core.columns import Table
from foretick.core.engine import Engine
from foretick.core.features_compact import Layout
from foretick.core.kalman import Kalman
from foretick.core.linear import LinearBank
from foretick.core.linear_packed import PackedLinear, packed_size
from foretick.core.profiles import PROFILES, balanced, lean
from foretick.core.recipe import KalmanRecipe
from property.engine_streams import ticks_of
from unit.core.plain import PlainLinear
from unit.core.plain_compact import PlainCompact, PlainKalman, PlainTracking
from unit.core.test_against_plain_python import HOUR, MONDAY, values
from unit.core.test_linear import outcomes

KINDS = ["walk", "steps", "season"]
ALONE = padded(np.array([0]))


def still(profile):
    recipe = PROFILES[profile]()
    return replace(recipe, hidden=8, learn=replace(recipe.learn, enabled=False))


class Alone:
    """One of the two linear experts with a block of its own, and the weights that the ensemble would give."""

    def __init__(self, expert, state, hub):
        self.expert, self.hub, self.n = expert, hub, len(next(iter(state.values()))[0])
        self.state, self.size = state, np.zeros(self.n)

    def learn(self, x, z, t):
        e = z - self.expert.forecast(self.state, x)
        self.size += max(0.01, 1 / t) * (np.abs(e) - self.size)
        per_weight = np.maximum(1, np.maximum(np.abs(e), 1e-30) / np.maximum(self.hub * self.size, 1e-60))
        self.expert.learn(self.state, x, e, per_weight.clip(1, 1e30).astype(np.float32))


def a_kalman_filter(k, n=1):
    recipe = KalmanRecipe(moves=k)
    state = {"kalman_theta": np.zeros((k, n), np.float32), "kalman_variance": np.full((k, n), recipe.start, np.float16)}
    return recipe, Alone(Kalman(recipe), state, recipe.hub)


def test_the_kalman_filter_follows_its_formulas():
    recipe, alone = a_kalman_filter(5)
    plain = PlainKalman(5, recipe.start, recipe.drift, recipe.hub)
    for t, (x, z) in enumerate(zip(*outcomes(300, 5), strict=True), 1):
        said = alone.expert.forecast(alone.state, x[:, None])
        assert said[0] == pytest.approx(plain.forecast(x.tolist()), rel=2e-2, abs=2e-2)
        alone.learn(x[:, None], z[None], t)
        plain.learn(x.tolist(), float(z))
        np.testing.assert_allclose(alone.state["kalman_variance"][:, 0], plain.v, rtol=5e-2)
    assert abs(alone.state["kalman_theta"][:, 0] - plain.theta).max() < 2e-2


@pytest.mark.parametrize("name", ["kalman_theta", "kalman_variance", "linear_theta", "linear_P"])
def test_a_compact_expert_forgets_a_poisoned_state_and_learns_again(name):
    recipe = still("lean")
    engine, y = Engine(recipe), values("walk", 300)
    for i, value in enumerate(y):
        if i == 150:
            engine._arena.records[name][1, 2] = np.nan
        answer = engine.advance(ticks_of([(b"a", MONDAY + i, None, value), (b"b", MONDAY + i, None, value)]))
        assert np.isfinite(answer.yhat).all()
    records = engine._arena.records
    for field in ("kalman_theta", "kalman_variance", "linear_theta", "linear_P", "kalman_size", "linear_size"):
        assert np.isfinite(records[field]).all()
    theta = np.abs(records[name.replace("variance", "theta")])
    assert theta[1].max() > 0.2 * theta[0].max() > 0


def test_half_a_matrix_says_what_a_whole_one_says():
    recipe, table, k = lean().compact.linear, Table(), 6
    whole, rows = LinearBank(table, "one", k, [recipe]), np.array([0])
    table.resize(1)
    state = {"linear_theta": np.zeros((k, 1), np.float32), "linear_P": np.zeros((packed_size(k), 1), np.float32)}
    half = Alone(PackedLinear(k, recipe), state, recipe.hub)
    plain = PlainLinear(k, recipe.forgetting, recipe.hub, recipe.start)
    for t, (x, z) in enumerate(zip(*outcomes(150, k), strict=True), 1):
        said = half.expert.forecast(state, x[:, None])[0]
        assert said == pytest.approx(whole.forecast(rows, x[None, None])[0, 0], rel=5e-3, abs=5e-3)
        assert said == pytest.approx(plain.forecast(x.tolist()), rel=5e-3, abs=5e-3)
        half.learn(x[:, None], z[None], t)
        whole.learn(rows, x[None, None], z[None], np.array([t]))
        plain.learn(x.tolist(), float(z))


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
        block, features = engine._arena.gather(ALONE), engine._model._features
        sight = features.see(ALONE, block, features.recall(ALONE, block), None)
        seasons = 2 if compact.week else 1
        assert tuple(block["season"][:, 0]) == plain.season[:seasons]
        expected = plain.inputs()
        # Half precision: three digits, of sums over a season fewer.
        np.testing.assert_allclose(sight.x[: len(expected), 0], expected, rtol=4e-3, atol=4e-3)
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
        block = engine._arena.records[0]
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
