"""The settings that share the first part of their name, group by group: names, defaults, bounds, what to write.

`settings.Settings` is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from foretick.app.values import (
    check_redis_url,
    parse_duration,
    parse_levels,
    parse_lifetime,
    parse_names,
    parse_size,
    parse_store,
)


@dataclass(frozen=True, slots=True)
class Hint:
    """What to write for a setting; the end of every message about a wrong value."""

    text: str


def number(value: object) -> object:
    """The value, unless it is a truth value, which pydantic would take for 0 or 1."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004  pydantic turns only ValueError into a report
    return value


def lower(value: object) -> object:
    """A text in lower case, anything else as it is."""
    return value.lower() if isinstance(value, str) else value


def absolute(path: Path) -> Path:
    """The path from the root on, with `~` resolved."""
    if not str(path).isprintable():
        raise ValueError("a path has printable characters only")
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("there is no such user") from None


Count = Annotated[int, BeforeValidator(number)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]  # the settings' names are a contract without units
File = Annotated[Path | None, AfterValidator(lambda path: path if path is None else absolute(path))]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Group(BaseModel):
    """Settings that share the first part of their name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RedisSettings(Group):
    """Where Redis is, and as whom we come. User and password replace the URL's."""

    url: Annotated[
        str | None,
        AfterValidator(lambda url: url if url is None else check_redis_url(url)),
        Hint("redis://HOST:6379, rediss://HOST:6379, redis+sentinel://HOST:26379/MASTER or unix:///PATH"),
    ] = Field(default=None, repr=False)  # it may carry a password
    user: Annotated[Name | None, Hint("a user of the ACL, such as foretick")] = None
    password: Annotated[SecretStr | None, Hint("the password, better as redis.password_file")] = None
    # Files in PEM, read again at each connection. Without `ca` the machine's own certificates are trusted.
    ca: Annotated[File, Hint("a file of certificates, such as /etc/foretick/ca.crt")] = None
    cert: Annotated[File, Hint("a file, such as /etc/foretick/client.crt")] = None
    key: Annotated[File, Hint("a file, such as /etc/foretick/client.key")] = None
    sentinel_user: Annotated[Name | None, Hint("a user of the Sentinels' own ACL")] = None
    sentinel_password: Annotated[
        SecretStr | None, Hint("the Sentinels' own password, better as redis.sentinel_password_file")
    ] = None
    connect_deadline: Annotated[Seconds, Field(ge=0), Hint("a duration such as 60s")] = 60.0


class FieldSettings(Group):
    """What producers call the fields of a tick."""

    series: Annotated[Name, Hint("a field's name, such as series")] = "series"
    value: Annotated[Name, Hint("a field's name, such as value")] = "value"
    ts: Annotated[Name, Hint("a field's name, such as ts")] = "ts"
    ts_unit: Annotated[Literal["s", "ms", "us", "ns"], Hint("s, ms, us or ns")] = "ms"


class IntervalSettings(Group):
    """How much an interval is to hold."""

    levels: Annotated[
        tuple[float, ...], BeforeValidator(parse_levels), Hint("shares between 0 and 1, such as 0.8, 0.95, or none")
    ] = (0.8, 0.95)


class LearnSettings(Group):
    """Learning while running."""

    enabled: Annotated[bool, Hint("true or false")] = True
    every: Annotated[Count, Field(ge=1, le=1_000_000), Hint("ticks per series between two jobs, such as 8")] = 8
    # A process learns beside the loop; inline the loop waits for every job. The forecasts are the same.
    trainer: Annotated[Literal["process", "inline"], BeforeValidator(lower), Hint("process or inline")] = "process"


class ModelSettings(Group):
    """The network. A change is a new model: it learns from the start of the stream again."""

    # A multiple of 8: element-wise functions then never meet a ragged tail, which torch rounds otherwise.
    # None: as the profile has it.
    hidden: Annotated[
        Count | None, Field(ge=8, le=1024, multiple_of=8), Hint("a multiple of 8 up to 1024, such as 64")
    ] = None
    layers: Annotated[Count, Field(ge=1, le=3), Hint("a number of layers from 1 to 3")] = 1
    seed: Annotated[Count, Field(ge=0, lt=2**63), Hint("a whole number from 0 to 2^63 - 1")] = 0
    # What the network begins with where there is no checkpoint; none: seeded noise, which forecasts as naive does.
    init: Annotated[
        Path | None,
        AfterValidator(lambda path: path if path is None else absolute(path)),
        Hint("a file that `foretick fit` wrote, such as weights.safetensors"),
    ] = None


class ForecastsSettings(Group):
    """The stream of forecasts."""

    maxlen: Annotated[Count, Field(ge=1, lt=2**63), Hint("entries to keep, such as 1000000")] = 1_000_000


class DeadSettings(Group):
    """The stream of dead letters."""

    maxlen: Annotated[Count, Field(ge=1, lt=2**63), Hint("entries to keep, such as 100000")] = 100_000


class LeaseSettings(Group):
    """Ownership of a partition."""

    # Renewed every third of it: below 1 s one slow turn loses the lease; above 1 h nobody takes over after a crash.
    ttl: Annotated[Seconds, Field(ge=1, le=3600), Hint("a duration from 1s to 1h, such as 10s")] = 10.0


class CheckpointSettings(Group):
    """State that outlives the process."""

    every: Annotated[Seconds, Field(ge=0), Hint("a duration such as 60s, or 0 for never")] = 60.0
    store: Annotated[
        Literal["redis"] | Path,
        BeforeValidator(parse_store),
        AfterValidator(lambda store: absolute(store) if isinstance(store, Path) else store),
        Hint("redis, or a folder such as /var/lib/foretick/checkpoints"),
    ] = "redis"
    # Two generations and the next one lie in Redis' memory for a while: three times this.
    redis_max: Annotated[int, BeforeValidator(parse_size), Field(ge=1), Hint("a size such as 64MB")] = 64_000_000


class SeriesSettings(Group):
    """How long series are remembered."""

    # By the entry ids' time, so the same stream forgets the same series. Sixteen times in it series are looked through.
    ttl: Annotated[
        Annotated[float, Field(ge=1)] | None,
        BeforeValidator(parse_lifetime),
        Hint("a duration from 1s on, such as 30d, or none for ever"),
    ] = None


class MetricsSettings(Group):
    """Series that have metrics of their own; each costs three time series."""

    worst: Annotated[Count, Field(ge=0, le=1000), Hint("a number of series from 0 to 1000, such as 10")] = 10
    series: Annotated[
        tuple[Name, ...],
        BeforeValidator(parse_names),
        Field(max_length=1000),
        Hint("names or globs of series, such as boiler-7, pump-*"),
    ] = ()


class HttpSettings(Group):
    """The one HTTP port: metrics, probes."""

    host: Annotated[Name, Hint("an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all")] = "127.0.0.1"
    port: Annotated[Count, Field(ge=0, le=65535), Hint("a port from 0 to 65535, 0 for any free one")] = 9464


class LogSettings(Group):
    """What is logged, to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lower), Hint("debug, info, warning or error")
    ] = "info"
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower), Hint("auto, json or console")] = (
        "auto"
    )
