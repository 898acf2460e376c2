"""From settings to the constants of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretick.core.recipe import LearnRecipe, Recipe, SeasonRecipe

if TYPE_CHECKING:
    from foretick.app.settings import Settings


def recipe_of(settings: Settings) -> Recipe:
    """The recipe of the one group; what the settings do not name keeps its measured value."""
    return Recipe(
        hidden=settings.model.hidden,
        layers=settings.model.layers,
        seed=settings.model.seed,
        max_series=settings.max_series,
        season=SeasonRecipe(durations_ms=_durations_ms(settings)),
        learn=LearnRecipe(enabled=settings.learn.enabled, every=settings.learn.every),
    )


def _durations_ms(settings: Settings) -> tuple[int, ...] | None:
    if settings.season == "auto":
        return None
    if settings.season == "none":
        return ()
    return tuple(round(seconds * 1000) for seconds in settings.season)
