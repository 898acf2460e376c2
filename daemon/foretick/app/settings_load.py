"""Settings from all sources, checked as a whole: either complete and right, or one error with a line per problem."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from foretick.app.settings import Setting, Settings, catalogue, default_state_dir, value_of
from foretick.app.settings_sources import (
    Flag,
    Given,
    Layer,
    Origin,
    from_credentials,
    from_environment,
    from_file,
    from_flags,
)
from foretick.app.values import password_of_url, write_duration
from foretick.errors import UsageError
from foretick.ports.masking import MASK, mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

SHOWN_CHARACTERS_MAX = 80  # of a wrong value: enough to recognise it, and the message stays one line

NO_REDIS = (
    "no Redis is named. Two ways out: --embedded starts a private server; or name yours by "
    "--redis-url redis://HOST:6379, by FORETICK_REDIS__URL in the environment, or by "
    'redis.url = "redis://HOST:6379" in foretick.toml'
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where each of them came from, by dotted name."""

    settings: Settings
    origins: Mapping[str, Origin]


def load(
    flags: Sequence[Flag] = (),
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Reads every source; later ones win: defaults, file, systemd credentials, environment, flags.

    Raises:
        UsageError: something is wrong; the message has one line for each problem.
    """
    known = catalogue()
    problems: list[str] = []
    merged: Layer = {"state_dir": Given(str(default_state_dir(environ)), Origin("default"))}
    merged |= from_file(config, known, problems)
    merged |= from_credentials(environ, known, problems)
    merged |= from_environment(environ, known, problems)
    merged |= from_flags(flags, known, problems)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(_nested(merged))
    except ValidationError as error:
        problems += _explain(error, merged, known)
    origins = {name: merged[name].origin if name in merged else Origin("default") for name in known}
    if settings is not None:
        problems += _contradictions(settings, origins)
    if problems or settings is None:
        raise UsageError("\n".join(problems))
    return Loaded(settings, origins)


def require_redis(settings: Settings) -> None:
    """Refuses settings that name no server.

    Raises:
        UsageError: neither `redis.url` nor `embedded` is set; the message tells the ways out.
    """
    if settings.redis.url is None and not settings.embedded:
        raise UsageError(NO_REDIS)


def written(name: str, value: object) -> str:
    """A setting's value as TOML, without secrets."""
    if isinstance(value, SecretStr):
        return f'"{MASK}"'
    return _as_toml(name, value, lambda seconds: f'"{write_duration(seconds)}"')  # every float of ours is a duration


def _as_toml(name: str, value: object, write_float: Callable[[float], str]) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_as_toml(name, part, write_float) for part in value) + "]"
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


def _shown(setting: Setting, value: object) -> str:
    if setting.is_secret:
        return "what was given"
    text = _as_toml(setting.name, value, repr)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def _nested(merged: Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, given in merged.items():
        group, _, key = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[key] = given.value
    return nested


def _explain(error: ValidationError, merged: Layer, known: Mapping[str, Setting]) -> Iterator[str]:
    seen: set[str] = set()
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        name = next(n for n in (".".join(path[:2]), path[0]) if n in known)
        if name in seen:
            continue
        seen.add(name)
        given = merged[name]
        reason = f"{item['ctx']['error']}; " if item["type"] == "value_error" else ""
        shown = _shown(known[name], given.value)
        yield f"{name} cannot be {shown} ({given.origin}): {reason}write {known[name].hint}"


def _contradictions(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[str]:
    """Settings that are right one by one and wrong together."""
    redis, fields = settings.redis, settings.fields
    for other in ("redis.url", "redis.password"):
        if settings.embedded and value_of(settings, other) is not None:
            yield f"embedded ({origins['embedded']}) and {other} ({origins[other]}) exclude each other: drop one"
    if redis.password is not None and password_of_url(redis.url) not in (None, redis.password.get_secret_value()):
        yield (
            f"redis.password ({origins['redis.password']}) differs from the password in redis.url "
            f"({origins['redis.url']}): take it out of the URL"
        )
    for stream in settings.streams:
        if stream.startswith(f"{settings.prefix}:"):
            yield (
                f"streams cannot be {written('streams', stream)} ({origins['streams']}): keys that begin with "
                f"{settings.prefix}: are foretick's own; write another name, or change prefix"
            )
    if len({fields.series, fields.value, fields.ts}) < 3:
        yield "fields.series, fields.value and fields.ts have to be three different names"
