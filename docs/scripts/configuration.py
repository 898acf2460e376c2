"""Writes docs/configuration.md from the settings' model: `make docs`."""

from __future__ import annotations

import itertools
from pathlib import Path

from settings_about import ABOUT, NEW_MODEL

from foretick import cli
from foretick.app.groups import OVERRIDES
from foretick.app.reload import LIVE
from foretick.app.settings import Setting, Settings, catalogue, value_of
from foretick.app.settings_text import written

PAGE = Path(__file__).resolve().parents[1] / "configuration.md"
INTRODUCTION = Path(__file__).with_name("configuration.head.md")
HEADINGS = {  # the first part of a setting's name: the heading it stands under, which goes on until the next
    "redis": "Redis",
    "streams": "Input",
    "profile": "Model",
    "max_series": "Series",
    "forecasts": "Output",
    "lease": "Ownership and state",
    "metrics": "Metrics, HTTP, logs",
}


def flags() -> dict[str, str]:
    """The flag of each setting that has one of its own."""
    parser = cli._settings_flags()  # noqa: SLF001  the flags are there and nowhere else
    return {action.const: action.option_strings[0] for action in parser._actions if isinstance(action.const, str)}  # noqa: SLF001


def default_of(setting: Setting) -> str:
    """The default as it is written in TOML."""
    if setting.name == "state_dir":
        return "see there"
    value = value_of(Settings.model_construct(), setting.name)
    if value is None or value == {}:
        return "none"
    return f"`{written(setting.name, value)}`"


def effect(name: str) -> str:
    """When a changed value counts."""
    if name in LIVE:
        return "live"
    if name in NEW_MODEL:
        return "[new model](operations.md#checkpoints)"
    return "restart"


def row(setting: Setting, flag: str | None) -> str:
    """A line of the table."""
    spellings = [f"`{setting.name}`", f"`{setting.variable}`"]
    if setting.is_secret:
        spellings = [f"`{setting.name}_file`", f"`{setting.variable}_FILE`", *spellings]
    if flag:
        spellings.append(f"`{flag}`")
    cells = ["<br>".join(spellings), default_of(setting), ABOUT[setting.name], setting.hint, effect(setting.name)]
    if setting.name in OVERRIDES.values():
        cells[2] += " Also per group."
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The whole page."""
    known, flag_of = catalogue(), flags()
    lines = [INTRODUCTION.read_text(encoding="utf-8").rstrip()]
    heading = next(iter(HEADINGS))
    for part, names in itertools.groupby(known, key=lambda name: name.partition(".")[0]):
        if part in HEADINGS:
            heading = HEADINGS[part]
            lines += ["", f"## {heading}", "", "| setting, variable, flag | default | | write | counts from |"]
            lines += ["|---|---|---|---|---|"]
        lines += [row(known[name], flag_of.get(name)) for name in names]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
