"""Settings in, a daemon out: the only place that knows which part is connected to which."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from foretick.app.access import route_of
from foretick.app.answers import Limits
from foretick.app.commits import Committer
from foretick.app.discovery import Discovery
from foretick.app.garbage import GarbageRounds
from foretick.app.groups import features_of, groups_of, settings_of
from foretick.app.initial import initial_of
from foretick.app.keeping import Keeping
from foretick.app.learning import LeaseKeeper, ObservedTrainer
from foretick.app.live_page import LivePage
from foretick.app.ownership import Ownership
from foretick.app.partition import Partition
from foretick.app.patience import LONGEST_WAIT_SECONDS, Patience
from foretick.app.recipes import engine_of
from foretick.core.learner import InlineTrainer
from foretick.ports.checkpoints import FolderStore, RedisStore
from foretick.ports.connection import RedisConnection
from foretick.ports.history import History
from foretick.ports.leases import Lease, owner_id
from foretick.ports.registry import Registry
from foretick.ports.streams import Exchange
from foretick.ports.switchboard import Switchboard
from foretick.ports.wire import FieldNames, checkpoint_key, lease_key, members_key, origin_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.app.answers import ForecastEngine
    from foretick.app.live import Live
    from foretick.app.patience import StopSignal
    from foretick.app.reload import Reload
    from foretick.app.settings import Settings
    from foretick.core.learner import Knowledge, Trainer
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe
    from foretick.ports.checkpoints import CheckpointStore
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys
    from foretick.ports.route import Route
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.trainer import TrainerProcess

BLOCK_MAX_SECONDS = 1.0  # a stop is noticed within it
STORE_SILENCE_SECONDS = 5.0  # of Redis while it takes a megabyte, beside the loop
SILENCE_SECONDS = 2.0  # beyond BLOCK: with it, three waits of a stop on a dead server stay under 5 s


def make_ownership(
    settings: Settings,
    devices: Mapping[str, str],
    url: str,
    stop: StopSignal,
    telemetry: Telemetry,
    health: Health,
    process: TrainerProcess | None = None,
    discard_before_ms: int | None = None,
    live: Live | None = None,
    reload: Reload | None = None,
) -> tuple[RedisConnection, Ownership]:
    """What owns partitions and forecasts them, and its own connection.

    `devices` are torch's names of the groups' own. Learning happens in the process, or inline. State that was saved
    before `discard_before_ms` (milliseconds since the epoch, UTC) is not used.
    """
    owner, prefix = owner_id(), settings.prefix.encode()
    garbage = GarbageRounds()
    initial = initial_of(settings)  # read once: whatever becomes of the file, every partition begins alike
    route = route_of(settings.redis, url)
    connection = Switchboard(route, timeout_seconds=SILENCE_SECONDS)
    limits = limits_of(settings, _block_seconds(settings))
    registry = Registry(members_key(prefix), owner, _ttl_ms(settings), _interest(settings))
    discovery = Discovery(settings.streams, prefix)

    def take_up(wanted: Settings) -> None:
        limits.count = wanted.batch
        limits.forecasts_maxlen, limits.dead_maxlen = wanted.forecasts.maxlen, wanted.dead.maxlen
        discovery.change(wanted.streams)
        registry.change(_interest(wanted))

    def make(partition: bytes, streams: tuple[StreamKeys, ...], stop: StopSignal, health: Health) -> Partition:
        return _partition(
            settings,
            devices,
            route,
            partition,
            streams,
            owner,
            stop,
            initial,
            limits,
            telemetry=telemetry,
            health=health,
            garbage=garbage,
            process=process,
            discard_before_ms=discard_before_ms,
            live=live,
        )

    if reload is not None:
        reload.each_time(take_up)
    return connection, Ownership(
        connection,
        registry,
        discovery,
        make,
        owner=owner,
        prefix=prefix,
        ttl_seconds=settings.lease.ttl,
        stop=stop,
        health=health,
        each_turn=reload.if_asked if reload is not None else lambda: None,
    )


def _partition(
    settings: Settings,
    devices: Mapping[str, str],
    route: Route,
    partition: bytes,
    streams: tuple[StreamKeys, ...],
    owner: str,
    stop: StopSignal,
    initial: Mapping[str, Knowledge],
    limits: Limits,
    *,
    telemetry: Telemetry,
    health: Health,
    garbage: GarbageRounds,
    process: TrainerProcess | None,
    discard_before_ms: int | None,
    live: Live | None,
) -> Partition:
    """One partition, with a connection, a lease and a way of waiting of its own."""
    prefix = settings.prefix.encode()
    lease = Lease(lease_key(prefix, partition), owner, _ttl_ms(settings), origin_key(prefix, partition))
    patience = Patience(stop, health, min(LONGEST_WAIT_SECONDS, settings.lease.ttl / 3))
    exchange = Exchange(_connection(route, _block_seconds(settings) + SILENCE_SECONDS, partition), lease)
    committer = Committer(exchange, patience, telemetry)
    keeper = LeaseKeeper(committer, health)

    def make_trainer(shape: Shape, learn: LearnRecipe, device: str) -> Trainer:
        if process is None:
            return ObservedTrainer(InlineTrainer(shape, learn, device), telemetry)
        return ObservedTrainer(process.seat(shape, learn, keeper.keep, device), telemetry)

    def make_engine() -> ForecastEngine:
        return engine_of(settings, devices, make_trainer, initial)

    return Partition(
        partition.decode(errors="backslashreplace"),
        committer,
        streams,
        make_engine,
        start=settings.start,
        fields=fields_of(settings),
        limits=limits,
        telemetry=telemetry,
        health=health,
        garbage=garbage,
        keeping=_keeping(settings, route, partition, committer, telemetry, discard_before_ms),
        live=live,
    )


def make_page(settings: Settings, url: str, telemetry: Telemetry, health: Health) -> LivePage:
    """The page for people, which looks at Redis through connections of its own."""
    route = route_of(settings.redis, url)
    history = History(lambda key: _connection(route, SILENCE_SECONDS, key), settings.prefix.encode())
    return LivePage(settings.http.host, telemetry, health, history)


def _keeping(
    settings: Settings,
    route: Route,
    partition: bytes,
    committer: Committer,
    telemetry: Telemetry,
    discard_before_ms: int | None,
) -> Keeping | None:
    """What keeps the partition's state, if it is to be kept."""
    prefix, checkpoint = settings.prefix.encode(), settings.checkpoint
    if not checkpoint.every:
        return None
    base = checkpoint_key(prefix, partition)

    def make_store() -> CheckpointStore:
        if isinstance(checkpoint.store, Path):
            return FolderStore(checkpoint.store, prefix, partition)
        return RedisStore(_connection(route, STORE_SILENCE_SECONDS, partition), base, checkpoint.redis_max)

    return Keeping(
        partition.decode(errors="backslashreplace"),
        base,
        make_store,
        committer,
        every_seconds=checkpoint.every,
        telemetry=telemetry,
        discard_before_ms=discard_before_ms,
    )


def _connection(route: Route, timeout_seconds: float, key: bytes) -> RedisConnection:
    return RedisConnection(route, timeout_seconds=timeout_seconds, key=key)


def _interest(settings: Settings) -> str:
    """What all daemons with the same streams in their settings have in common."""
    return hashlib.blake2b("\0".join(sorted(settings.streams)).encode(), digest_size=8).hexdigest()


def _block_seconds(settings: Settings) -> float:
    return min(BLOCK_MAX_SECONDS, settings.lease.ttl / 3)


def _ttl_ms(settings: Settings) -> int:
    return int(settings.lease.ttl * 1000)


def fields_of(settings: Settings) -> FieldNames:
    """What producers call the fields of a tick."""
    fields, features = settings.fields, features_of(settings)
    first, *more = (fields.value if name == "value" else name for name in features)
    own = [set(settings_of(settings, group).features) for group in groups_of(settings)]
    return FieldNames(
        series=fields.series,
        value=first,
        ts=fields.ts,
        ts_unit=fields.ts_unit,
        more=tuple(more),
        partial=any(names != set(features) for names in own),
    )


def limits_of(settings: Settings, block_seconds: float) -> Limits:
    """The bounds of a turn."""
    return Limits(
        count=settings.batch,
        block_ms=int(block_seconds * 1000),
        forecasts_maxlen=settings.forecasts.maxlen,
        dead_maxlen=settings.dead.maxlen,
        latest=settings.latest,
    )
