"""Instants that random kills do not find: the windows between two steps that should have been one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from killing_proxy import KillingProxy, Trap

from recount import events, is_drained, recount
from servers import DaemonProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = [pytest.mark.redis, pytest.mark.chaos, pytest.mark.timeout(180)]

FORECASTS, DEAD, LEASE = "foretick:{ticks}:forecasts", "foretick:{ticks}:dead", "foretick:{default}:lease"
FAR = "99999999999999-0"  # an entry id of the year 5138
QUICK = {"lease__ttl": "1s", "model__hidden": 8, "learn__enabled": False}
SLOW_HIDDEN = 192  # so wide that replaying SLOW_TICKS takes several times as long as the lease lives
SLOW_TICKS = 600


class Victim:
    """A daemon and the proxy that can kill it."""

    def __init__(self, port: int) -> None:
        self.proxy = KillingProxy(port, self.kill)
        self.proxy.open()
        self.daemon = DaemonProcess(self.proxy.url, **QUICK)

    def kill(self) -> None:
        self.daemon.kill()


@pytest.fixture
def victim(redis_server: Server) -> Iterator[Victim]:
    one = Victim(redis_server.port)
    yield one
    one.daemon.discard()
    one.proxy.close()


def push(client: redis.Redis, n: int, *, bad: int = 0) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(n):
        pipe.xadd("ticks", {"series": f"s{i % 3}", "value": "x" if i < bad else i * 7919 % 1000})
    pipe.execute()


def wait_renewed(client: redis.Redis, times: int = 3) -> None:
    """Until idle turns have renewed the lease so often: each of them raised its fence anew."""
    lives: list[int] = []
    wait_until(lambda: lives.append(client.pttl(LEASE)) or sum(b > a for a, b in pairwise(lives)) >= times)


def positions_moved(client: redis.Redis) -> int:
    """How often the server has carried out XGROUP SETID."""
    return client.info("commandstats")["cmdstat_xgroup|setid"]["calls"]


def test_a_commit_that_arrives_after_another_took_the_lease_writes_nothing(
    redis_server: Server, victim: Victim, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    victim.daemon.start()
    standby = start_daemon(redis_server.url, ready=False, **QUICK)
    wait_until(lambda: events(standby.output(), "standing_by"), 60, "the standby")
    push(client, 12, bad=3)
    wait_until(lambda: is_drained(client), what="the drain")
    wait_renewed(client)

    before: list[int] = []

    def let_the_lease_expire() -> bool:
        """Hold the commit back until the standby has answered the same ticks; it arrives on a connection that lives."""
        wait_until(lambda: events(standby.output(), "partition_opened") and is_drained(client), 30, "the successor")
        before.append(positions_moved(client))
        return True

    victim.proxy.act = let_the_lease_expire
    victim.proxy.set_trap(Trap(b"XADD", "request", nth=1, after_bytes=0))
    push(client, 12, bad=3)
    assert victim.proxy.has_sprung.wait(40)
    wait_until(lambda: events(victim.daemon.output(), "lease_lost"), what="the loss of the lease")
    wait_renewed(client)  # whatever the late commit did to Redis is done by then
    assert [positions_moved(client)] == before
    found = recount(client)
    assert found.faults() == []
    assert found.aside == []
    assert not events(standby.output(), "lease_lost")


@pytest.mark.parametrize("key", [FORECASTS, DEAD])
def test_a_kill_between_a_commit_that_met_a_foreign_entry_and_its_repair_loses_no_answer(
    redis_server: Server,
    victim: Victim,
    start_daemon: Callable[..., DaemonProcess],
    key: str,
) -> None:
    client = redis_server.client()
    victim.daemon.start()
    push(client, 12, bad=3)
    wait_until(lambda: is_drained(client), what="the drain")
    client.xadd(key, {"written": "by somebody else"}, id=FAR)
    wait_renewed(client)  # the entry came before the fence of the turn that reads the next ticks
    victim.proxy.set_trap(Trap(b"XADD", "reply", nth=1, after_bytes=0))
    push(client, 12, bad=12 if key == DEAD else 0)
    assert victim.proxy.has_sprung.wait(30)
    start_daemon(redis_server.url, **QUICK)
    wait_until(lambda: is_drained(client), what="the drain")
    found = recount(client)
    kept = [entry_id for name in found.aside for entry_id, _ in client.xrange(name)]
    answered = {entry_id for entry_id, _ in [*found.forecasts, *found.dead]} | set(kept)
    assert {entry_id for entry_id, _ in found.entries} - answered == set()


def test_a_replay_that_takes_longer_than_the_lease_lives_does_not_lose_it_to_a_standby(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    slow = {"lease__ttl": "1s", "model__hidden": SLOW_HIDDEN}
    for i in range(1, SLOW_TICKS + 1):  # one a millisecond: learning falls between two
        client.xadd("ticks", {"series": f"s{i % 10}", "value": i * 7919 % 1000}, id=f"{i}-0")
    first = start_daemon(redis_server.url, **slow)
    wait_until(lambda: is_drained(client), 60, "the drain")
    first.kill()
    pair = [start_daemon(redis_server.url, ready=False, **slow) for _ in range(2)]
    wait_until(
        lambda: any(events(one.output(), "partition_opened") or events(one.output(), "lease_lost") for one in pair),
        120,
        "the end of a replay",
    )
    assert len([line for one in pair for line in events(one.output(), "lease_taken")]) == 1
