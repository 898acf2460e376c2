"""Settings from all sources, checked as a whole: either complete and right, or one error with a line per problem."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from foretick.app.groups import DEFAULT_GROUP, groups_of, read_groups, settings_of
from foretick.app.settings import Settings, catalogue, default_state_dir, value_of
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
from foretick.app.settings_text import shown, written
from foretick.app.values import password_of_url
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from foretick.app.settings import Setting

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
    if groups := merged.get("groups"):
        merged["groups"] = replace(groups, value=read_groups(groups, known, problems))
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
        yield f"{name} cannot be {shown(known[name], given.value)} ({given.origin}): {reason}write {known[name].hint}"


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
    for group in groups_of(settings):
        yield from _wrong_outputs(settings_of(settings, group), "" if group == DEFAULT_GROUP else f"groups.{group}.")


def _wrong_outputs(settings: Settings, table: str) -> Iterator[str]:
    """What a group cannot forecast from what it is given."""
    fields, features = settings.fields, settings.features
    for name in features:
        if name in (fields.series, fields.ts):
            what = "series" if name == fields.series else "time"
            yield f"{table}features cannot hold {name}: that field is the {what}"
    if missing := [name for name in settings.targets if name not in features]:
        yield f"{table}targets cannot hold {missing[0]}: write one of the features, {', '.join(features)}"
