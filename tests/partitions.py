"""A partition's loop in a thread of the test, with an engine whose every answer depends on all it has seen."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.app.answers import Limits
from foretick.app.commits import Committer
from foretick.app.garbage import GarbageRounds
from foretick.app.partition import Partition
from foretick.app.patience import Patience, StopSignal
from foretick.core.records import Forecasts, Ticks
from foretick.ports.connection import RedisConnection
from foretick.ports.endpoints import Health
from foretick.ports.leases import Lease, owner_id
from foretick.ports.positions import StreamKeys
from foretick.ports.streams import Exchange
from foretick.ports.telemetry import Telemetry
from foretick.ports.wire import FieldNames, decode, lease_key, partition_of
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from foretick.core.scores import GroupScores, SeriesStates
    from servers import Server


class Memory:
    """An engine that forgets nothing: a tick lost, doubled or out of order changes all that follow in its series."""

    def __init__(self) -> None:
        self.state: dict[bytes, float] = {}

    def advance(self, ticks: Ticks) -> Forecasts:
        answer = Forecasts.empty(len(ticks))
        for i, (series, y) in enumerate(zip(ticks.series, ticks.y.tolist(), strict=True)):
            self.state[series] = np.float64(self.state.get(series, 0.0)) * 0.9 + y
            answer.yhat[i] = self.state[series]
        return answer

    def scores(self) -> list[GroupScores]:
        return []

    def series(self) -> list[SeriesStates]:
        return []

    def weights(self, name: bytes) -> dict[str, float]:
        return {"memory": 1.0} if name in self.state else {}


class Loop:
    """One owner, or candidate, of the partition of the streams; of `ticks` if none is named."""

    def __init__(
        self, url: str, *streams: str, ttl_seconds: float = 10.0, start: Any = "earliest", **limits: Any
    ) -> None:
        streams = streams or ("ticks",)
        partition = partition_of(streams[0].encode())
        keys = [StreamKeys.of(stream.encode(), b"foretick", partition) for stream in streams]
        self.stop_signal = StopSignal()
        self.telemetry = Telemetry()
        self.health = Health()
        self.engines: list[Memory] = []
        block_ms = int(min(0.2, ttl_seconds / 3) * 1000)  # so short that a test's end need not wait for it
        self.connection = RedisConnection(url, timeout_seconds=block_ms / 1000 + 2)
        self.lease = Lease(lease_key(b"foretick", partition), owner_id(), int(ttl_seconds * 1000), keys[0].origins)
        patience = Patience(self.stop_signal, self.health, 0.3)
        self.partition = Partition(
            partition.decode(),
            Committer(Exchange(self.connection, self.lease), patience, self.telemetry),
            keys,
            self._make_engine,
            start=start,
            fields=FieldNames(),
            limits=Limits(block_ms=block_ms, **limits),
            telemetry=self.telemetry,
            health=self.health,
            garbage=GarbageRounds(),
        )
        self.engine: Callable[[Memory, Ticks], Forecasts] | None = None  # in the place of `Memory.advance`
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _make_engine(self) -> Memory:
        made = Memory()
        if self.engine is not None:
            made.advance = partial(self.engine, made)
        self.engines.append(made)
        return made

    def _run(self) -> None:
        try:
            self.partition.run()
        except BaseException as error:  # noqa: BLE001  told by `stop`, in the test's thread
            self.error = error

    def start(self, *, ready: bool = True) -> Loop:
        self._thread.start()
        if ready:
            wait_until(lambda: self.is_ready() or self.error, what="the loop's readiness")
            assert self.error is None, self.error
        return self

    def is_ready(self) -> bool:
        return self.condition("state") and self.condition("lease")

    def condition(self, name: str) -> bool:
        """Whether a condition of readiness is fulfilled; not before it was told."""
        return any(found == name and ok for found, ok, *_ in _checks(self.health))

    def detail(self, name: str) -> str:
        return next((detail for found, _, detail in _checks(self.health) if found == name), "")

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"foretick_{name}", labels) or 0.0

    def stop(self) -> None:
        """Stop it as a signal would; an error that ended it is raised here."""
        self.stop_signal.set()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the loop does not stop"
        self.stop_signal.close()
        if self.error is not None:
            raise self.error

    def crash(self) -> None:
        """Cut it off as SIGKILL would: nothing is finished, nothing released."""
        self.partition._leave = self.connection.close
        self.partition._committer.patience.stop.set()
        self._thread.join(10)
        self.stop_signal.close()


def _checks(health: Health) -> list[tuple[str, bool, str]]:
    return [(name, *state) for name, state in health.checks().items()]


def push(client: redis.Redis, n: int, stream: str = "ticks", series: int = 3) -> list[bytes]:
    """n ticks of a few series; their ids."""
    pipe = client.pipeline(transaction=False)
    for i in range(n):
        pipe.xadd(stream, {"series": f"s{i % series}", "value": (i * 7919) % 1000 / 8})
    return pipe.execute()


def forecasts(client: redis.Redis, stream: str = "ticks") -> list[tuple[bytes, float]]:
    """Entry id and forecast of all that was published, streams set aside included, in the order of the ids."""
    found = []
    for key in client.scan_iter(f"foretick:{{{stream}}}:forecasts*", count=1000):
        if client.type(key) == b"stream":
            found += [(i, float(fields[b"yhat"])) for i, fields in client.xrange(key) if b"yhat" in fields]
    return sorted(found, key=lambda pair: tuple(map(int, pair[0].split(b"-"))))


def expected(client: redis.Redis, stream: str = "ticks") -> list[tuple[bytes, float]]:
    """What a daemon that was never disturbed would have published."""
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange(stream)]
    decoded = decode(entries, stream.encode())
    return list(zip(decoded.ids, Memory().advance(decoded.ticks).yhat.tolist(), strict=True))


def wait_answered(client: redis.Redis, n: int, stream: str = "ticks", deadline_seconds: float = 20.0) -> None:
    """Until n forecasts stand."""
    wait_until(lambda: len(forecasts(client, stream)) >= n, deadline_seconds, f"{n} forecasts")


def assert_exactly_once(client: redis.Redis, stream: str = "ticks") -> None:
    """Every tick has one forecast, under its id, equal to that of an undisturbed run."""
    assert forecasts(client, stream) == expected(client, stream)


def position(client: redis.Redis, stream: str = "ticks") -> tuple[bytes, int | None, int | None]:
    """Committed position, entries read and lag, as everybody else sees them."""
    group = client.xinfo_groups(stream)[0]
    return group["last-delivered-id"], group["entries-read"], group["lag"]


def run_loop(server: Server, **options: Any) -> Loop:
    return Loop(server.url, **options).start()
