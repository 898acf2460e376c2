"""Settings in, a daemon out: the only place that knows which part is connected to which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretick.app.answers import Limits
from foretick.app.commits import Committer
from foretick.app.learning import LeaseKeeper, ObservedTrainer
from foretick.app.partition import Partition
from foretick.app.patience import LONGEST_WAIT_SECONDS, Patience
from foretick.app.recipes import recipe_of
from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer
from foretick.errors import UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.leases import Lease, owner_id
from foretick.ports.positions import StreamKeys
from foretick.ports.streams import Exchange
from foretick.ports.wire import FieldNames, lease_key, partition_of

if TYPE_CHECKING:
    from foretick.app.answers import ForecastEngine
    from foretick.app.patience import StopSignal
    from foretick.app.settings import Settings
    from foretick.core.learner import Trainer
    from foretick.ports.endpoints import Health
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.trainer import TrainerProcess

BLOCK_MAX_SECONDS = 1.0  # a stop is noticed within it
SILENCE_SECONDS = 2.0  # beyond BLOCK: with it, three waits of a stop on a dead server stay under 5 s


def make_partition(
    settings: Settings,
    url: str,
    stop: StopSignal,
    telemetry: Telemetry,
    health: Health,
    process: TrainerProcess | None = None,
) -> tuple[RedisConnection, Partition]:
    """The one partition of this daemon, and its connection; learning happens in the process, or inline without one."""
    stream, prefix = _only_stream(settings), settings.prefix.encode()
    partition = partition_of(stream)
    keys = StreamKeys.of(stream, prefix, partition)
    block_seconds = min(BLOCK_MAX_SECONDS, settings.lease.ttl / 3)
    password = settings.redis.password
    connection = RedisConnection(
        url,
        timeout_seconds=block_seconds + SILENCE_SECONDS,
        password=None if password is None else password.get_secret_value(),
    )
    lease = Lease(lease_key(prefix, partition), owner_id(), int(settings.lease.ttl * 1000), (keys.forecasts, keys.dead))
    patience = Patience(stop, health, min(LONGEST_WAIT_SECONDS, settings.lease.ttl / 3))
    committer = Committer(Exchange(connection, lease), patience, telemetry)
    keeper = LeaseKeeper(committer, health)

    def make_engine() -> ForecastEngine:
        recipe = recipe_of(settings)
        network = Engine.shape_of(recipe), recipe.learn
        trainer: Trainer = process.seat(*network, keeper.keep) if process else InlineTrainer(*network)
        return Engine(recipe, ObservedTrainer(trainer, telemetry))

    return connection, Partition(
        partition.decode(errors="backslashreplace"),
        committer,
        [keys],
        make_engine,
        start=settings.start,
        fields=fields_of(settings),
        limits=limits_of(settings, block_seconds),
        telemetry=telemetry,
        health=health,
    )


def fields_of(settings: Settings) -> FieldNames:
    """What producers call the fields of a tick."""
    fields = settings.fields
    return FieldNames(series=fields.series, value=fields.value, ts=fields.ts, ts_unit=fields.ts_unit)


def limits_of(settings: Settings, block_seconds: float) -> Limits:
    """The bounds of a turn."""
    return Limits(
        count=settings.batch,
        block_ms=int(block_seconds * 1000),
        forecasts_maxlen=settings.forecasts.maxlen,
        dead_maxlen=settings.dead.maxlen,
        latest=settings.latest,
    )


def _only_stream(settings: Settings) -> bytes:
    if len(settings.streams) != 1:
        raise UsageError(f"streams: one stream for now, not {len(settings.streams)}: {', '.join(settings.streams)}")
    return settings.streams[0].encode()
