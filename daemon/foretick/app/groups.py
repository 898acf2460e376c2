"""Groups: series that have a network of their own, with settings of their own.

A group is a pattern, which is its name, and the settings that it overrides. A series belongs to the first group, in the
order written, whose pattern fits its id or its stream's key; what fits none belongs to the group `default`.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from foretick.app.settings_sources import Given, nearest
from foretick.app.settings_text import group_name, shortened, shown
from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from foretick.app.settings import Setting, Settings
    from foretick.app.settings_sources import Catalogue, Origin

DEFAULT_GROUP = "default"
GROUPS_MAX = 100  # each has a network, a place at the trainer and about twenty time series of metrics
PATTERN_CHARACTERS_MAX = 200  # as long as a series id

OVERRIDES = {  # what a group calls a setting: the setting
    "features": "features",
    "targets": "targets",
    "horizon": "horizon",
    "interval.levels": "interval.levels",
    "hidden": "model.hidden",
    "layers": "model.layers",
    "profile": "profile",
    "seed": "model.seed",
    "init": "model.init",
    "device": "device",
    "season": "season",
    "ttl": "series.ttl",
    "learn.enabled": "learn.enabled",
    "learn.every": "learn.every",
}

M = TypeVar("M", bound=BaseModel)


def groups_of(settings: Settings) -> list[str]:
    """The names of all groups; the one of what fits no pattern comes last."""
    return [*settings.groups, DEFAULT_GROUP]


def settings_of(settings: Settings, group: str) -> Settings:
    """The settings as they hold for a group."""
    for name, value in settings.groups.get(group, {}).items():
        settings = _replaced(settings, OVERRIDES[name].split("."), value)
    return settings


def _replaced(model: M, path: Sequence[str], value: object) -> M:
    first, *rest = path
    return model.model_copy(update={first: _replaced(getattr(model, first), rest, value) if rest else value})


def features_of(settings: Settings) -> tuple[str, ...]:
    """The features of all groups together, those of what fits no pattern first."""
    own = [settings_of(settings, group).features for group in reversed(groups_of(settings))]
    return tuple(dict.fromkeys(name for names in own for name in names))


def learn_schedule(settings: Settings) -> dict[str, int]:
    """By group, the ticks of a series between two learning jobs; 0 for one that does not learn."""
    learning = {group: settings_of(settings, group).learn for group in groups_of(settings)}
    return {group: learn.every if learn.enabled else 0 for group, learn in learning.items()}


def group_finder(patterns: Sequence[str]) -> Callable[[bytes], str]:
    """What tells the group of a series by its key, (stream, series id), for the engine."""
    fits = [(pattern, re.compile(fnmatch.translate(pattern)).match) for pattern in patterns]

    def find(key: bytes) -> str:
        stream, series = (part.decode(errors="surrogateescape") for part in split_series_key(key))
        return next((pattern for pattern, fit in fits if fit(series) or fit(stream)), DEFAULT_GROUP)

    return find


# Reading them.


def read_groups(given: Given, catalogue: Catalogue, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What each pattern overrides, checked; one line is added to `problems` for each thing that is wrong."""
    table, origin = given.value, given.origin
    if isinstance(table, str):
        try:
            table = json.loads(table)
        except (ValueError, RecursionError):
            table = None
    if not isinstance(table, dict):
        problems.append(
            f"groups cannot be {shown(catalogue['groups'], given.value)} ({origin}): write {catalogue['groups'].hint}"
        )
        return {}
    if len(table) > GROUPS_MAX:
        problems.append(f"groups ({origin}) are {len(table)}: {GROUPS_MAX} at most")
        return {}
    found: dict[str, dict[str, Any]] = {}
    for pattern, overrides in table.items():
        if why := _why_no_pattern(pattern, list(found)):
            problems.append(f"{shortened(group_name(pattern))} ({origin}): {why}")
        elif not isinstance(overrides, dict):
            wrong = shown(catalogue["groups"], overrides)
            problems.append(
                f"{group_name(pattern)} cannot be {wrong} ({origin}): write a table, such as {{hidden = 32}}"
            )
        else:
            found[pattern] = _read_overrides(group_name(pattern), overrides, origin, catalogue, problems)
    return found


def _why_no_pattern(pattern: str, before: Sequence[str]) -> str:
    """What is wrong with a pattern after these others; nothing where it is sound."""
    if not 0 < len(pattern) <= PATTERN_CHARACTERS_MAX or any(ord(character) < 0x20 for character in pattern):
        return f"a pattern has 1 to {PATTERN_CHARACTERS_MAX} characters, as series ids and stream keys have"
    if pattern == DEFAULT_GROUP:
        return 'this is the group of all series that fit no pattern; for a series of that name write "[d]efault"'
    if "[" in re.sub(r"\[!?\]?[^\]]*\]", "", pattern):
        return "a [ has no ] behind it; a [ itself is written [[]"
    if catch_all := next((one for one in before if not one.strip("*")), None):
        return f"no series is left for it behind {group_name(catch_all)}, which fits all: write that one last"
    return ""


def _read_overrides(
    table: str, overrides: Mapping[str, Any], origin: Origin, catalogue: Catalogue, problems: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _flat(overrides):
        if name not in OVERRIDES:
            meant = nearest(name, list(OVERRIDES))
            advice = f"did you mean {meant}?" if meant else f"write one of {', '.join(OVERRIDES)}"
            problems.append(f"{table}.{shortened(name)} ({origin}) is no setting of a group: {advice}")
            continue
        setting = catalogue[OVERRIDES[name]]
        try:
            found[name] = _checked(setting, value)
        except ValueError as reason:
            why = f"{reason}; " * bool(str(reason))
            problems.append(f"{table}.{name} cannot be {shown(setting, value)} ({origin}): {why}write {setting.hint}")
    return found


def _checked(setting: Setting, value: object) -> object:
    """The value as the settings would hold it.

    Raises:
        ValueError: it is none; says why, if there is more to say than the setting's hint.
    """
    kind: Any = Annotated[setting.kind, *setting.metadata]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(first["ctx"]["error"] if first["type"] == "value_error" else "") from None


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
