"""The robust linear expert against its formulas in plain Python, and what keeps it sound."""

from __future__ import annotations

import numpy as np
import pytest

from foretick.core.columns import Table
from foretick.core.linear import LinearBank
from foretick.core.recipe import LINEAR, LinearRecipe
from unit.core.plain import PlainLinear

QUICK = LinearRecipe("quick", forgetting=0.99, hub=0.5, start=1.0)


class Alone:
    """A bank of one expert, without the axis of experts."""

    def __init__(self, bank):
        self._bank = bank

    def forecast(self, rows, x):
        return self._bank.forecast(rows, x[:, None])[:, 0]

    def learn(self, rows, x, z, t):
        self._bank.learn(rows, x[:, None], z, t)

    def forget(self, rows):
        self._bank.forget(rows)


def variance_of(state, row=0):
    Q, U, rho = (state[f"quick.{name}"][row, 0] for name in ("Q", "U", "rho"))
    return (Q - U.T @ U) * rho


def an_expert(k, rows, recipe=QUICK):
    table = Table()
    expert = Alone(LinearBank(table, "quick", k, [recipe]))
    table.resize(rows)
    return expert, table.views(rows)


def outcomes(n, k, seed=0):
    """Features of which the last speaks late, outcomes with outliers, and a change of the law in the middle."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, k)).astype(np.float32)
    x[:, 0] = 1.0
    x[: n // 3, -1] = 0.0
    law = rng.standard_normal(k)
    z = x @ law + 0.3 * rng.standard_normal(n)
    z[n // 2 :] = x[n // 2 :] @ -law
    z[::17] *= 20
    return x, z.clip(-20, 20).astype(np.float32)


def test_it_follows_its_formulas():
    expert, state = an_expert(5, 1)
    plain = PlainLinear(5, QUICK.forgetting, QUICK.hub, QUICK.start)
    for t, (x, z) in enumerate(zip(*outcomes(300, 5), strict=True), 1):
        assert expert.forecast(np.array([0]), x[None])[0] == pytest.approx(
            plain.forecast(x.tolist()), rel=1e-3, abs=1e-4
        )
        expert.learn(np.array([0]), x[None], z[None], np.array([t]))
        plain.learn(x.tolist(), float(z))
        np.testing.assert_allclose(variance_of(state), plain.P, rtol=5e-3, atol=1e-4)
    assert abs(state["quick.theta"][0, 0] - plain.theta).max() < 1e-3


@pytest.mark.parametrize("k", [23, 93])
def test_each_row_has_the_same_bits_whatever_rows_are_learned_beside_it(k):
    n = 75  # ρ has reached 2, and been folded into Q
    streams = [outcomes(n, k, seed) for seed in range(40)]
    for row, (x, _) in enumerate(streams):
        x[: row % 4] = 0  # as of a horizon of which no forecast is due yet
    together, together_state = an_expert(k, 40)
    apart, apart_state = an_expert(k, 40)
    for t in range(n):
        x, z = np.stack([s[0][t] for s in streams]), np.stack([s[1][t] for s in streams])
        count = np.full(40, t + 1)
        together.learn(np.arange(40), x, z, count)
        for rows in (np.array([3]), np.arange(0, 40, 2), np.setdiff1d(np.arange(1, 40, 2), [3])):
            apart.learn(rows, x[rows], z[rows], count[rows])
    for name, array in together_state.items():
        np.testing.assert_array_equal(array, apart_state[name])


def test_an_outlier_pulls_no_harder_than_the_hub_allows():
    calm, calm_state = an_expert(2, 1)
    shocked, shocked_state = an_expert(2, 1)
    x, z = outcomes(100, 2)
    z = (x[:, 0] * 0.5).astype(np.float32) + 0.1 * np.sin(np.arange(100, dtype=np.float32))
    for t in range(100):
        for expert in (calm, shocked):
            extra = 1000.0 if t == 90 and expert is shocked else 0.0
            expert.learn(np.array([0]), x[t : t + 1], z[t : t + 1] + np.float32(extra), np.array([t + 1]))
    assert abs(calm_state["quick.theta"] - shocked_state["quick.theta"]).max() < 0.5


def test_features_that_rest_or_repeat_each_other_leave_it_finite_and_bounded():
    expert, state = an_expert(4, 1)
    rng = np.random.default_rng(1)
    for t in range(5_000):
        x = np.zeros((1, 4), np.float32)
        x[0, 0] = 1.0
        if t < 50 or t > 4_900:
            x[0, 1] = x[0, 2] = rng.standard_normal()
        expert.learn(np.array([0]), x, np.float32([rng.standard_normal()]), np.array([t + 1]))
    assert all(np.isfinite(array).all() for array in state.values())
    assert np.einsum("kk->k", variance_of(state)).mean() <= 200
    assert variance_of(state)[3, 3] == 0, "a feature that never spoke has no variance"


@pytest.mark.parametrize("name", ["Q", "U"])
def test_a_poisoned_matrix_costs_neither_what_was_learned_nor_a_neighbour_and_is_built_again(name):
    expert, state = an_expert(5, 2)
    rows = np.array([0, 1])
    told = (column[:190] for column in outcomes(400, 5))  # before the law changes
    for t, (x, z) in enumerate(zip(*told, strict=True), 1):
        if t == 99:  # between two folds
            state[f"quick.{name}"][1, 0, 2, 2] = np.nan
            before = state["quick.theta"].copy()
        expert.learn(rows, np.stack([x, x]), np.stack([z, z]), np.array([t, t]))
        if t == 99:
            np.testing.assert_array_equal(state["quick.theta"][1], before[1])
            assert (state["quick.theta"][0] != before[0]).any()
    assert all(np.isfinite(array).all() for array in state.values())
    assert abs(state["quick.theta"][0] - state["quick.theta"][1]).max() < 0.2
    assert state["quick.theta"][0].any()


def test_a_series_that_begins_anew_has_forgotten_everything():
    expert, state = an_expert(3, 2)
    x, z = outcomes(20, 3)
    for t in range(20):
        expert.learn(np.array([0, 1]), np.repeat(x[t : t + 1], 2, axis=0), np.repeat(z[t], 2), np.array([t + 1, t + 1]))
    expert.forget(np.array([0]))
    for array in state.values():
        assert not array[0].any()
        assert array[1].any()


def test_a_matrix_that_lost_its_definiteness_is_not_turned_round_by_its_bound():
    table = Table()
    bank = LinearBank(table, "q", 3, LINEAR)
    table.resize(2)
    bank._Q.rows[...] = np.diag([-1e-6, -1e-6, 1e-6])
    bank._Q.rows[1] = 0
    bank._fold(np.arange(2), np.full((2, len(LINEAR)), 2.5, np.float32))
    np.testing.assert_allclose(bank._Q.rows[0], np.broadcast_to(np.diag([-2.5e-6, -2.5e-6, 2.5e-6]), (3, 3, 3)))
    assert not bank._Q.rows[1].any()
