from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.recipe import LINEAR, IntervalRecipe, LearnRecipe, Recipe, SeasonRecipe
from foretick.core.records import Ticks

HOUR = 3_600_000
STILL = Recipe(hidden=8, window=64, readout=None, linear=LINEAR[:1], horizon=3, learn=LearnRecipe(enabled=False))


def ticks_of(y, series=b"a"):
    n = len(y)
    ms = np.arange(n, dtype=np.int64) * HOUR
    return Ticks([series] * n, ms, ms, np.ones(n, np.bool_), np.asarray(y, float))


def day(n, noise=0.02, seed=0):
    """A day of 24 hours, with noise."""
    rng = np.random.default_rng(seed)
    return np.sin(2 * np.pi * np.arange(n) / 24) + noise * rng.standard_normal(n)


def mean_error(answer, y, h, first=600):
    yhat = answer.column("yhat" if h == 1 else f"yhat_{h}")
    return np.abs(y[h:] - yhat[:-h])[first:].mean()


def test_every_horizon_has_its_forecast_and_its_bounds():
    answer = Engine(STILL).advance(ticks_of(day(60)))
    levels = [f"{side}_{level}" for level in (80, 95) for side in ("lower", "upper")]
    assert answer.names == (
        "yhat",
        *(f"yhat_{bound}" for bound in levels),
        "anomaly_score",
        *(f"yhat_{h}{bound}" for h in (2, 3) for bound in ("", *(f"_{one}" for one in levels))),
    )
    assert np.isfinite(answer.column("yhat_3")).all()
    known = np.isfinite(answer.column("yhat_3_lower_80"))
    # 31 forecasts are settled after tick 30 + h; from then on there are bounds.
    assert known.tolist() == [t >= 30 + 3 for t in range(60)]


def test_a_far_forecast_of_a_season_is_far_better_than_naive_at_every_horizon():
    y = day(1500)
    answer = Engine(replace(STILL, horizon=5, season=SeasonRecipe(durations_ms=(24 * HOUR,)))).advance(ticks_of(y))
    for h in (1, 2, 3, 5):
        naive = np.abs(y[h:] - y[:-h])[600:].mean()
        assert mean_error(answer, y, h) < 0.35 * naive, h


def test_of_a_random_walk_no_horizon_is_materially_worse_than_naive():
    y = np.random.default_rng(1).standard_normal(2000).cumsum()
    answer = Engine(replace(STILL, horizon=4)).advance(ticks_of(y))
    for h in (1, 2, 3, 4):
        naive = np.abs(y[h:] - y[:-h])[600:].mean()
        assert mean_error(answer, y, h) < 1.02 * naive, h


@pytest.mark.parametrize("kind", ["season", "walk"])
def test_far_intervals_hold_their_share_of_actuals(kind):
    y = day(2500, noise=0.3) if kind == "season" else np.random.default_rng(2).standard_normal(2500).cumsum()
    engine = Engine(replace(STILL, horizon=4))
    answer = engine.advance(ticks_of(y))
    for h in (2, 3, 4):
        for level in (80, 95):
            lower, upper = (answer.column(f"yhat_{h}_{side}_{level}")[:-h] for side in ("lower", "upper"))
            held = (y[h:] >= lower) & (y[h:] <= upper)
            known = np.isfinite(lower)
            assert abs(held[known].mean() - level / 100) < 0.03, (h, level)
            found = engine.scores()[0].horizons[h]
            assert found.interval_scored == known.sum()
            assert found.interval_covered[str(level / 100)] == held[known].sum()


def test_the_next_value_is_forecast_alike_whatever_else_is_asked_for():
    """The network still learns nothing here; with learning it shares its state with the further horizons."""
    y = day(300)
    alone, beside = (Engine(replace(STILL, horizon=h)).advance(ticks_of(y)) for h in (1, 6))
    assert alone.yhat.tobytes() == beside.yhat.tobytes()
    assert alone.column("yhat_lower_80").tobytes() == beside.column("yhat_lower_80").tobytes()


def test_the_network_learns_the_further_horizons():
    """A sawtooth of period 6 has no linear expert here: what is better than naive at h steps is the LSTM's."""
    y = np.tile(np.arange(6.0), 250) + 0.01 * np.random.default_rng(3).standard_normal(1500)
    recipe = Recipe(hidden=16, window=64, readout=None, linear=(), far_linear=None, horizon=3)
    recipe = replace(recipe, season=SeasonRecipe(durations_ms=()), learn=LearnRecipe(every=8, slots=4))
    engine = Engine(recipe)
    answer = engine.advance(ticks_of(y))
    for h in (1, 2, 3):
        naive = np.abs(y[h:] - y[:-h])[1000:].mean()
        assert mean_error(answer, y, h, first=1000) < 0.5 * naive, h


def test_the_live_scores_of_each_horizon_are_what_a_recount_finds():
    y = day(200, noise=0.5)
    engine = Engine(replace(STILL, interval=IntervalRecipe(levels=())))
    answer = engine.advance(ticks_of(y))
    move, moves = 0.0, []
    for t in range(len(y)):
        if t:
            move += max(0.005, 1 / t) * (abs(y[t] - y[t - 1]) - move)
        moves.append(move)
    for h, found in engine.scores()[0].horizons.items():
        yhat = answer.column(f"yhat_{h}")
        at = range(h, len(y))
        assert found.scored == len(y) - h
        assert found.scaled_abs_error == pytest.approx(sum(abs(y[t] - yhat[t - h]) / moves[t] for t in at), rel=1e-9)
        naive = sum(abs(y[t] - y[t - h]) / moves[t] for t in at)
        assert found.naive_scaled_abs_error == pytest.approx(naive, rel=1e-9)


def test_moves_too_small_to_be_inverted_leave_the_scores_of_all_others_sound():
    y = np.where(np.arange(60) < 20, 5e-324 * (np.arange(60) % 2), 1.0)
    engine = Engine(replace(STILL, interval=IntervalRecipe(levels=())))
    engine.advance(ticks_of(y))
    for found in engine.scores()[0].horizons.values():
        assert np.isfinite([found.scaled_abs_error, found.naive_scaled_abs_error, found.scaled_squared_error]).all()


def test_a_series_that_begins_anew_is_forecast_like_a_new_one():
    y = day(120)
    engine = Engine(replace(STILL, late_run=3))
    late = ticks_of(y)
    engine.advance(ticks_of(day(90, seed=5) * 7))
    back = Ticks(late.series, late.ms + 90 * HOUR, late.ts - 10_000 * HOUR, late.stamped, late.y)
    again = engine.advance(back)
    begun = int(np.flatnonzero(again.verdict == 0)[0])
    new = Engine(replace(STILL, late_run=3)).advance(
        Ticks(late.series[begun:], late.ms[begun:] + 90 * HOUR, back.ts[begun:], late.stamped[begun:], y[begun:])
    )
    assert again.values[begun:].tobytes() == new.values.tobytes()
