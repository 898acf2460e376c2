"""Which parts an engine is made of, as its recipe asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretick.core.ensemble import Ensemble
from foretick.core.ensemble_compact import CompactEnsemble
from foretick.core.exogenous import Exogenous, heard_width
from foretick.core.features import PACE, Features, input_width
from foretick.core.features_compact import CompactFeatures, Layout
from foretick.core.intervals import Intervals
from foretick.core.lstm import Shape, init_weights
from foretick.core.pool import Pool
from foretick.core.recipe import IntervalRecipe, LearnRecipe, Recipe
from foretick.core.recorder import Recorder
from foretick.core.tracking import Tracking

if TYPE_CHECKING:
    from torch import Tensor

    from foretick.core.arena import Arena


def shape_of(recipe: Recipe) -> Shape:
    """Sizes of the network."""
    inputs = Layout(recipe.compact).width + heard_width(recipe) if recipe.compact else input_width(recipe)
    return Shape(inputs=inputs, hidden=recipe.hidden, layers=recipe.layers, outputs=recipe.horizon)


def weights_of(recipe: Recipe) -> Tensor:
    """θ before anything was learned; the pace, which is 0 on a regular series, is heard from zero on."""
    pace = Layout(recipe.compact).pace if recipe.compact else PACE
    return init_weights(shape_of(recipe), recipe.seed, [pace])


def exogenous_of(arena: Arena, recipe: Recipe) -> Exogenous | None:
    """What is heard of the features besides a target, if there are any."""
    others = len(recipe.features) - 1
    return Exogenous(arena.table, others, recipe.scaling) if others else None


def senses_of(arena: Arena, recipe: Recipe) -> tuple[Features | CompactFeatures, Ensemble | CompactEnsemble]:
    """What the model sees, and who learns from it per series."""
    if not recipe.compact:
        return Features(arena, recipe), Ensemble(arena, recipe)
    compact = CompactFeatures(arena, recipe)
    return compact, CompactEnsemble(recipe)


def intervals_of(arena: Arena, recipe: Recipe) -> Intervals | Tracking:
    """How far an actual may be from its forecast."""
    if isinstance(recipe.interval, IntervalRecipe):
        return Intervals(arena.table, recipe.interval)
    return Tracking(recipe.interval, recipe.mix.clip)


def recorder_of(shape: Shape, recipe: LearnRecipe) -> Recorder:
    """What the group learns from."""
    return Pool(shape, recipe, recipe.pool) if recipe.pool else Recorder(shape, recipe)
