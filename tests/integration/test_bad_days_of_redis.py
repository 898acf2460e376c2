"""Redis' bad days, on the real server beside a whole daemon: no tick lost, no second forecast, nothing spins.

Each trouble is told once, `/readyz` says what it is while it lasts, and is well again by itself afterwards.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from forked import ForkedDaemon
from recount import events, is_drained, recount, total
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = pytest.mark.redis

QUICK = {"lease__ttl": "1s", "checkpoint__every": "0.5s"}
OBSERVED_SECONDS = 0.8  # long enough for the waits to have grown to their full length, a third of a second here
COMMANDS_PER_SECOND_MAX = 200  # a wait of 50 ms at first, each try a dozen commands; a loop that spins makes 10,000


@dataclass(frozen=True)
class Trouble:
    """Something that befalls the server, and its end."""

    begin: Callable[[Server, redis.Redis], object]
    end: Callable[[Server, redis.Redis], object]
    word: str  # in what `/readyz` says
    options: dict[str, str]  # of the server


def fail_saving(server: Server, client: redis.Redis) -> None:
    (server.folder / "dump.rdb").mkdir()  # so that the finished file cannot be given its name
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


def save_again(server: Server, client: redis.Redis) -> None:
    (server.folder / "dump.rdb").rmdir()
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")


def replace_input(_: Server, client: redis.Redis) -> None:
    with client.pipeline() as pipe:
        pipe.rename("ticks", "kept").set("ticks", "a string").execute()


def restore_input(_: Server, client: redis.Redis) -> None:
    with client.pipeline() as pipe:
        pipe.delete("ticks").rename("kept", "ticks").execute()


def follow_nobody(_: Server, client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "NO", "ONE")


def follow_the_dead(_: Server, client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")


TROUBLES = {
    "a replica of a dead host": Trouble(follow_the_dead, follow_nobody, "READONLY", {}),
    "a replica that serves nothing stale": Trouble(
        follow_the_dead, follow_nobody, "MASTERDOWN", {"replica_serve_stale_data": "no"}
    ),
    "memory is full": Trouble(
        lambda _, c: c.config_set("maxmemory", "1"), lambda _, c: c.config_set("maxmemory", "0"), "OOM", {}
    ),
    "saving fails": Trouble(fail_saving, save_again, "MISCONF", {"save": "3600 1000000"}),
    "too few replicas": Trouble(
        lambda _, c: c.config_set("min-replicas-to-write", 1),
        lambda _, c: c.config_set("min-replicas-to-write", 0),
        "NOREPLICAS",
        {},
    ),
    "the input is a string": Trouble(replace_input, restore_input, "WRONGTYPE", {}),
    "the server hangs": Trouble(lambda s, _: s.pause(), lambda s, _: s.resume(), "Timeout", {}),
    "the server is gone": Trouble(
        lambda s, _: s.stop(signal.SIGKILL),
        lambda s, _: s.start(),
        "refused",
        {"appendonly": "yes", "appendfsync": "always"},
    ),
}


@pytest.fixture
def start() -> Iterator[Callable[..., ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def begin(url: str, **settings: Any) -> ForkedDaemon:
        made.append(ForkedDaemon(url, **QUICK | settings))
        return made[-1].start()

    yield begin
    for one in made:
        one.discard()


def push(client: redis.Redis, n: int = 20) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(n):
        pipe.xadd("ticks", {"series": f"s{i % 3}", "value": i * 7919 % 1000 / 8})
    pipe.execute()


def readiness(daemon: ForkedDaemon) -> tuple[int, str]:
    return daemon.get("/readyz?verbose")


def assert_owed(client: redis.Redis, ticks: int) -> None:
    wait_until(lambda: is_drained(client), 30, "the drain")
    found = recount(client)
    assert found.faults() == []
    assert found.aside == []
    assert len(found.forecasts) == ticks


def assert_told_once(daemon: ForkedDaemon) -> None:
    """Each kind of trouble has one line until it has ended."""
    told = Counter(
        (line["event"], str(line["detail"]).partition(" ")[0])
        for line in events(daemon.output())
        if line["level"] == "warning" and "detail" in line
    )
    assert told, "nobody said anything"
    assert max(told.values()) <= 2, told  # the commands' connection and that of the roll call


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_bad_day_is_told_waited_out_and_forgotten(
    private_server: Callable[..., Server], start: Callable[..., ForkedDaemon], trouble: Trouble
) -> None:
    server = private_server("redis", **trouble.options)
    client = server.client()
    push(client)
    daemon = start(server.url)
    wait_until(lambda: is_drained(client), what="the drain")

    trouble.begin(server, client)
    wait_until(lambda: readiness(daemon)[0] == 503 and trouble.word in readiness(daemon)[1], 20, trouble.word)
    before = commands_done(client)
    threading.Event().wait(OBSERVED_SECONDS)  # a span to measure, not a condition
    done = commands_done(client) - before
    assert trouble.word in readiness(daemon)[1]
    assert daemon.get("/livez")[0] == 200, "it waits as it promised to"
    trouble.end(server, client)

    assert done < COMMANDS_PER_SECOND_MAX * OBSERVED_SECONDS
    client = server.client()
    push(client)
    assert_owed(client, 40)
    wait_until(lambda: readiness(daemon)[0] == 200, 20, "readiness")
    assert_told_once(daemon)
    assert daemon.terminate(10) == 0


def commands_done(client: redis.Redis) -> int:
    """By the server so far; 0 where it cannot tell."""
    with contextlib.suppress(Exception):
        client.connection_pool.connection_kwargs["socket_timeout"] = 1
        return client.info("stats")["total_commands_processed"]
    return 0


def test_a_server_that_loads_its_data_is_waited_for(
    private_server: Callable[..., Server], start: Callable[..., ForkedDaemon]
) -> None:
    server = private_server("redis", save="3600 1000000")
    client = server.client()
    pipe = client.pipeline()
    for i in range(3000):
        pipe.set(f"ballast{i}", i)
    pipe.execute()
    push(client)
    daemon = start(server.url)
    wait_until(lambda: is_drained(client), what="the drain")
    server.close_clients()
    server.stop()  # saves
    server.options |= {"key_load_delay": "1000", "loading_process_events_interval_bytes": "1024"}  # 1 ms a key
    server.start()
    wait_until(lambda: "LOADING" in readiness(daemon)[1], 20, "LOADING")
    client = server.client()
    wait_until(lambda: not client.info("persistence")["loading"], 20, "the end of loading")
    push(client)
    assert_owed(client, 40)
    wait_until(lambda: readiness(daemon)[0] == 200, 20, "readiness")
    assert_told_once(daemon)


@pytest.mark.parametrize("seconds", [0.5, 1.6])
def test_a_slow_server_costs_no_tick_also_when_it_sleeps_longer_than_the_lease_lives(
    redis_server: Server, start: Callable[..., ForkedDaemon], seconds: float
) -> None:
    client = redis_server.client()
    daemon = start(redis_server.url)
    for _ in range(3):
        push(client, 10)
        client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        begun = time.monotonic()
        push(client, 10)
        assert time.monotonic() - begun > seconds / 2, "the server was not slow"
    assert_owed(client, 60)
    wait_until(lambda: readiness(daemon)[0] == 200, 20, "readiness")
    assert total(daemon.get("/metrics")[1], "position_regressions_total") == 0


def test_a_destroyed_group_stops_nothing(redis_server: Server, start: Callable[..., ForkedDaemon]) -> None:
    client = redis_server.client()
    daemon = start(redis_server.url)
    for _ in range(5):
        push(client, 10)
        client.execute_command("XGROUP", "DESTROY", "ticks", "foretick")
    push(client, 10)
    assert_owed(client, 60)
    assert readiness(daemon)[0] == 200
