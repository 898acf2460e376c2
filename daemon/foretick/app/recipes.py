"""From settings to the constants of each group's model, and to the engine that all groups make up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from foretick.app.groups import DEFAULT_GROUP, features_of, group_finder, groups_of, settings_of
from foretick.app.settings_text import group_name
from foretick.core.device import CPU
from foretick.core.engine import Engine
from foretick.core.groups import GroupedEngine
from foretick.core.profiles import PROFILES
from foretick.ports.device import compute_exactly, find_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foretick.app.settings import Settings
    from foretick.core.learner import Knowledge, Trainer
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe, Recipe


def engine_of(
    settings: Settings,
    devices: Mapping[str, str],
    make_trainer: Callable[[Shape, LearnRecipe, str], Trainer],
    initial: Mapping[str, Knowledge] | None = None,
) -> Engine | GroupedEngine:
    """A fresh engine: a network and a trainer for each group; without groups nothing stands between.

    Args:
        settings: all of them.
        devices: torch's name of each group's device, as `devices_of` has found them.
        make_trainer: what computes a group's learning jobs, on which device.
        initial: what a group's network begins with, if not with noise; `initial.initial_of` reads it from files.
    """
    recipes = {group: recipe_of(settings_of(settings, group)) for group in groups_of(settings)}
    carried = features_of(settings)
    engines = {}
    for group, recipe in recipes.items():
        device = devices[group]
        trainer = make_trainer(Engine.shape_of(recipe), recipe.learn, device)
        engines[group] = Engine(recipe, trainer, group, (initial or {}).get(group), carried, device)
    if not settings.groups:
        return engines[DEFAULT_GROUP]
    return GroupedEngine(engines, group_finder(list(settings.groups)), settings.max_series)


def devices_of(settings: Settings) -> dict[str, str]:
    """Torch's name of each group's device, ready to compute.

    Asked once, at the start: what becomes of a device later is for the first computation there to tell.

    Raises:
        UsageError: one is not here.
        DeviceFailed: one takes no memory.
    """
    devices = {}
    for group in groups_of(settings):
        is_own = "device" in settings.groups.get(group, {})
        setting = f"{group_name(group)}.device" if is_own else "device"
        devices[group] = find_device(settings_of(settings, group).device, setting)
    if set(devices.values()) != {CPU}:
        compute_exactly()
    return devices


def recipe_of(settings: Settings) -> Recipe:
    """The recipe of a group with these settings; what the settings do not name keeps its measured value."""
    profile = PROFILES[settings.profile]()
    return replace(
        profile,
        hidden=settings.model.hidden or profile.hidden,
        layers=settings.model.layers,
        seed=settings.model.seed,
        max_series=settings.max_series,
        ttl_ms=None if settings.series.ttl is None else round(settings.series.ttl * 1000),
        features=settings.features,
        targets=settings.targets or settings.features[:1],
        horizon=settings.horizon,
        interval=replace(profile.interval, levels=settings.interval.levels),
        season=replace(profile.season, durations_ms=_durations_ms(settings)),
        learn=replace(profile.learn, enabled=settings.learn.enabled, every=settings.learn.every),
    )


def _durations_ms(settings: Settings) -> tuple[int, ...] | None:
    if settings.season == "auto":
        return None
    if settings.season == "none":
        return ()
    return tuple(round(seconds * 1000) for seconds in settings.season)
