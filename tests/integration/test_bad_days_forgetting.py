"""A Redis that has forgotten what it had told us, and inputs that are not what they were."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from foretick.app.recovery import Recovery
from foretick.ports.positions import StreamKeys
from partitions import Loop, Memory, assert_exactly_once, expected, forecasts, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretick.core.records import Forecasts, Ticks
    from servers import Server

pytestmark = pytest.mark.redis
FORECASTS = "foretick:{ticks}:forecasts"


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


@pytest.mark.parametrize("has_later_ticks", [False, True])
def test_ticks_that_redis_forgot_between_read_and_commit_leave_no_trace(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop], *, has_later_ticks: bool
) -> None:
    server = private_server("redis")
    client = server.client()
    advance = Memory.advance
    seen: list[int] = []

    def crash(engine: Memory, ticks: Ticks) -> Forecasts:
        seen.append(len(ticks))
        if sum(seen[:-1]) == 20:  # all that was there at first is behind us
            server.restart(signal.SIGKILL)
            if has_later_ticks:
                push(server.client(), 5)
        return advance(engine, ticks)

    loop = make_loop(server.url)
    loop.engine = crash
    push(client, 20)
    loop.start()
    wait_answered(client, 20)
    client.save()
    with contextlib.suppress(redis.ConnectionError):  # the server may be gone before it has told all ids
        push(client, 7)
    wait_until(lambda: loop.metric("position_regressions_total") == 1, what="the notice")
    client = server.client()
    push(client, 20)
    wait_until(lambda: len(loop.engines) == 2 and len(forecasts(client)) == client.xlen("ticks"))
    assert client.xlen("ticks") == 45 if has_later_ticks else 40
    assert_exactly_once(client)
    assert not client.keys("*aside*")


def test_an_input_that_is_created_anew_with_earlier_and_later_ids_is_read_from_its_head(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 10)
    wait_answered(client, 10)
    with client.pipeline() as pipe:  # at once: the loop never sees a stream that ends before its position
        pipe.delete("ticks")
        for i in range(1, 6):
            pipe.xadd("ticks", {"series": "s", "value": i}, id=f"{i}-0")
        pipe.xadd("ticks", {"series": "s", "value": 6})
        pipe.execute()
    wait_until(lambda: client.exists(FORECASTS) and client.xlen(FORECASTS) == 6)
    client.delete(*client.keys("*aside*"))
    assert forecasts(client) == expected(client)
    assert len(loop.engines) == 2


def test_a_group_destroyed_over_a_trimmed_stream_is_no_new_stream(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 10)
    wait_answered(client, 10)
    client.xtrim("ticks", maxlen=0, approximate=False)
    client.xgroup_destroy("ticks", "foretick")
    push(client, 5)
    wait_answered(client, 15)
    assert len(loop.engines) == 1
    assert client.xlen(FORECASTS) == 15


def test_ticks_that_are_trimmed_between_read_and_commit_are_not_taken_for_forgotten(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    advance = Memory.advance
    seen: list[int] = []

    def cut(engine: Memory, ticks: Ticks) -> Forecasts:
        seen.append(len(ticks))
        if len(seen) == 2:
            push(client, 5)
            client.xtrim("ticks", maxlen=3, approximate=False)
            for one in client.client_list():
                if one["name"] == "foretick":
                    client.client_kill_filter(_id=one["id"])
        return advance(engine, ticks)

    loop = make_loop(redis_server.url)
    loop.engine = cut
    push(client, 10)
    loop.start()
    wait_answered(client, 10)
    push(client, 10)
    wait_until(lambda: loop.metric("redis_reconnects_total") >= 1)
    wait_until(lambda: client.xinfo_groups("ticks")[0]["lag"] == 0)
    assert loop.metric("position_regressions_total") == 0
    assert len(loop.engines) == 1


def test_answers_that_redis_forgot_while_a_stream_was_taken_up_are_given_again(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = private_server("redis")
    client = server.client()
    advance, settle_in = Memory.advance, Recovery.settle_in
    is_held, may_answer = threading.Event(), threading.Event()
    seen: list[int] = []

    def hold(engine: Memory, ticks: Ticks) -> Forecasts:
        seen.append(len(ticks))
        if sum(seen) > 20 and not may_answer.is_set():
            is_held.set()
            may_answer.wait(10)
        return advance(engine, ticks)

    def crash(recovery: Recovery, streams: Any, start: Any) -> Any:
        monkeypatch.setattr(Recovery, "settle_in", settle_in)
        server.restart(signal.SIGKILL)
        push(server.client(), 3)  # the turn after it has something to answer
        return settle_in(recovery, streams, start)

    loop = make_loop(server.url)
    loop.engine = hold
    push(client, 20)
    loop.start()
    wait_answered(client, 20)
    push(client, 5)
    assert is_held.wait(10)
    client.save()  # 25 ticks, 20 answers
    may_answer.set()
    wait_answered(client, 25)
    monkeypatch.setattr(Recovery, "settle_in", crash)
    loop.partition.wanted = (*loop.partition.wanted, StreamKeys.of(b"other", b"foretick", b"default"))
    wait_until(lambda: loop.metric("position_regressions_total") == 1, what="the notice")
    client = server.client()
    wait_until(lambda: len(forecasts(client)) == client.xlen("ticks") == 28)
    assert_exactly_once(client)
