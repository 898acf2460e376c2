"""Redis Cluster and Sentinel, in short: streams over all nodes, a slot that moves, a master that dies."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from deployed import Cluster, Sentinels, discarded
from foretick.app.discovery import Discovery
from foretick.errors import ConnectionLost, UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.route import Route
from foretick.ports.slots import slot_of
from foretick.ports.spreading import SpreadProducer, partition_number, partition_streams
from foretick.ports.switchboard import Switchboard
from foretick.ports.wire import FieldNames, forecasts_key
from forked import ForkedDaemon
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server

pytestmark = pytest.mark.redis
PARTITIONS = 6
STREAMS = partition_streams("ticks", PARTITIONS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with discarded(Cluster(masters=3)) as made:
        yield made


def answers(client: Any, stream: str) -> list[bytes]:
    return [entry_id for entry_id, _ in client.xrange(forecasts_key(b"foretick", stream.encode()).decode())]


def is_answered(client: Any) -> bool:
    return all(client.xlen(stream) == len(answers(client, stream)) for stream in STREAMS)


def test_streams_are_spread_over_the_nodes_and_a_slot_that_moves_takes_its_partition_along(cluster: Cluster) -> None:
    series = [f"s{i}" for i in range(40)]
    owners = {cluster.owner_of(stream).port for stream in STREAMS}
    assert len(owners) >= 2, "the six slots lie on several nodes; another test has moved one"
    daemon = ForkedDaemon(cluster.url, {"foretick.app.discovery.RESCAN_SECONDS": 0.5}, lease__ttl="3s")
    with (
        contextlib.closing(cluster.client()) as client,
        SpreadProducer(Route(cluster.url), "ticks", PARTITIONS, fields=FieldNames()) as producer,
    ):
        client.xadd("ticks:plain", {"value": 1})
        producer.push_all([(name.encode(), 1.0, None) for name in series])
        try:
            daemon.start()
            wait_until(lambda: is_answered(client), 30, "the first answers")
            moved = cluster.owner_of(STREAMS[0])
            cluster.move(STREAMS[0], next(node for node in cluster.masters if node is not moved))
            with contextlib.suppress(ConnectionLost):
                producer.push_all([(name.encode(), 2.0, None) for name in series if _number(name) != 0])
            client.xadd(STREAMS[0], {"series": "s", "value": 2})
            wait_until(lambda: is_answered(client), 30, "the answers after the move")
            for stream in STREAMS:
                assert answers(client, stream) == [entry_id for entry_id, _ in client.xrange(stream)]
            _, text = daemon.get("/readyz?verbose")
            assert "ticks:plain refused: on a Redis Cluster a stream needs a {tag}: call it {site}:ticks:plain" in text
            assert "foretick_position_regressions_total 0.0" in daemon.get("/metrics")[1]
            assert f"foretick_leases_held {PARTITIONS}.0" in daemon.get("/metrics")[1]
            assert daemon.terminate(20) == 0
        finally:
            daemon.discard()


def _number(series: str) -> int:
    return partition_number(series.encode(), PARTITIONS)


def test_one_object_reaches_keys_on_every_node_and_finds_them_again(cluster: Cluster) -> None:
    keys = [f"{{{i}}}:x".encode() for i in range(9)]
    assert len({cluster.owner_of(key.decode()).port for key in keys}) == 3
    switchboard = Switchboard(cluster.url, timeout_seconds=5)
    with contextlib.closing(switchboard):
        switchboard.open()
        assert len(switchboard.lines) == 3
        switchboard.call_all([(b"SET", key, key) for key in keys])
        assert switchboard.call_all([(b"GET", key) for key in keys]) == keys
        source = cluster.owner_of("{3}:x")
        cluster.move("{3}:x", next(node for node in cluster.masters if node is not source))
        switchboard.call_all([(b"GET", keys[3])])
        assert not switchboard.is_open, "MOVED: look again"
        switchboard.open()
        assert switchboard.call_all([(b"GET", key) for key in keys]) == keys


def test_streams_without_tags_end_a_start_and_are_refused_in_a_running_daemon(cluster: Cluster) -> None:
    with contextlib.closing(Switchboard(cluster.url, timeout_seconds=5)) as switchboard:
        switchboard.open()
        with pytest.raises(UsageError, match=r"give ticks a \{tag\}"):
            Discovery(["ticks"], b"foretick").pursue(switchboard)
        discovery = Discovery(["{site}:ticks"], b"foretick")
        discovery.pursue(switchboard)
        discovery.change(["ticks"])  # as a reload does
        discovery.pursue(switchboard)
        assert discovery.catalogue is not None
        assert not discovery.catalogue.partitions
        assert "call it {site}:ticks" in discovery.catalogue.refused[b"ticks"]


def test_several_servers_that_are_no_cluster_are_a_mistake(redis_server: Server) -> None:
    url = f"redis://127.0.0.1:{redis_server.port},127.0.0.1:{redis_server.port}"
    with pytest.raises(UsageError, match=r"is no node of a cluster: name one server, or write redis\+sentinel"):
        RedisConnection(url, timeout_seconds=5).open()


def test_slots_and_partitions_are_those_of_everybody_else(cluster: Cluster) -> None:
    for key in ("ticks", "ticks:{0}", "{a}b{c}", "{}x", "é{ü}", "foretick:{ticks:{7}:forecasts"):
        assert slot_of(key.encode()) == Cluster.ask(cluster.nodes[0], "KEYSLOT", key)
    # From Go's hash/crc32 and Node's zlib: docs/scaling.md.
    assert [partition_number(name.encode(), 64) for name in ("boiler-7", "pump-1", "Ventil-ä")] == [18, 6, 42]


def test_behind_sentinels_the_next_master_is_found_when_the_first_dies() -> None:
    with discarded(Sentinels()) as sentinels:
        first = sentinels.master()
        daemon = ForkedDaemon(sentinels.url, lease__ttl="3s")
        try:
            first.client().xadd("ticks", {"value": 1})
            daemon.start()
            wait_until(lambda: first.client().xlen("foretick:{ticks}:forecasts") == 1, 20, "an answer")
            first.stop(signal.SIGKILL)
            second = wait_until(lambda: sentinels.master() is not first and sentinels.master(), 20, "a failover")
            client = second.client()
            wait_until(lambda: client.role()[0] == b"master", 20, "the new master")
            client.xadd("ticks", {"value": 2})
            wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 2, 20, "the second answer")
            assert daemon.terminate(20) == 0
        finally:
            daemon.discard()
