"""Every setting: its name, default, bounds, and what to write when it is wrong.

`Settings` is what the rest of the app is given; it is frozen and complete. `settings_sources` reads where the values
come from, `settings_load` puts them together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from foretick.app.settings_groups import (
    CheckpointSettings,
    Count,
    DeadSettings,
    FieldSettings,
    ForecastsSettings,
    Hint,
    HttpSettings,
    IntervalSettings,
    LearnSettings,
    LeaseSettings,
    LogSettings,
    MetricsSettings,
    ModelSettings,
    Name,
    RedisSettings,
    SeriesSettings,
    absolute,
    lower,
)
from foretick.app.values import (
    Season,
    parse_features,
    parse_names,
    parse_season,
    parse_streams,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Systemd's state folder where there is one, else the XDG one."""
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:  # systemd lists several with colons
        return Path(given)
    if xdg := environ.get("XDG_STATE_HOME"):
        return Path(xdg) / "foretick"
    home = environ.get("HOME")
    return Path(home, ".local/state/foretick") if home else Path("/var/lib/foretick")


class Settings(BaseSettings):
    """All settings of one daemon; durations are float seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    redis: RedisSettings = RedisSettings()
    embedded: Annotated[bool, Hint("true or false")] = False
    state_dir: Annotated[Path, AfterValidator(absolute), Hint("a folder, such as /var/lib/foretick")] = Field(
        default_factory=default_state_dir
    )
    streams: Annotated[
        tuple[Name, ...], BeforeValidator(parse_streams), Hint("names or globs of streams, such as ticks, ticks:*")
    ] = ("ticks", "ticks:*")
    start: Annotated[Literal["earliest", "latest"], Hint("earliest or latest")] = "earliest"
    prefix: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_.:-]{0,99}[A-Za-z0-9_.-]$"),  # braces would move the keys to another cluster slot
        Hint("letters, digits and _ . - (: inside), such as foretick"),
    ] = "foretick"
    batch: Annotated[Count, Field(ge=1, le=100_000), Hint("ticks per read from 1 to 100000, such as 4000")] = 4000
    fields: FieldSettings = FieldSettings()
    profile: Annotated[
        Literal["accurate", "balanced", "lean"], BeforeValidator(lower), Hint("accurate, balanced or lean")
    ] = "accurate"
    # Names of the fields with numbers; `value` stands for what `fields.value` says.
    features: Annotated[
        tuple[Name, ...], BeforeValidator(parse_features), Hint("names of fields, such as open, high, low, close")
    ] = ("value",)
    targets: Annotated[
        tuple[Name, ...], BeforeValidator(parse_names), Hint("those of the features to forecast, such as close")
    ] = ()  # none: the first feature
    horizon: Annotated[Count, Field(ge=1, le=64), Hint("steps ahead from 1 to 64")] = 1
    interval: IntervalSettings = IntervalSettings()
    season: Annotated[Season, BeforeValidator(parse_season), Hint("auto, none, or lengths such as 24h, 7d")] = "auto"
    learn: LearnSettings = LearnSettings()
    model: ModelSettings = ModelSettings()
    # No part of the model: what one device has learned, another goes on with.
    device: Annotated[
        str,
        BeforeValidator(lower),
        Field(pattern=r"^(auto|cpu|cuda(:(0|[1-9][0-9]?))?)$"),
        Hint("auto, cpu, cuda, or cuda:1 for the second of several"),
    ] = "auto"
    # By pattern, by the names in `groups.OVERRIDES`; checked by `groups.read_groups`.
    groups: Annotated[
        dict[str, dict[str, Any]],
        Hint('a table [groups."boiler-*"] with lines such as hidden = 32, or JSON: {"boiler-*": {"hidden": 32}}'),
    ] = {}
    max_series: Annotated[Count, Field(ge=1, lt=2**31), Hint("a number of series, such as 1000000")] = 1_000_000
    series: SeriesSettings = SeriesSettings()
    forecasts: ForecastsSettings = ForecastsSettings()
    dead: DeadSettings = DeadSettings()
    latest: Annotated[bool, Hint("true or false")] = True
    lease: LeaseSettings = LeaseSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    metrics: MetricsSettings = MetricsSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  pydantic passes it
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `settings_load` hands over: pydantic's own sources ignore unknown names and forget origins."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of the catalogue.

    Attributes:
        name: dotted.
        hint: what to write.
        is_secret: whether nobody may see its value.
        kind: its type, to which `metadata` adds bounds and ways of writing.
        metadata: as in `Annotated`.
    """

    name: str
    hint: str
    is_secret: bool
    kind: Any
    metadata: tuple[Any, ...]

    @property
    def is_table(self) -> bool:
        """Whether its value is a table whose keys are the user's own."""
        return get_origin(self.kind) is dict

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return variable_of(self.name)


def variable_of(name: str) -> str:
    """`redis.url` is FORETICK_REDIS__URL in the environment."""
    return "FORETICK_" + name.upper().replace(".", "__")


def catalogue(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Setting]:
    """Every setting by its dotted name, in the order of the classes above."""
    found: dict[str, Setting] = {}
    for key, info in model.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= catalogue(kind, f"{prefix}{key}.")
            continue
        hint = next((item.text for item in info.metadata if isinstance(item, Hint)), "")
        is_secret = SecretStr in (kind, *get_args(kind))
        found[prefix + key] = Setting(prefix + key, hint, is_secret, kind, tuple(info.metadata))
    return found


def value_of(settings: Settings, name: str) -> Any:
    """The value under a dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
