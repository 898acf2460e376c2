"""What a windowed network learns of the series that tutorials show; seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretick.core.classic import (
    ClassicRecipe,
    Pairs,
    Scaling,
    extend,
    forecast,
    make_model,
    mean_loss,
    pairs_of,
    train,
)


def column(values) -> np.ndarray:
    return np.asarray(values, float)[:, None]


def learned(pairs: Pairs, recipe: ClassicRecipe, kind="minmax"):
    """What forecasts from windows in their own units, after learning from these pairs."""
    inner, outer = Scaling.of(pairs.x.reshape(-1, pairs.x.shape[2]), kind), Scaling.of(pairs.y, kind)
    model = make_model(recipe, pairs.x.shape[2], pairs.y.shape[1])
    scaled = Pairs(inner.apply(pairs.x), outer.apply(pairs.y))
    *_, last = train(model, recipe, scaled)
    assert last.loss < 1e-3
    return lambda x: outer.invert(forecast(model, recipe, inner.apply(np.asarray(x, float))))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_sine_is_foreseen_to_a_thousandth(cell):
    y = column(np.sin(np.arange(1000) * 0.1))
    pairs = pairs_of(y, y, window=10, ahead=1)
    recipe = ClassicRecipe(window=10, cell=cell, hidden=32, epochs=8)
    model = make_model(recipe, 1, 1)
    known, unseen = pairs.at(slice(792)), pairs.at(slice(792, None))
    epochs = list(train(model, recipe, known))
    assert epochs[-1].loss < epochs[0].loss / 5
    assert mean_loss(model, recipe, unseen) <= 1e-3


def test_ten_to_ninety_is_continued_with_a_hundred():
    y = column(np.arange(10, 91, 10))
    foresee = learned(pairs_of(y, y, window=3, ahead=1), ClassicRecipe(window=3, hidden=32, epochs=300))
    assert foresee([[[70], [80], [90]]]) == pytest.approx(100, abs=5)


def test_fifteen_times_thirty_is_found_from_one_to_twenty():
    x = column(np.arange(1, 21))
    recipe = ClassicRecipe(window=1, cell="gru", hidden=32, epochs=500)
    assert learned(pairs_of(x, 15 * x, window=1, ahead=0), recipe)([[[30]]]) == pytest.approx(450, abs=15)


def test_the_sum_of_three_steps_is_found():
    x = np.arange(1, 46, dtype=float).reshape(15, 3, 1)
    foresee = learned(Pairs(x, x.sum(axis=1)), ClassicRecipe(window=3, hidden=50, epochs=700))
    assert foresee([[[50], [51], [52]]]) == pytest.approx(153, abs=3)


def test_two_parallel_series_are_foreseen_together():
    steps = np.arange(1, 31, dtype=float)
    rows = np.stack([3 * steps, 5 * steps], axis=1)
    foresee = learned(pairs_of(rows, rows, window=3, ahead=1), ClassicRecipe(window=3, hidden=32, epochs=300))
    assert foresee([[[20, 34], [23, 39], [26, 44]]])[0] == pytest.approx([29, 49], abs=2)


def test_forecasts_fed_back_go_on_with_a_wave():
    y = column(np.sin(np.arange(400) * 0.3))
    recipe = ClassicRecipe(window=12, epochs=12)
    model = make_model(recipe, 1, 1)
    list(train(model, recipe, pairs_of(y, y, window=12, ahead=1)))
    assert extend(model, recipe, y[-12:], 10) == pytest.approx(column(np.sin(np.arange(400, 410) * 0.3)), abs=0.15)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_every_shape_learns(optimizer, loss):
    rows = np.random.default_rng(0).normal(size=(80, 2))
    recipe = ClassicRecipe(
        window=3,
        layers=2,
        hidden=8,
        dropout=0.1,
        bidirectional=True,
        optimizer=optimizer,
        rate=0.05,
        loss=loss,
        epochs=15,
        batch=8,
    )
    model = make_model(recipe, 2, 1)
    epochs = list(train(model, recipe, pairs_of(rows, rows[:, :1], window=3, ahead=0)))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert [one.is_best for one in epochs] == [True] * 15


def test_both_directions_reach_the_forecast():
    recipe = ClassicRecipe(window=3, hidden=4, layers=2, bidirectional=True)
    model = make_model(recipe, 1, 1)
    hidden, _ = model.cells(x := torch.randn(5, 3, 1, generator=torch.Generator().manual_seed(0)))
    ends = torch.cat([hidden[:, -1, :4], hidden[:, 0, 4:]], dim=1)  # where each direction ends
    assert torch.equal(model(x), model.head(ends))


def test_learning_stops_when_validation_gets_no_better_and_the_best_weights_stay():
    noise = np.random.default_rng(1).normal(size=(60, 1))
    pairs = pairs_of(noise, noise, window=5, ahead=1)
    recipe = ClassicRecipe(window=5, epochs=200, patience=4)
    model = make_model(recipe, 1, 1)
    known, unseen = pairs.at(slice(40)), pairs.at(slice(40, None))
    epochs = list(train(model, recipe, known, unseen))
    best = min(epochs, key=lambda one: one.validation)
    assert len(epochs) == best.number + 4
    assert mean_loss(model, recipe, unseen) == best.validation


def test_the_same_seed_gives_the_same_forecasts_and_leaves_the_global_one_alone():
    rows = np.random.default_rng(2).normal(size=(50, 1))
    pairs = pairs_of(rows, rows, window=4, ahead=1)

    def forecasts(seed: int) -> np.ndarray:
        recipe = ClassicRecipe(window=4, hidden=8, dropout=0.2, epochs=2, seed=seed)
        model = make_model(recipe, 1, 1)
        list(train(model, recipe, pairs))
        return forecast(model, recipe, pairs.x)

    before = torch.random.get_rng_state()
    first = forecasts(0)
    assert np.array_equal(first, forecasts(0))
    assert not np.array_equal(first, forecasts(1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_pair_holds_no_target_in_its_window():
    rows = column(np.arange(8))
    pairs = pairs_of(rows, rows, window=3, ahead=2)
    assert pairs.x[:, -1, 0].tolist() == [2, 3, 4, 5]
    assert pairs.y[:, 0].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_scaling_is_undone_exactly_enough_and_bears_a_constant(kind):
    rows = np.array([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])
    scaling = Scaling.of(rows, kind)
    scaled = scaling.apply(rows)
    assert scaled[:, 1].tolist() == [0, 0, 0]
    assert (scaled[:, 0].min() == 0) == (kind == "minmax")
    assert scaling.invert(scaled) == pytest.approx(rows)
