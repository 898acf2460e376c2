from __future__ import annotations

import math

import numpy as np
import pytest

from foretick.core.accuracy import score_series, seasonal_naive, summarise, summarise_coverage
from foretick.core.recipe import SeasonRecipe
from foretick.core.seasons import season_ticks


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


def test_the_seasonal_naive_forecast_is_the_value_one_season_before_the_actual():
    y = np.arange(20.0)
    assert seasonal_naive(y, 7).tolist() == [*y[:6], *y[:14]]  # at t = 6 the actual is 7, and 7 ticks before it is 0
    assert seasonal_naive(y, 7, steps=3).tolist() == [*y[:4], *y[:16]]
    assert seasonal_naive(y, 0).tolist() == y.tolist()
    assert seasonal_naive(y, 99).tolist() == y.tolist()


def test_the_seasonal_naive_forecast_is_scored_on_the_same_ticks_as_ours():
    y = np.tile([0.0, 1.0, 5.0, 2.0], 10)
    found = score_series(y, np.zeros(40), 4, season_ticks=4)
    assert (found.seasonal_mae, found.seasonal_rel_mae, found.season_ticks) == (0, 0, 4)
    early = score_series(y, np.zeros(40), 2, season_ticks=4)  # the first scored forecast has no season behind it
    assert early.seasonal_mae == abs(y[3] - y[2]) / 37


def test_a_season_is_a_whole_number_of_ticks_whatever_is_missing():
    hours = np.delete(np.arange(300), [50, 51, 180]) * 3_600_000
    assert season_ticks(hours, SeasonRecipe()) == 24
    assert season_ticks(hours, SeasonRecipe(durations_ms=(7_200_000,))) == 2
    assert season_ticks(hours, SeasonRecipe(durations_ms=())) == 0
    assert season_ticks(hours * 30, SeasonRecipe()) == 0
    assert season_ticks(hours[:1], SeasonRecipe()) == 0


def test_coverage_counts_the_scored_forecasts_that_had_an_interval():
    y = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    nan = float("nan")
    lower = np.array([nan, nan, 2.5, 4.5, 4.0, 0.0])
    upper = np.array([nan, nan, 3.5, 5.5, 5.0, 0.0])  # holds 3, not 4, and 5 at its very edge; the last is not settled
    one = score_series(y, y, 1, intervals={0.8: (lower, upper), 0.95: (lower * nan, upper)})
    assert one.coverage[0.8] == pytest.approx(2 / 3)
    assert math.isnan(one.coverage[0.95])
    exact = score_series(y, y, 1, intervals={0.8: (np.where(np.arange(6) % 5, y, 9), y + 1)})
    assert [found.level for found in summarise_coverage([one, exact])] == [0.8]
    [found] = summarise_coverage([one, exact])
    assert (found.mean, found.near) == (pytest.approx((2 / 3 + 1) / 2), 0)


def test_forecasts_of_a_later_step_are_scored_against_it_and_against_the_last_value():
    y = np.array([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    ahead = np.append(y[2:], [0, 0])
    one = score_series(y, ahead - 1, 1, steps=2, intervals={0.8: (ahead - 2, ahead)})
    assert (one.scored, one.mae, one.coverage[0.8]) == (3, 1, 1)
    assert one.naive_mae == pytest.approx(np.mean([6 - 1, 10 - 3, 15 - 6]))
