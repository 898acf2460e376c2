"""What an operator or another program can do to our keys: one log line, a metric, and no good tick lost beside it."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis

from partitions import Loop, Memory, assert_exactly_once, expected, forecasts, position, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretick.core.records import Forecasts, Ticks
    from servers import Server

pytestmark = pytest.mark.redis
FORECASTS, DEAD, LATEST = "foretick:{ticks}:forecasts", "foretick:{ticks}:dead", "foretick:{ticks}:latest"


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
def client(server: Server) -> redis.Redis:
    return server.client()


@pytest.fixture
def loop(server: Server, make_loop: Callable[..., Loop]) -> Loop:
    return make_loop(server.url)


def test_a_foreign_entry_from_before_the_start_is_set_aside(client: redis.Redis, loop: Loop) -> None:
    client.xadd(FORECASTS, {"evil": "1"}, id="9999999999999-0")
    push(client, 10)
    loop.start()
    wait_answered(client, 10)
    assert_exactly_once(client)
    assert client.xlen(FORECASTS) == 10
    assert len(client.keys(FORECASTS + ":aside:*")) == 1


@pytest.mark.parametrize("key", [FORECASTS, DEAD])
def test_a_foreign_entry_that_comes_while_running_is_set_aside(client: redis.Redis, loop: Loop, key: str) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    client.xadd(key, {"evil": "1"}, id="9999999999999-0")
    push(client, 10)
    client.xadd("ticks", {"series": "s", "value": "x"})
    wait_answered(client, 20)
    wait_until(lambda: any(b"reason" in fields for _, fields in client.xrange(DEAD)))
    assert_exactly_once(client)
    assert len(client.keys(key + ":aside:*")) == 1


def test_a_writer_who_does_not_stop_cannot_make_us_lose_a_tick(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    for _ in range(20):
        client.xadd(FORECASTS, {"evil": "1"})
        push(client, 1)
    wait_answered(client, 20)
    assert_exactly_once(client)


@pytest.mark.parametrize("key", [FORECASTS, DEAD, LATEST])
@pytest.mark.parametrize("when", ["before", "while running"])
def test_a_key_of_ours_that_holds_something_else_is_set_aside(
    client: redis.Redis, loop: Loop, key: str, when: str
) -> None:
    if when == "before":
        client.set(key, "a string")
        push(client, 5)
        loop.start()
    else:
        loop.start()
        push(client, 5)
        wait_answered(client, 5)
        if client.exists(key):
            client.rename(key, key + ":kept")
        client.set(key, "a string")
    push(client, 5)
    client.xadd("ticks", {"series": "s", "value": "x"})
    wait_answered(client, 10)
    wait_until(lambda: client.type(DEAD) == b"stream" and client.xlen(DEAD) == 1)
    wait_until(lambda: client.type(LATEST) == b"hash" and client.hlen(LATEST) == 3)
    assert_exactly_once(client)


def test_a_destroyed_group_is_made_again_at_our_position(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    assert client.xgroup_destroy("ticks", "foretick") == 1
    last = push(client, 10)[-1]
    wait_answered(client, 20)
    assert_exactly_once(client)
    assert position(client) == (last, 20, 0)


def test_a_group_destroyed_while_we_were_down_is_found_by_its_forecasts(
    server: Server, client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(server.url).start()
    push(client, 10)
    wait_answered(client, 10)
    loop.stop()
    client.xgroup_destroy("ticks", "foretick")
    push(client, 10)
    make_loop(server.url).start()
    wait_answered(client, 20)
    assert_exactly_once(client)
    assert not client.keys("*aside*")


def test_a_deleted_stream_goes_on_with_later_ids(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    before = forecasts(client)
    client.delete("ticks")
    push(client, 10)
    wait_answered(client, 20)
    assert forecasts(client)[:10] == before
    assert [entry_id for entry_id, _ in forecasts(client)[10:]] == [entry_id for entry_id, _ in client.xrange("ticks")]
    assert len(loop.engines) == 1


def test_a_stream_made_anew_with_earlier_ids_is_another_stream(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    client.delete("ticks")
    for i in range(1, 6):
        client.xadd("ticks", {"series": "s", "value": i}, id=f"{i}-0")
    wait_until(lambda: client.exists(FORECASTS) and client.xlen(FORECASTS) == 5)
    assert len(client.keys(FORECASTS + ":aside:*")) == 1
    assert loop.metric("position_regressions_total") == 1
    client.delete(*client.keys("*aside*"))
    assert forecasts(client) == expected(client)


def test_everything_deleted_at_once_is_no_reason_to_stop(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    client.flushall()
    ids = push(client, 10)
    wait_answered(client, 10)
    assert [entry_id for entry_id, _ in forecasts(client)] == ids
    assert position(client)[0] == ids[-1]


@pytest.mark.parametrize("when", ["before", "while running"])
def test_an_input_that_is_no_stream_is_waited_for(client: redis.Redis, loop: Loop, when: str) -> None:
    if when == "before":
        client.set("ticks", "a string")
        loop.start(ready=False)
    else:
        loop.start()
        client.delete("ticks")
        client.set("ticks", "a string")
    wait_until(lambda: "WRONGTYPE" in loop.detail("input"))
    assert not loop.condition("input")
    client.delete("ticks")
    push(client, 10)
    wait_answered(client, 10)
    wait_until(lambda: loop.condition("input"))
    assert_exactly_once(client)


def test_a_full_server_is_outwaited(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    push(client, 10)
    wait_answered(client, 10)
    with client.pipeline() as pipe:  # the ticks and the limit at once: no turn comes between them
        for _ in range(10):
            pipe.xadd("ticks", {"series": "s0", "value": "1"})
        pipe.config_set("maxmemory", "1")
        pipe.execute()
    wait_until(lambda: "OOM" in loop.detail("redis"))
    assert not loop.condition("redis")
    assert len(forecasts(client)) == 10
    client.config_set("maxmemory", "0")
    wait_answered(client, 20)
    wait_until(lambda: loop.condition("redis"))
    assert_exactly_once(client)


def test_a_read_only_replica_is_outwaited(redis_server: Server, make_loop: Callable[..., Loop]) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 10)
    wait_answered(client, 10)
    client.config_set("min-replicas-to-write", "1")
    wait_until(lambda: "NOREPLICAS" in loop.detail("redis"))
    client.config_set("min-replicas-to-write", "0")
    push(client, 10)
    wait_answered(client, 20)
    assert_exactly_once(client)


def test_an_input_that_is_replaced_between_read_and_commit_is_waited_for(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url)
    advance = Memory.advance

    def replace_input(engine: Memory, ticks: Ticks) -> Forecasts:
        if len(engine.state) == 0:  # the first batch only
            client.rename("ticks", "kept")
            client.set("ticks", "a string")
        return advance(engine, ticks)

    loop.engine = replace_input
    loop.start()
    push(client, 10)
    wait_until(lambda: "WRONGTYPE" in loop.detail("input"))
    assert not loop.condition("input")
    client.rename("kept", "ticks")
    push(client, 10)
    wait_answered(client, 20)
    wait_until(lambda: loop.condition("input"))
    assert_exactly_once(client)


def test_a_group_destroyed_between_read_and_commit_is_made_again(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url)
    advance = Memory.advance

    def destroy(engine: Memory, ticks: Ticks) -> Forecasts:
        client.xgroup_destroy("ticks", "foretick")
        return advance(engine, ticks)

    loop.engine = destroy
    loop.start()
    ids = push(client, 10)
    wait_answered(client, 10)
    wait_until(lambda: client.xinfo_groups("ticks"))
    assert_exactly_once(client)
    wait_until(lambda: position(client) == (ids[-1], 10, 0))


def test_a_server_that_lost_its_last_seconds_is_believed(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop]
) -> None:
    server = private_server("redis")
    client = server.client()
    loop = make_loop(server.url).start()
    push(client, 20)
    wait_answered(client, 20)
    client.save()
    push(client, 20)
    wait_answered(client, 40)
    server.close_clients()
    server.restart(signal.SIGKILL)
    client = server.client()
    assert client.xlen("ticks") == 20
    push(client, 20)
    wait_answered(client, 40)
    assert_exactly_once(client)
    assert loop.metric("position_regressions_total") == 1
    assert len(loop.engines) == 2
    assert not client.keys("*aside*")


def test_a_server_that_lost_everything_gets_new_forecasts(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop]
) -> None:
    server = private_server("redis")
    make_loop(server.url).start()
    push(server.client(), 20)
    wait_answered(server.client(), 20)
    server.close_clients()
    server.restart(signal.SIGKILL)
    client = server.client()
    ids = push(client, 20)
    wait_answered(client, 20)
    assert [entry_id for entry_id, _ in forecasts(client)] == ids


def test_a_server_that_hangs_does_not_hold_up_a_stop(
    private_server: Callable[..., Server], make_loop: Callable[..., Loop]
) -> None:
    server = private_server("redis")
    loop = make_loop(server.url).start()
    push(server.client(), 5)
    wait_answered(server.client(), 5)
    server.pause()
    begun = time.monotonic()
    loop.stop()
    assert time.monotonic() - begun < 5
    server.resume()


def test_a_script_that_blocks_the_server_is_outwaited(redis_server: Server, make_loop: Callable[..., Loop]) -> None:
    client = redis_server.client()
    loop = make_loop(redis_server.url).start()
    push(client, 5)
    wait_answered(client, 5)
    client.config_set("busy-reply-threshold", "10")
    killer = redis_server.client()
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(client.eval, "while true do end", 0)
        wait_until(lambda: "BUSY" in loop.detail("redis"))
        killer.script_kill()
        assert isinstance(endless.exception(10), redis.ResponseError)
    push(killer, 5)
    wait_answered(killer, 10)
    assert_exactly_once(killer)


def test_what_the_access_rules_forbid_stops_the_partition_and_says_why(
    redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    client = redis_server.client()
    client.acl_setuser("weak", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"])
    loop = make_loop(redis_server.url.replace("//", "//weak:pw@")).start()
    push(client, 5)
    wait_answered(client, 5)
    client.execute_command("ACL", "SETUSER", "weak", "-xadd")
    ids = push(client, 5)
    wait_until(lambda: "NOPERM" in loop.detail("partition"))
    assert len(forecasts(client)) == 5
    assert position(client)[0] < ids[0]


def test_start_at_the_latest_leaves_history_alone(
    server: Server, client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    push(client, 10)
    loop = make_loop(server.url, start="latest").start()
    ids = push(client, 10)
    wait_answered(client, 10)
    first_answers = forecasts(client)
    assert [entry_id for entry_id, _ in first_answers] == ids
    assert position(client) == (ids[-1], 20, 0)
    loop.stop()
    again = make_loop(server.url, start="latest").start()
    push(client, 1)
    wait_answered(client, 11)
    assert again.metric("replayed_ticks_total") == 10


def test_a_trimmed_stream_is_read_from_where_it_begins(
    server: Server, client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    push(client, 100)
    client.xtrim("ticks", maxlen=40, approximate=False)
    loop = make_loop(server.url).start()
    wait_answered(client, 40)
    assert_exactly_once(client)
    assert position(client)[1:] == (100, 0)
    loop.stop()
    client.xtrim("ticks", maxlen=10, approximate=False)
    make_loop(server.url).start()
    push(client, 5)
    wait_answered(client, 45)
    wait_until(lambda: position(client)[1:] == (105, 0))


def test_a_lease_key_that_is_no_string_is_somebody_elses(client: redis.Redis, loop: Loop) -> None:
    loop.start()
    client.delete("foretick:{default}:lease")
    client.rpush("foretick:{default}:lease", "x")
    wait_until(lambda: loop.metric("lease_lost_total") >= 1)
    push(client, 3)
    client.delete("foretick:{default}:lease")
    wait_answered(client, 3)
    assert_exactly_once(client)


def test_streams_of_ours_are_trimmed(server: Server, client: redis.Redis, make_loop: Callable[..., Loop]) -> None:
    push(client, 3000)
    make_loop(server.url, forecasts_maxlen=100, dead_maxlen=100).start()
    last = client.xrevrange("ticks", count=1)[0][0]
    wait_until(lambda: position(client)[0] == last)
    assert 100 <= client.xlen(FORECASTS) <= 300
