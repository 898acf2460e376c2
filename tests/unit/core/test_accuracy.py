from __future__ import annotations

import math

import numpy as np
import pytest

from foretick.core.accuracy import score_series, summarise


def plain_score(y, yhat, burn_in):
    """(rel-MAE, rel-RMSE, MASE) one forecast at a time."""
    at = range(burn_in, len(y) - 1)
    ours, naive = [y[t + 1] - yhat[t] for t in at], [y[t + 1] - y[t] for t in at]
    every_move = [abs(y[t + 1] - y[t]) for t in range(len(y) - 1)]
    mae, naive_mae = (sum(map(abs, errors)) / len(errors) for errors in (ours, naive))
    squares = [sum(e * e for e in errors) for errors in (ours, naive)]
    return mae / naive_mae, math.sqrt(squares[0] / squares[1]), mae / (sum(every_move) / len(every_move))


@pytest.mark.parametrize("burn_in", [0, 1, 30, 48])
def test_a_series_is_scored_from_each_forecast_against_the_next_value(burn_in):
    rng = np.random.default_rng(0)
    y, yhat = rng.standard_normal(50).cumsum(), rng.standard_normal(50)
    found = score_series(y, yhat, burn_in)
    assert (found.rel_mae, found.rel_rmse, found.mase) == pytest.approx(plain_score(y, yhat, burn_in))
    assert found.skill == 1 - found.rel_mae
    assert (found.ticks, found.scored) == (50, 49 - burn_in)


def test_the_naive_forecast_has_no_skill_and_the_truth_has_all():
    y = np.array([1.0, 3.0, 2.0, 5.0])
    assert score_series(y, y, 0).skill == 0
    assert score_series(y, np.append(y[1:], 0), 0).skill == 1


@pytest.mark.parametrize("y", [[], [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
def test_a_series_that_is_too_short_has_no_accuracy(y):
    found = score_series(np.array(y), np.array(y), 2)
    assert found.scored == 0
    assert math.isnan(found.rel_mae)


def test_a_series_that_never_moved_counts_in_no_mean():
    still = score_series(np.full(9, 2.0), np.full(9, 2.0), 0)
    assert still.mae == 0
    assert math.isnan(still.rel_mae)
    assert summarise({"a": still}, {}).series == 0


def test_the_balanced_mean_weighs_sources_alike():
    y = np.array([0.0, 1.0, 0.0, 1.0, 0.0])

    def halving(share):
        return score_series(y, y + share * np.append(np.diff(y), 0), 0)

    series = {"a": halving(0.5), "b": halving(0.5), "c": halving(0.5), "d": halving(-0.02)}
    found = summarise(series, {"a": "x", "b": "x", "c": "x", "d": "y"})
    assert found.series == 4
    assert found.gm == pytest.approx((0.5**3 * 1.02) ** 0.25)
    assert found.bal == pytest.approx(math.sqrt(0.5 * 1.02))
    assert found.harm == 0.25
    assert found.worst == pytest.approx(1.02)


def test_values_at_the_limit_of_what_is_accepted_can_be_scored():
    y = np.array([1e30, -1e30] * 5)
    found = score_series(y, y, 0)
    assert (found.rel_mae, found.rel_rmse) == (1, 1)
