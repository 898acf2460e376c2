"""Learning beside the loop: the forecasts are those of learning inline; no wait for a job costs the lease or a stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from foretick.app.learning import LeaseKeeper
from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.ports.trainer import TrainerProcess
from foretick.ports.wire import decode, keyed
from partitions import Loop, Memory, assert_exactly_once, forecasts, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from foretick.core.records import Forecasts, Ticks
    from servers import DaemonProcess, Server

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(not TrainerProcess.is_supported(), reason="computed inline on this system"),
]
FORECASTS, LEASE = "foretick:{ticks}:forecasts", "foretick:{default}:lease"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the daemon
    yield
    torch.set_num_threads(threads)


class Waiting:
    """A loop whose engine waits in the middle of a turn, as for the trainer, until `go` is set."""

    def __init__(self, url: str, **options: Any) -> None:
        self.loop = Loop(url, ttl_seconds=1.0, **options)
        self.go, self.waits = threading.Event(), threading.Event()
        keeper = LeaseKeeper(self.loop.partition._committer, self.loop.health)

        def advance(memory: Memory, ticks: Ticks) -> Forecasts:
            while not self.go.wait(0.2):
                keeper.keep()
                self.waits.set()
            return Memory.advance(memory, ticks)

        self.loop.engine = advance
        self.loop.start()

    def push_and_wait(self, client: redis.Redis) -> None:
        push(client, 10)
        assert self.waits.wait(10)


@pytest.fixture
def waiting(redis_server: Server) -> Iterator[Waiting]:
    made = Waiting(redis_server.url)
    yield made
    made.go.set()
    if not made.loop.stop_signal.is_set():
        made.loop.stop()


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    return redis_server.client()


def test_a_wait_longer_than_the_lease_keeps_it_and_the_turn_is_committed(waiting: Waiting, client: redis.Redis) -> None:
    token = client.get(LEASE)
    waiting.push_and_wait(client)
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5:
        assert client.get(LEASE) == token
        waiting.waits.clear()
        assert waiting.waits.wait(10)
    assert client.xlen(FORECASTS) == 0
    waiting.go.set()
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert client.get(LEASE) == token
    assert waiting.loop.metric("redis_reconnects_total") == waiting.loop.metric("lease_lost_total") == 0


def test_a_foreign_entry_that_comes_during_the_wait_is_set_aside(waiting: Waiting, client: redis.Redis) -> None:
    waiting.push_and_wait(client)
    last = client.xinfo_stream("ticks")["last-generated-id"]
    client.xadd(FORECASTS, {"evil": "1"}, id=last)
    waiting.waits.clear()
    assert waiting.waits.wait(10)
    waiting.go.set()
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert client.xlen(FORECASTS) == 10
    assert len(client.keys(FORECASTS + ":aside:*")) == 1


def test_a_foreign_entry_below_ours_that_comes_during_the_wait_is_set_aside_too(
    waiting: Waiting, client: redis.Redis
) -> None:
    waiting.push_and_wait(client)
    client.xadd(FORECASTS, {"evil": "1"}, id="1-1")  # no XADD of ours would fail on it
    waiting.waits.clear()
    assert waiting.waits.wait(10)
    waiting.go.set()
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert client.xlen(FORECASTS) == 10


def test_a_connection_lost_during_the_wait_loses_nothing(waiting: Waiting, client: redis.Redis) -> None:
    waiting.push_and_wait(client)
    client.client_kill_filter(_type="normal", skipme=True)
    waiting.waits.clear()
    assert waiting.waits.wait(10)
    waiting.go.set()
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert waiting.loop.metric("redis_reconnects_total") == 1


def test_a_server_that_refuses_the_renewal_gets_the_turn_when_it_can_write_again(
    waiting: Waiting, client: redis.Redis
) -> None:
    waiting.push_and_wait(client)
    client.config_set("min-replicas-to-write", 1)
    waiting.waits.clear()
    assert waiting.waits.wait(10)
    client.config_set("min-replicas-to-write", 0)
    waiting.go.set()
    wait_answered(client, 10)
    assert_exactly_once(client)


def test_a_lease_taken_during_the_wait_ends_the_turn_and_nothing_is_written(
    waiting: Waiting, client: redis.Redis
) -> None:
    waiting.push_and_wait(client)
    client.set(LEASE, "another", px=60_000)
    wait_until(lambda: waiting.loop.metric("lease_lost_total") == 1)
    assert client.xlen(FORECASTS) == 0
    waiting.go.set()
    client.delete(LEASE)
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert len(waiting.loop.engines) == 2, "the engine that had seen the ticks is dropped"


def test_a_stop_ends_the_wait_and_the_ticks_are_answered_by_the_next_owner(
    waiting: Waiting, client: redis.Redis, redis_server: Server
) -> None:
    waiting.push_and_wait(client)
    begun = time.monotonic()
    waiting.loop.stop()
    assert time.monotonic() - begun < 2
    assert client.get(LEASE) is None
    assert forecasts(client) == []
    next_owner = Loop(redis_server.url).start()
    wait_answered(client, 10)
    next_owner.stop()
    assert_exactly_once(client)


# The daemon, whole.


def trainers_of(pid: int) -> list[int]:
    """The trainer processes among the children of a process, the stopped and the dying included."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and "foretick.ports.trainer_child" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:  # gone meanwhile
            continue
    return found


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def push_rounds(client: redis.Redis, rounds: int) -> None:
    """Each round of five series in a millisecond of its own, so that learning is cut where it would be in life."""
    base = client.xlen("ticks") // 5
    pipe = client.pipeline(transaction=False)
    for i in range(base, base + rounds):
        for s in range(5):
            fields = {"series": f"s{s}", "value": (i * 7919 * (s + 1)) % 1000 / 8}
            pipe.xadd("ticks", fields, id=f"{1_700_000_000_000 + i}-{s}")
    pipe.execute()


def expected_inline(client: redis.Redis) -> list[tuple[bytes, float]]:
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    decoded = decode(entries, b"ticks")
    engine = Engine(Recipe(hidden=16, learn=LearnRecipe(every=2)))
    return list(zip(decoded.ids, engine.advance(keyed(decoded)).yhat.tolist(), strict=True))


def test_forecasts_are_those_of_learning_inline_whatever_befalls_the_trainer_and_it_ends_with_the_daemon(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    daemon = start_daemon(redis_server.url, learn__trainer="process", model__hidden=16, learn__every=2, lease__ttl="1s")
    (trainer,) = trainers_of(daemon.pid)
    push_rounds(client, 20)
    wait_answered(client, 100)
    wait_until(lambda: niceness(trainer) == 19, 60, "the trainer's readiness")

    os.kill(trainer, signal.SIGKILL)
    push_rounds(client, 20)
    wait_answered(client, 200)
    wait_until(lambda: "foretick_trainer_restarts_total 1.0" in daemon.get("/metrics")[1])
    assert "trainer_restarted" in daemon.output()
    (second,) = trainers_of(daemon.pid)
    assert second != trainer
    wait_until(lambda: niceness(second) == 19, 60, "the second trainer's readiness")
    push_rounds(client, 20)
    wait_answered(client, 300)
    assert forecasts(client) == expected_inline(client)

    os.kill(second, signal.SIGSTOP)  # SIGKILL of the daemon ends even a stopped one
    daemon.kill()
    wait_until(lambda: not exists(second), what="the trainer's end")


def niceness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def renewals(client: redis.Redis) -> int:
    return client.info("commandstats")["cmdstat_pexpire"]["calls"]


def test_a_stop_does_not_wait_for_a_trainer_that_hangs(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    daemon = start_daemon(redis_server.url, learn__trainer="process", model__hidden=16, lease__ttl="1s")
    (trainer,) = trainers_of(daemon.pid)
    wait_until(lambda: niceness(trainer) == 19, 60, "the trainer's readiness")
    os.kill(trainer, signal.SIGSTOP)
    token, before = client.get(LEASE), renewals(client)
    push_rounds(client, 100)
    wait_until(lambda: renewals(client) >= before + 5, what="renewals in the middle of a turn")
    assert client.xlen(FORECASTS) < 500
    assert client.get(LEASE) == token
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 5
    assert not exists(trainer)
    assert client.get(LEASE) is None
