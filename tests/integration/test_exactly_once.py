"""Every tick one forecast, whatever breaks: connections cut inside a commit, leases stolen or expired, restarts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from cutting import CuttingProxy
from foretick.ports.wire import lease_key
from partitions import Loop, assert_exactly_once, forecasts, position, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Server

pytestmark = pytest.mark.redis
LEASE = lease_key(b"foretick", b"default")


@pytest.fixture
def make_loop() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(url: str, **options: Any) -> Loop:
        made.append(Loop(url, **options))
        return made[-1]

    yield make
    for loop in made:
        if not loop.stop_signal.is_set():
            loop.stop()


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[CuttingProxy]:
    made = CuttingProxy(redis_server.port)
    yield made
    made.close()


def test_a_tick_gets_its_forecast_under_its_own_id(server: Server, make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(server.url).start()
    client = server.client()
    entry_id = client.xadd("ticks", {"series": "boiler-7", "value": "71.3"})
    wait_answered(client, 1)
    assert client.xrange("foretick:{ticks}:forecasts") == [
        (
            entry_id,
            {
                b"series": b"boiler-7",
                b"ts": entry_id.split(b"-")[0],
                b"y": b"71.3",
                b"yhat": b"71.3",
                b"stage": b"cold",
            },
        )
    ]
    loop.stop()
    assert position(client) == (entry_id, 1, 0)
    assert client.get(LEASE) is None


def test_unusable_entries_become_dead_letters_under_their_ids(server: Server, make_loop: Callable[..., Loop]) -> None:
    client = server.client()
    good = push(client, 3)
    bad = [client.xadd("ticks", {"series": "s", "value": text}) for text in ("x", "nan", "1e308")]
    good += push(client, 2)
    loop = make_loop(server.url).start()
    wait_answered(client, 5)
    dead = client.xrange("foretick:{ticks}:dead")
    assert [(entry_id, fields[b"reason"]) for entry_id, fields in dead] == list(
        zip(bad, [b"not_a_number", b"out_of_range", b"out_of_range"], strict=True)
    )
    assert_exactly_once(client)
    wait_until(lambda: loop.metric("ticks_total", stream="ticks") == 8)
    assert loop.metric("dead_letters_total", stream="ticks", reason="out_of_range") == 2
    assert loop.metric("forecasts_total", stream="ticks", stage="cold") == 5


@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_connection_cut_at_any_byte_of_a_commit_loses_and_doubles_nothing(
    redis_server: Server, proxy: CuttingProxy, make_loop: Callable[..., Loop], side: Any
) -> None:
    client = redis_server.client()
    make_loop(proxy.url).start()
    asked = 0
    points = [0, 1, 14, 15, 60, 200, 330, 460, 500, 520, 540, 560, 580, 600, 700, 10_000]
    for cuts, after_bytes in enumerate(points if side == "request" else [0, 1, 5, 20, 45, 60, 75, 90], start=1):
        proxy.cut(side, after_bytes)
        push(client, 2)
        asked += 2
        wait_answered(client, asked)
        wait_until(lambda cuts=cuts: proxy.cuts == cuts, what=f"cut {cuts}")
    assert_exactly_once(client)
    assert client.keys("*aside*") == []


def test_a_stolen_lease_means_that_nothing_more_is_written(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 2)
    wait_answered(client, 2)
    client.set(LEASE, "somebody else")
    late = push(client, 5)
    wait_until(lambda: loop.metric("lease_lost_total") == 1)
    assert len(forecasts(client)) == 2
    assert position(client)[0] < late[0]
    client.delete(LEASE)
    wait_answered(client, 7)
    assert_exactly_once(client)
    assert len(loop.engines) == 2


def test_a_lease_that_expired_while_we_were_paused_is_taken_again(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 2)
    wait_answered(client, 2)
    client.delete(LEASE)
    push(client, 5)
    wait_answered(client, 7)
    assert_exactly_once(client)
    assert loop.metric("lease_lost_total") == 0
    assert len(loop.engines) == 1


def test_a_second_process_waits_and_takes_over_with_the_same_forecasts(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    first = make_loop(redis_server.url).start()
    second = make_loop(redis_server.url).start(ready=False)
    push(client, 20)
    wait_answered(client, 20)
    assert not second.is_ready()
    first.stop()
    wait_until(second.is_ready)
    push(client, 20)
    wait_answered(client, 40)
    assert_exactly_once(client)
    assert second.metric("replayed_ticks_total") == 20


def test_restarts_at_any_moment_change_no_forecast(redis_server: Server, make_loop: Callable[..., Loop]) -> None:
    client = redis_server.client()
    total = 0
    for crash in (True, False, True, True, False):
        push(client, 137)
        total += 137
        loop = make_loop(redis_server.url, ttl_seconds=1.0, count=10).start()
        wait_answered(client, total - 60)
        if crash:
            loop.crash()
        else:
            loop.stop()
    make_loop(redis_server.url, ttl_seconds=1.0).start()
    wait_answered(client, total)
    assert_exactly_once(client)
    last = client.xrevrange("ticks", count=1)[0][0]
    wait_until(lambda: position(client) == (last, total, 0))


def test_the_lease_is_renewed_while_nothing_happens(redis_server: Server, make_loop: Callable[..., Loop]) -> None:
    client = redis_server.client()
    make_loop(redis_server.url, ttl_seconds=1.0).start()
    held = client.get(LEASE)
    lives = []
    wait_until(lambda: lives.append(client.pttl(LEASE)) or sum(b > a for a, b in pairwise(lives)) > 5)
    assert client.get(LEASE) == held
    assert min(lives) > 0


def test_a_release_leaves_the_lease_of_another_alone(redis_server: Server, make_loop: Callable[..., Loop]) -> None:
    client = redis_server.client()
    loop = Loop(redis_server.url)
    loop.connection.open()
    lease = loop.lease
    assert lease.take(loop.connection)
    client.set(LEASE, "somebody else")
    assert not lease.release(loop.connection)
    assert client.get(LEASE) == b"somebody else"
    loop.connection.close()


def test_a_server_that_restarts_loses_nothing(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop]
) -> None:
    server = private_server("redis", appendonly="yes", appendfsync="always")
    loop = make_loop(server.url).start()
    push(server.client(), 50)
    server.close_clients()
    server.restart()
    client = server.client()
    push(client, 50)
    wait_answered(client, 100)
    assert_exactly_once(client)
    assert loop.metric("redis_reconnects_total") >= 1
