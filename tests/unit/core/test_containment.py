"""A number that is not finite in the state of one series: mended and counted, and no other series notices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.profiles import PROFILES
from property.engine_streams import columns, drive

TICKS = columns(np.random.default_rng(5).standard_normal((110, 3)).cumsum(axis=0))
HALF = 3 * 60
LATEST = slice(-3 * 20, None)
HIT = 1  # its row
MEANS = ["move", "mean_naive", "scale", "fast", "mean_error", "spacing", "mix_loss"]
FIELDS = [*MEANS, "expert", "phat", "yhat", "regret", "regret_square", "deviation", "h", "c"]
OF_COMPACT = ["residual_fast", "linear_size", "kalman_size", "linear_theta", "linear_x", "kalman_theta"]
CASES = [
    *(("lean", field, np.nan) for field in (*FIELDS, *OF_COMPACT, "swing")),
    *(("lean", field, np.inf) for field in ("scale", "mix_loss", "phat", "yhat", "regret")),
    *(("accurate", field, np.nan) for field in ("expert", "phat", "regret", "mix_loss", "scale")),
]


def half_way(profile):
    recipe = PROFILES[profile]()
    engine = Engine(replace(recipe, hidden=8, learn=replace(recipe.learn, enabled=False)))
    drive(engine, TICKS.slice(0, HALF))
    return engine


@pytest.mark.parametrize(("profile", "field", "value"), CASES)
def test_one_poisoned_series_is_mended_and_counted_beside_others_that_keep_their_bits(profile, field, value):
    rest = TICKS.slice(HALF, len(TICKS))
    engine, untouched = half_way(profile), drive(half_way(profile), rest)
    with np.errstate(invalid="ignore", over="ignore"):
        engine._arena.records[field][HIT] = value
        answer = drive(engine, rest)
    others = np.flatnonzero(np.arange(len(rest)) % 3 != HIT)
    np.testing.assert_array_equal(answer.values[others], untouched.values[others])
    assert np.isfinite(answer.yhat).all()
    assert np.isfinite(answer.values[LATEST]).all()
    assert engine.poisoned > 0
