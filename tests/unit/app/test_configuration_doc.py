"""docs/configuration.md is what the settings say, and each setting says what it is."""

from __future__ import annotations

import configuration
from settings_about import ABOUT, NEW_MODEL

from foretick.app.groups import settings_of
from foretick.app.recipes import recipe_of
from foretick.app.settings import Settings, catalogue
from foretick.core.snapshots import shaping

OTHER = {  # a group's value for a setting, other than the default
    "profile": "lean",
    "features": ("a", "b"),
    "targets": ("a",),
    "horizon": 2,
    "interval.levels": (0.5,),
    "hidden": 8,
    "layers": 2,
    "seed": 1,
    "season": "none",
    "ttl": 60.0,
    "learn.enabled": False,
    "learn.every": 9,
}


def test_every_setting_is_told_about_and_no_other():
    assert sorted(ABOUT) == sorted(catalogue())
    assert [name for name, text in ABOUT.items() if not text.endswith(".")] == []


def test_the_page_is_what_the_script_writes():
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page(), "run `make docs`"


def test_what_is_a_new_model_is_what_shapes_the_state():
    plain = Settings(features=("a", "b", "c"), targets=("b",))
    for name, value in OTHER.items():
        changed = settings_of(plain.model_copy(update={"groups": {"x": {name: value}}}), "x")
        full = next(one for one in (name, f"model.{name}", f"series.{name}") if one in catalogue())
        assert (shaping(recipe_of(changed)) != shaping(recipe_of(plain))) == (full in NEW_MODEL), full
