"""Many daemons on a Redis Cluster under load: replicas come and go, a master dies, slots move. `make redis-test`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis

from deployed import Cluster, discarded
from foretick.app import backtest
from foretick.app.settings import Settings
from foretick.errors import ForetickError
from foretick.ports.leases import owner_of
from foretick.ports.route import Route
from foretick.ports.spreading import SpreadProducer, partition_streams
from foretick.ports.wire import FieldNames, forecasts_key
from forked import ForkedDaemon
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
PARTITIONS = int(os.environ.get("FORETICK_TEST_PARTITIONS", "64"))
LOAD_SECONDS = 4.0  # of every state of the fleet
SETTINGS: dict[str, Any] = {
    "profile": "lean",
    "learn__enabled": True,
    "learn__every": 4,
    "model__hidden": 8,
    "lease__ttl": "15s",  # all of it shares two cores
    "checkpoint__every": "2s",
}


class Load:
    """Ticks of many series over all partitions, without a pause, until told to stop; sent again where it is unsure."""

    def __init__(self, cluster: Cluster, partitions: int, series: int, pause_seconds: float) -> None:
        self.rounds = 0
        self._producer = SpreadProducer(Route(cluster.url), "ticks", partitions, fields=FieldNames())
        self._series = [f"s{i}".encode() for i in range(series)]
        self._pause_seconds = pause_seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._producer.close()

    def _run(self) -> None:
        while not self._end.wait(self._pause_seconds):
            ticks = [(name, (i * 7 + self.rounds * 3) % 11 + i / 7, None) for i, name in enumerate(self._series)]
            while not self._end.is_set():
                try:
                    self._producer.open()
                    self._producer.push_all(ticks)
                except ForetickError:
                    self._end.wait(0.1)
                else:
                    break
            self.rounds += 1


@pytest.fixture
def daemons() -> Iterator[list[ForkedDaemon]]:
    made: list[ForkedDaemon] = []
    yield made
    for one in made:
        one.discard()


def begin(cluster: Cluster, daemons: list[ForkedDaemon], **changed: Any) -> ForkedDaemon:
    constants = {"foretick.app.discovery.RESCAN_SECONDS": 0.5}
    daemons.append(ForkedDaemon(cluster.url, constants, **{**SETTINGS, **changed}))
    return daemons[-1].start(ready=False)


def shares(client: Any, partitions: int) -> list[int]:
    """How many partitions each owner has, the most first."""
    tokens = [client.get(f"foretick:{{{number}}}:lease") for number in range(partitions)]
    held = [owner_of(token) for token in tokens if token]
    return sorted((held.count(owner) for owner in set(held)), reverse=True)


def even_shares(daemons: int) -> list[int]:
    """What `shares` is to be."""
    return [PARTITIONS // daemons + (number < PARTITIONS % daemons) for number in range(daemons)]


def ids(client: Any, key: str) -> list[bytes]:
    return [entry_id for entry_id, _ in client.xrange(key)]


def answered(client: Any, stream: str) -> str:
    return forecasts_key(b"foretick", stream.encode()).decode()


def wait_all_answered(client: Any, streams: list[str]) -> int:
    """Ticks of all streams, each of which has exactly one answer under its id."""
    wait_until(
        lambda: all(client.xlen(stream) == client.xlen(answered(client, stream)) for stream in streams), 120, "answers"
    )
    for stream in streams:
        assert ids(client, answered(client, stream)) == ids(client, stream)
    return sum(client.xlen(stream) for stream in streams)


def differing(cluster: Cluster, stream: str, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """What `foretick backtest --verify` says: the forecasts beside those of one engine that was never moved."""
    options = SimpleNamespace(
        files=[f"{cluster.url}?stream={stream}"],
        burn_in=0,
        by=None,
        json=True,
        plot=None,
        html=None,
        series="worst",
        verify=True,
    )
    settings = Settings(profile="lean", model={"hidden": 8}, learn={"every": 4})
    backtest.run(settings, options)
    found: dict[str, int] = json.loads(capsys.readouterr().out)
    return found


def test_replicas_come_and_go_under_load_and_no_forecast_shows_it(
    daemons: list[ForkedDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    streams = partition_streams("ticks", PARTITIONS)
    told = []
    with discarded(Cluster(masters=3)) as cluster, contextlib.closing(cluster.client()) as client:
        with Load(cluster, PARTITIONS, series=4 * PARTITIONS, pause_seconds=1.0) as load:
            begin(cluster, daemons).wait_ready(60)
            for expected, change in [
                (even_shares(1), None),
                (even_shares(3), lambda: [begin(cluster, daemons) for _ in range(2)]),
                (even_shares(2), lambda: daemons[0].terminate(60)),
            ]:
                begun = time.monotonic()
                if change:
                    change()
                wait_until(lambda expected=expected: shares(client, PARTITIONS) == expected, 90, f"shares {expected}")
                told.append(f"{expected} after {time.monotonic() - begun:.1f} s")
                time.sleep(LOAD_SECONDS)
        ticks = wait_all_answered(client, streams)
        assert [daemon.terminate(60) for daemon in daemons[1:]] == [0, 0]
        found = [differing(cluster, stream, capsys) for stream in streams]
        with capsys.disabled():
            print(f"\n{ticks} ticks in {load.rounds} rounds; {'; '.join(told)}; each output compared bit for bit")
        assert sum(one["compared"] for one in found) == ticks
        assert [(one["differ"], one["missing"], one["foreign"]) for one in found] == [(0, 0, 0)] * PARTITIONS
        assert client.get("foretick:{0}:lease") is None


def test_a_master_dies_under_load_and_what_redis_kept_is_answered_once(
    daemons: list[ForkedDaemon], capsys: pytest.CaptureFixture[str]
) -> None:
    partitions = 6
    streams = partition_streams("ticks", partitions)
    with (
        discarded(Cluster(masters=3, replicas=1)) as cluster,
        Load(cluster, partitions, series=60, pause_seconds=0.1) as load,
    ):
        for _ in range(2):
            begin(cluster, daemons, learn__enabled=False)
        for daemon in daemons:
            daemon.wait_ready(60)
        time.sleep(LOAD_SECONDS)
        victim = cluster.owner_of(streams[0])
        lose_the_last_of_it(cluster, victim)
        begun = time.monotonic()
        wait_until(lambda: _has_new_owner(cluster, streams[0], victim), 30, "the failover")
        failover_seconds = time.monotonic() - begun
        with contextlib.closing(cluster.client()) as client:
            before = load.rounds
            wait_until(lambda: load.rounds > before + 5, 30, "the load on the new master")
            source = cluster.owner_of(streams[1])
            cluster.move(streams[1], next(node for node in cluster.masters if node is not source and node.alive()))
            time.sleep(LOAD_SECONDS)
            load.__exit__()
            ticks = wait_all_answered(client, streams)
            recovered_seconds = time.monotonic() - begun
        assert [daemon.terminate(60) for daemon in daemons] == [0, 0]
        regressions = sum(daemon.output().count("position_regressed") for daemon in daemons)
        bugs = [
            line for daemon in daemons for line in daemon.output().splitlines() if re.search(r'"(bug|error)"', line)
        ]
        with capsys.disabled():
            print(
                f"\n{ticks} ticks; failover {failover_seconds:.1f} s; all answered {recovered_seconds:.1f} s after the "
                f"kill; {regressions} regressions"
            )
        assert regressions >= 1, "answers were lost with the master, and nobody noticed"
        assert [line for line in bugs if "position_regressed" not in line and "set_aside" not in line] == []


def lose_the_last_of_it(cluster: Cluster, master: Server) -> None:
    """The master dies after its replica was cut off for half a second: what both hold differs."""
    replica = cluster.nodes[len(cluster.masters) + cluster.masters.index(master)]
    replica.pause()
    with contextlib.closing(redis.Redis(port=master.port)) as client:
        client.client_kill_filter(_type="replica")
    time.sleep(0.5)
    master.stop(signal.SIGKILL)
    replica.resume()


def _has_new_owner(cluster: Cluster, key: str, victim: Any) -> bool:
    try:
        return cluster.owner_of(key) is not victim
    except (redis.RedisError, StopIteration, AssertionError):
        return False
