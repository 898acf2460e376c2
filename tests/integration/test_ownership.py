"""Several daemons on one Redis: they share the partitions, take over from the dead, and hand over in good order."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from foretick.ports.leases import owner_of
from foretick.ports.wire import forecasts_key
from forked import ForkedDaemon
from servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = pytest.mark.redis
SITES = [f"{{site{i}}}:ticks" for i in range(6)]
TTL_SECONDS = 3.0


@pytest.fixture
def start() -> Iterator[Callable[..., ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def begin(url: str, *, ready: bool = True, **settings: Any) -> ForkedDaemon:
        settings = {"streams": "{*}:ticks", "lease__ttl": f"{TTL_SECONDS:g}s", **settings}
        made.append(ForkedDaemon(url, {"foretick.app.discovery.RESCAN_SECONDS": 0.5}, **settings))
        return made[-1].start(ready=ready)

    yield begin
    for one in made:
        one.discard()


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    return redis_server.client()


def push(client: redis.Redis, n: int = 1, streams: list[str] = SITES) -> None:
    pipe = client.pipeline(transaction=False)
    for value in range(n):
        for stream in streams:
            pipe.xadd(stream, {"series": f"s{value % 3}", "value": value})
    pipe.execute()


def owners(client: redis.Redis, streams: list[str] = SITES) -> dict[str, str]:
    """Owner by stream, of those that are owned."""
    found = {}
    for stream in streams:
        tag = re.search(r"\{(.*)\}", stream)
        token = client.get(f"foretick:{{{tag[1] if tag else 'default'}}}:lease")
        if token:
            found[stream] = owner_of(token)
    return found


def shares(client: redis.Redis) -> list[int]:
    """How many partitions each owner has, the most first."""
    held = list(owners(client).values())
    return sorted((held.count(owner) for owner in set(held)), reverse=True)


def owned_by(client: redis.Redis, daemon: ForkedDaemon) -> set[str]:
    return {stream for stream, owner in owners(client).items() if f"-{daemon.pid}-" in owner}


def is_answered(client: redis.Redis, streams: list[str] = SITES) -> bool:
    return all(client.xlen(stream) == client.xlen(forecasts_key(b"foretick", stream.encode())) for stream in streams)


def assert_answered_once(client: redis.Redis, streams: list[str] = SITES) -> None:
    wait_until(lambda: is_answered(client, streams), 30, "all answers")
    for stream in streams:
        ids = [entry_id for entry_id, _ in client.xrange(stream)]
        assert [entry_id for entry_id, _ in client.xrange(forecasts_key(b"foretick", stream.encode()))] == ids
    assert client.keys("*aside*") == []


def test_daemons_share_the_partitions_whoever_comes_dies_or_leaves(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    push(client)
    first = start(redis_server.url)
    wait_until(lambda: shares(client) == [6])
    assert "foretick_leases_held 6.0" in first.get("/metrics")[1]
    begun = time.monotonic()
    second = start(redis_server.url)
    third = start(redis_server.url)
    wait_until(lambda: shares(client) == [2, 2, 2], what="even shares")
    print(f"even after {time.monotonic() - begun:.2f} s")
    push(client, 10)
    assert_answered_once(client)

    orphans = owned_by(client, second)
    second.kill()
    begun = time.monotonic()
    push(client)
    wait_until(lambda: shares(client) == [3, 3], what="a takeover")
    taken_seconds = time.monotonic() - begun
    print(f"taken over after {taken_seconds:.2f} s")
    assert len(orphans) == 2
    assert taken_seconds < TTL_SECONDS + 1 + 2  # two for a machine that is busy with other tests
    assert_answered_once(client)

    push(client, 10)
    begun = time.monotonic()
    assert first.terminate(10) == 0
    wait_until(lambda: shares(client) == [6], what="a handover")
    assert time.monotonic() - begun < TTL_SECONDS  # nobody waited for a lease to expire
    push(client)
    assert_answered_once(client)
    status, text = third.get("/readyz?verbose")
    assert status == 200
    assert all(f"[+]site{i}/lease ok" in text for i in range(6))
    assert third.terminate(10) == 0
    assert client.keys("*:lease") == []
    assert client.exists("foretick:members") == 0


def test_a_daemon_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    push(client)
    first = start(redis_server.url, lease__ttl="1s")
    second = start(redis_server.url, lease__ttl="1s")
    wait_until(lambda: shares(client) == [3, 3])
    mine = owned_by(client, first)
    push(client, 50)
    first.signal(signal.SIGSTOP)
    push(client, 50)
    wait_until(lambda: owned_by(client, second) >= mine, what="a takeover")
    wait_until(lambda: is_answered(client), 30)
    before = {stream: client.xrange(forecasts_key(b"foretick", stream.encode())) for stream in SITES}
    first.signal(signal.SIGCONT)
    wait_until(lambda: shares(client) == [3, 3], 20, "even shares again")
    after = {stream: client.xrange(forecasts_key(b"foretick", stream.encode())) for stream in SITES}
    assert after == before
    push(client, 5)
    assert_answered_once(client)
    assert "partition_given_up" in first.output() or "lease_lost" in first.output()


def test_a_daemon_too_many_stands_by_and_says_so(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    first = start(redis_server.url, streams="ticks")
    standby = start(redis_server.url, streams="ticks", ready=False)
    wait_until(lambda: "all are owned by others (2 daemons)" in standby.get("/readyz")[1])
    assert standby.get("/readyz")[0] == 503
    assert standby.get("/livez")[0] == 200
    assert first.terminate(10) == 0
    standby.wait_ready(20)


def test_streams_are_found_forgotten_and_found_again_while_it_runs(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    daemon = start(redis_server.url, streams="ticks:*,{*}:ticks")
    assert "no stream matches yet" in daemon.get("/readyz?verbose")[1]
    streams = ["ticks:a", "ticks:b", SITES[0]]
    push(client, 5, streams)
    assert_answered_once(client, streams)
    assert sorted(owners(client, streams)) == sorted(streams)
    client.delete(SITES[0])
    wait_until(lambda: owners(client, [SITES[0]]) == {}, what="the release of a partition without streams")
    assert client.exists(SITES[0]) == 0
    push(client, 5, [SITES[0]])
    wait_until(lambda: client.xlen(forecasts_key(b"foretick", SITES[0].encode())) == 10, what="the second five")
    push(client, 2, streams)
    wait_until(lambda: client.xlen(forecasts_key(b"foretick", b"ticks:a")) == 7)
    wait_until(lambda: 'foretick_ticks_total{stream="ticks:a"} 7.0' in daemon.get("/metrics")[1])
    assert "foretick_leases_held 2.0" in daemon.get("/metrics")[1]


def test_daemons_with_different_streams_do_not_share(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    first = start(redis_server.url, streams=SITES[0])
    second = start(redis_server.url, streams=SITES[1])
    assert owned_by(client, first) == {SITES[0]}
    assert owned_by(client, second) == {SITES[1]}


def test_what_cannot_be_input_is_refused_by_name_and_the_rest_is_read(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    for stream in ("a", "{a}", "{default}:a"):
        client.xadd(stream, {"temperature": "3", "sensor": "x", "at": "1700000000"})
    names = {"fields__series": "sensor", "fields__value": "temperature", "fields__ts": "at", "fields__ts_unit": "s"}
    daemon = start(redis_server.url, streams="*", prefix="own", **names)
    wait_until(lambda: client.xlen("own:{a}:forecasts") == 1)
    _, fields = client.xrange("own:{a}:forecasts")[0]
    assert (fields[b"series"], fields[b"ts"], fields[b"y"]) == (b"x", b"1700000000000", b"3.0")
    status, text = daemon.get("/readyz?verbose")
    assert status == 200
    assert "{a} refused: its forecasts would have the same keys as those of a" in text
    assert "{default}:a refused: the tag {default}" in text
    assert daemon.output().count("stream_refused") == 2
    client.set("named", 1)
    other = start(redis_server.url, streams="named", prefix="other", ready=False)
    wait_until(lambda: "named refused: it is a string, no stream" in other.get("/readyz")[1])
    assert other.get("/readyz")[0] == 503


def test_an_error_in_one_partition_leaves_the_others_alone(
    redis_server: Server, client: redis.Redis, start: Callable[..., ForkedDaemon]
) -> None:
    push(client)
    client.acl_setuser("weak", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"])
    daemon = start(redis_server.url.replace("//", "//weak:pw@"))
    assert_answered_once(client)
    client.execute_command(
        "ACL",
        "SETUSER",
        "weak",
        "resetkeys",
        "~{*",
        "~foretick:members",
        "%R~foretick:{site0}*",
        *(f"~foretick:{{site{i}}}*" for i in range(1, 6)),
    )
    push(client)
    wait_until(lambda: "[-]site0/partition: " in daemon.get("/readyz")[1])
    assert_answered_once(client, SITES[1:])
    assert client.xlen(forecasts_key(b"foretick", SITES[0].encode())) == 1
    assert daemon.get("/livez")[0] == 200


def test_on_a_cluster_streams_without_a_tag_are_refused_with_the_way_out(
    private_server: Callable[..., Server], start: Callable[..., ForkedDaemon]
) -> None:
    server = private_server("redis", cluster_enabled="yes", cluster_port=str(free_port()))
    client = server.client()
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
    push(client, 2)
    start(server.url)
    assert_answered_once(client)
    daemon = start(server.url, streams="ticks", ready=False)
    assert daemon.wait() == 2
    assert "give ticks a {tag}" in daemon.output()
