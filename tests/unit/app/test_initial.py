"""What networks begin with: weights in a file, where the settings name one and it fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretick.app.initial import initial_of, load_knowledge, save_knowledge
from foretick.app.recipes import devices_of, engine_of, recipe_of
from foretick.app.settings import Settings
from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer, Knowledge
from foretick.core.recipe import Recipe, ScalingRecipe
from foretick.core.records import Ticks
from foretick.errors import UsageError


def wave(n: int) -> Ticks:
    ms = 1_700_000_000_000 + 1000 * np.arange(n)
    return Ticks([b"a"] * n, ms, ms, np.ones(n, np.bool_), np.sin(np.arange(n) * 0.3))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def knowledge_of(recipe: Recipe, spread: float = 0.1) -> Knowledge:
    generator = torch.Generator().manual_seed(5)
    return Knowledge.fresh(torch.randn(Engine.shape_of(recipe).size, generator=generator) * spread)


def settings_of(model: dict, **others) -> Settings:
    return Settings.model_validate({"model": model, **others})


def test_weights_come_back_to_the_bit_and_the_optimiser_begins_anew(path):
    recipe = Recipe(hidden=16, layers=2)
    written = knowledge_of(recipe)
    save_knowledge(path, recipe, written, {"ticks": 5})
    read = load_knowledge(path, recipe)
    assert torch.equal(read.theta, written.theta)
    assert (read.steps, float(read.square.abs().max())) == (0, 0)


def test_an_engine_begins_with_them(path):
    settings = settings_of({"hidden": 16, "init": path}, learn={"enabled": False})
    recipe = recipe_of(settings)
    save_knowledge(path, recipe, knowledge_of(recipe), {})
    begun = engine_of(settings, devices_of(settings), InlineTrainer, initial_of(settings))
    ticks = wave(40)
    assert np.array_equal(begun.advance(ticks).yhat, Engine(recipe, init=knowledge_of(recipe)).advance(ticks).yhat)
    assert not np.array_equal(
        Engine(recipe, init=knowledge_of(recipe)).advance(ticks).yhat, Engine(recipe).advance(ticks).yhat
    )


class CountingTrainer(InlineTrainer):
    jobs = 0

    def submit(self, job):
        self.jobs += 1
        super().submit(job)


def test_what_has_learned_before_learns_on_at_the_steady_pace():
    recipe = Recipe(hidden=8)

    def jobs(init: Knowledge | None) -> int:
        trainer = CountingTrainer(Engine.shape_of(recipe), recipe.learn)
        Engine(recipe, trainer, init=init).advance(wave(33))
        return trainer.jobs

    assert (jobs(None), jobs(knowledge_of(recipe))) == (32 // recipe.learn.early_every, 32 // recipe.learn.every)


def test_state_that_is_there_wins_over_them(path):
    recipe = Recipe(hidden=16)
    ran, begun = Engine(recipe), Engine(recipe, init=knowledge_of(recipe))
    assert ran.layout == begun.layout
    ran.advance(wave(20))
    begun.restore(ran.snapshot())
    ticks = wave(32).slice(20, 32)
    assert np.array_equal(begun.advance(ticks).yhat, ran.advance(ticks).yhat)


def test_a_group_may_have_its_own(path):
    recipe = Recipe(hidden=8)
    save_knowledge(path, recipe, knowledge_of(recipe), {})
    settings = settings_of({"hidden": 16}, groups={"boiler-*": {"hidden": 8, "init": path}})
    assert initial_of(settings).keys() == {"boiler-*"}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Recipe(hidden=32), "model.hidden was 16, here it is 32"),
        (Recipe(hidden=16, layers=2), "model.layers was 1, here it is 2"),
        (Recipe(hidden=16, scaling=ScalingRecipe(rate=0.01)), r"scaling.rate was 0.005, here it is 0.01"),
    ],
    ids=["hidden", "layers", "scaling"],
)
def test_weights_of_another_model_are_refused_and_it_is_told_why(path, other, why):
    recipe = Recipe(hidden=16)
    save_knowledge(path, recipe, knowledge_of(recipe), {})
    with pytest.raises(UsageError, match=rf"model.init: .*weights.safetensors is of another model: {why}"):
        load_knowledge(path, other)


def test_seed_season_and_learning_may_differ(path):
    recipe = recipe_of(settings_of({"hidden": 16}))
    save_knowledge(path, recipe, knowledge_of(recipe), {})
    load_knowledge(path, recipe_of(settings_of({"hidden": 16, "seed": 3}, season="12h", learn={"every": 2})))


@pytest.mark.parametrize("spread", [float("nan"), 1e9])
def test_poisoned_weights_are_refused(path, spread):
    recipe = Recipe(hidden=16)
    save_knowledge(path, recipe, knowledge_of(recipe, spread), {})
    with pytest.raises(UsageError, match="not finite, or absurdly large"):
        load_knowledge(path, recipe)
