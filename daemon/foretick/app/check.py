"""`foretick check`: the settings in force and where each came from, then a look at what they point to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretick.app.access import server_of
from foretick.app.discovery import is_glob
from foretick.app.groups import groups_of, settings_of
from foretick.app.reload import LIVE
from foretick.app.settings import value_of
from foretick.app.settings_load import require_redis
from foretick.app.settings_text import written, written_groups
from foretick.errors import EXIT_CLEAN, DeviceFailed, RedisUnreachable, UsageError
from foretick.ports import probe
from foretick.ports.device import describe_device, find_device
from foretick.ports.masking import MASK, mask_passwords, mask_url
from foretick.ports.weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.app.settings import Settings
    from foretick.app.settings_load import Loaded


ORIGIN_COLUMN = 44  # as wide as the usual settings; long ones push their origin to the right


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    Attributes:
        subject: what was looked at.
        text: what was seen, or what is wrong and what to do.
        exit_code: 0 when it is fine.
    """

    subject: str
    text: str
    exit_code: int = EXIT_CLEAN

    def __str__(self) -> str:
        verdict = "FAIL" if self.exit_code else "ok"
        return f"# {self.subject:<8} {verdict:<4}  {self.text}"


def run(loaded: Loaded) -> int:
    """Prints both parts, as TOML with comments, and returns the exit status that `run` would meet first."""
    worst = EXIT_CLEAN
    for line in setting_lines(loaded):
        sys.stdout.write(line + "\n")
    sys.stdout.write("\n")
    for finding in findings(loaded.settings):
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()  # the next answer may take seconds
        worst = worst or finding.exit_code
    return worst


def setting_lines(loaded: Loaded) -> Iterator[str]:
    """Each setting as a line of TOML with its origin; what is not set, and secrets, as comments."""
    for name, origin in loaded.origins.items():
        value = value_of(loaded.settings, name)
        if name == "groups" and value:
            yield from (f"{line.ljust(ORIGIN_COLUMN)}  # {origin}" for line in written_groups(value))
            continue
        if value is None or value == {}:
            yield f"# {name} is not set"
            continue
        text = written(name, value)
        hash_sign = "# " if MASK in text else ""
        yield f"{hash_sign}{name} = {text}".ljust(ORIGIN_COLUMN) + f"  # {origin}"


def findings(settings: Settings) -> Iterator[Finding]:
    """What is reachable, in the order in which `run` needs it."""
    yield from _devices(settings)
    yield from _weights(settings)
    yield Finding("reload", f"SIGHUP takes up {', '.join(LIVE)}; all others count from the next start")
    try:
        require_redis(settings)
    except UsageError as error:
        yield Finding("redis", str(error), error.exit_code)
    else:
        yield from _embedded(settings) if settings.embedded else _server(settings)
    yield _http(settings)


def _devices(settings: Settings) -> Iterator[Finding]:
    """Where networks compute."""
    for name in dict.fromkeys(settings_of(settings, group).device for group in groups_of(settings)):
        try:
            device = find_device(name)
        except (UsageError, DeviceFailed) as error:
            yield Finding("device", str(error), error.exit_code)
        else:
            yield Finding(
                "device", f"{name} is {describe_device(device)}" if name == "auto" else describe_device(device)
            )


def _weights(settings: Settings) -> Iterator[Finding]:
    """The files that networks begin with; whether they fit the model, `run` tells before it connects."""
    given = [settings_of(settings, group).model.init for group in groups_of(settings)]
    for path in dict.fromkeys(path for path in given if path is not None):
        try:
            facts = read_weights(path).facts
        except UsageError as error:
            yield Finding("model", str(error), error.exit_code)
        else:
            yield Finding("model", f"{path} was learned from {facts.get('ticks')} ticks")


def _embedded(settings: Settings) -> Iterator[Finding]:
    why = probe.why_no_embedded_server() or probe.why_not_writable(settings.state_dir)
    if why:
        yield Finding("embedded", why, UsageError.exit_code)
    else:
        yield Finding("embedded", f"`run` will start a private server and keep its data in {settings.state_dir}")


def _server(settings: Settings) -> Iterator[Finding]:
    address = mask_url(settings.redis.url or "")
    try:
        seen = probe.look_at_server(
            server_of(settings),
            names=[name for name in settings.streams if not is_glob(name)],
            globs=[name for name in settings.streams if is_glob(name)],
            prefix=settings.prefix,
        )
    except (RedisUnreachable, UsageError) as error:
        yield Finding("redis", f"{address}: {mask_passwords(str(error))}", error.exit_code)
        return
    name = f"{seen.software} {seen.version or 'of unknown version (INFO is not allowed)'} at {address}"
    name += f", a cluster of {seen.masters} masters" if seen.masters else ""
    if seen.is_supported:
        yield Finding("redis", name)
    else:
        yield Finding("redis", f"{name}: foretick needs Redis 7.0 or Valkey 7.2 at least", UsageError.exit_code)
    for one in seen.streams:
        yield _stream(one)
    for glob, found in seen.found.items():
        told = "this user may not search for streams" if found is None else f"{found} found"
        yield Finding("streams", f"{glob}: {told}")


def _stream(seen: probe.StreamSeen) -> Finding:
    stream = seen.name
    match seen.key_type:
        case "stream":
            return Finding("stream", f"{stream} has {seen.entries} entries")
        case "none":
            return Finding("stream", f"{stream} is not there yet: the first XADD makes it")
        case None:
            return Finding("stream", f"{stream}: this user may not ask for its type")
        case other:
            return Finding("stream", f"{stream} is a {other}, no stream: name another key", UsageError.exit_code)


def _http(settings: Settings) -> Finding:
    http = settings.http
    why = probe.why_not_bindable(http.host, http.port)
    where = f"{http.host}, port {http.port or 'any free one'}"
    if why:
        advice = "write another http.host or http.port (0 takes any free one)"
        return Finding("http", f"{where}: {why}; {advice}", UsageError.exit_code)
    return Finding("http", f"{where}: free")
