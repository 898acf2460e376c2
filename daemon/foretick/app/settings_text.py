"""Settings as text: values as TOML, without secrets, and wrong ones as a message quotes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from foretick.app.values import write_duration
from foretick.ports.masking import MASK, mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from foretick.app.settings import Setting

SHOWN_CHARACTERS_MAX = 80  # of a wrong value: enough to recognise it, and the message stays one line


def written(name: str, value: object) -> str:
    """A setting's value as TOML, without secrets."""
    if isinstance(value, SecretStr):
        return f'"{MASK}"'
    if name == "interval.levels":
        return as_toml(name, value, repr)
    return as_toml(name, value, lambda seconds: f'"{write_duration(seconds)}"')  # all other floats are durations


def written_groups(groups: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """What each group overrides, a line of TOML for each; a group that overrides nothing is an empty table."""
    for pattern, overrides in groups.items():
        name = group_name(pattern)
        yield from (f"{name}.{key} = {written(key, value)}" for key, value in overrides.items())
        if not overrides:
            yield f"{name} = {{}}"


def group_name(pattern: str) -> str:
    """What a group's table is called in TOML."""
    return "groups." + as_toml("", pattern, repr)


def shown(setting: Setting, value: object) -> str:
    """A wrong value, as far as it may and need be shown."""
    if setting.is_secret:
        return "what was given"
    return shortened(as_toml(setting.name, value, repr))


def shortened(text: str) -> str:
    """The text, cut to what a message has room for."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def as_toml(name: str, value: object, write_float: Callable[[float], str]) -> str:
    """The value of the setting of this name as TOML."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(name, part, write_float) for part in value) + "]"
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float):
        return write_float(value)
    text = mask_url(str(value)) if name == "redis.url" else str(value)
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    """A character of a TOML string; what would break a line or play with a terminal is a number."""
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
