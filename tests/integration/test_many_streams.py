"""Several streams in one partition: one order, exactly one forecast for every tick, streams that come and go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from foretick.ports.positions import StreamKeys
from foretick.ports.wire import FieldNames, lease_key, split_series_key
from partitions import Loop, Memory, assert_exactly_once, forecasts, position, push
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from foretick.core.records import Forecasts, Ticks
    from servers import Server

pytestmark = pytest.mark.redis
LEASE = lease_key(b"foretick", b"default")
THREE = ("a", "b", "c")


@pytest.fixture
def make_loop() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(url: str, *streams: str, **options: Any) -> Loop:
        made.append(Loop(url, *streams, **options))
        return made[-1]

    yield make
    for loop in made:
        if not loop.stop_signal.is_set():
            loop.stop()


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    return redis_server.client()


def answered(client: redis.Redis, streams: Sequence[str]) -> int:
    return sum(client.xlen(f"foretick:{{{stream}}}:forecasts") for stream in streams)


def wait_answered(client: redis.Redis, streams: Sequence[str], n: int, deadline_seconds: float = 30.0) -> None:
    wait_until(lambda: answered(client, streams) >= n, deadline_seconds, f"{n} forecasts")


def keys_of(*streams: str) -> tuple[StreamKeys, ...]:
    return tuple(StreamKeys.of(stream.encode(), b"foretick", b"default") for stream in streams)


def watch_order(loop: Loop) -> list[tuple[int, bytes]]:
    """Collects the milliseconds and streams of the ticks in the order in which the engine gets them."""
    seen: list[tuple[int, bytes]] = []
    advance = Memory.advance

    def note(engine: Memory, ticks: Ticks) -> Forecasts:
        seen.extend((ms, split_series_key(key)[0]) for ms, key in zip(ticks.ms.tolist(), ticks.series, strict=True))
        return advance(engine, ticks)

    loop.engine = note
    return seen


def test_every_tick_of_every_stream_gets_its_forecast(server: Server, make_loop: Callable[..., Loop]) -> None:
    client = server.client()
    make_loop(server.url, *THREE).start()
    for i in range(9):
        push(client, 7, THREE[i % 3])
    wait_answered(client, THREE, 63)
    for stream in THREE:
        assert_exactly_once(client, stream)
        wait_until(lambda stream=stream: position(client, stream)[1:] == (21, 0))


@pytest.mark.parametrize("count", [1, 8, 500])
def test_history_is_answered_in_the_order_of_the_entry_ids(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop], count: int
) -> None:
    for ms in range(1, 121):
        stream = "a" if ms % 4 else "bc"[ms % 8 == 0]  # a has three times as many as the others together
        client.xadd(stream, {"value": ms}, id=f"{ms}-0")
    loop = make_loop(redis_server.url, *THREE, count=count)
    seen = watch_order(loop)
    loop.start()
    wait_answered(client, THREE, 120)
    assert [ms for ms, _ in seen] == list(range(1, 121))


def test_restarts_at_any_moment_change_no_forecast(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    total = 0
    for crash in (True, False, True):
        for stream in THREE:
            total += len(push(client, 60, stream))
        loop = make_loop(redis_server.url, *THREE, ttl_seconds=1.0, count=10).start()
        wait_answered(client, THREE, total - 90)
        if crash:
            loop.crash()
        else:
            loop.stop()
    last = make_loop(redis_server.url, *THREE, ttl_seconds=1.0)
    seen = watch_order(last)
    last.start()
    wait_answered(client, THREE, total)
    for stream in THREE:
        assert_exactly_once(client, stream)
    replayed = [ms for ms, _ in seen[: int(last.metric("replayed_ticks_total"))]]
    assert len(replayed) >= total - 90
    assert replayed == sorted(replayed)


def test_the_same_series_id_in_two_streams_is_two_series(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(redis_server.url, "a", "b").start()
    client.xadd("a", {"series": "x", "value": 1})
    client.xadd("b", {"series": "x", "value": 2})
    client.xadd("b", {"value": 3})
    wait_answered(client, "ab", 3)
    assert sorted(loop.engines[0].state) == [b"a\0x", b"b\0b", b"b\0x"]


def test_two_thousand_streams_of_one_series_each(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    streams = [f"ticks:{i}" for i in range(2000)]
    pipe = client.pipeline(transaction=False)
    for value in range(3):
        for stream in streams:
            pipe.xadd(stream, {"value": value})
    pipe.execute()
    loop = make_loop(redis_server.url, *streams).start()
    wait_until(lambda: loop.metric("ticks_total", stream="default") >= 3 * 1900, 60)
    for stream in streams:
        pipe.xadd(stream, {"value": 7})
    pipe.execute()
    for stream in streams:
        pipe.xlen(f"foretick:{{{stream}}}:forecasts")
    wait_until(lambda: _lengths(client, streams) == {4}, 60)
    assert client.xinfo_groups("ticks:1999")[0]["lag"] == 0
    ids = [entry_id for entry_id, _ in client.xrange("ticks:77")]
    assert [entry_id for entry_id, _ in client.xrange("foretick:{ticks:77}:forecasts")] == ids
    assert len(loop.engines[0].state) == 2000
    labels = {
        sample.labels["stream"]
        for family in loop.telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "foretick_ticks_total"
    }
    assert len(labels) == 101


def _lengths(client: redis.Redis, streams: list[str]) -> set[int]:
    pipe = client.pipeline(transaction=False)
    for stream in streams:
        pipe.xlen(f"foretick:{{{stream}}}:forecasts")
    return set(pipe.execute())


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_stream_that_comes_is_read_from_its_beginning(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop], start: str
) -> None:
    loop = make_loop(redis_server.url, "a", start=start).start()
    push(client, 5, "a")
    push(client, 5, "b")
    loop.partition.wanted = keys_of("a", "b")
    wait_answered(client, "ab", 10)
    for stream in "ab":
        assert_exactly_once(client, stream)
    assert len(loop.engines) == 1


def test_a_stream_that_goes_is_read_no_more_and_not_made_again(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(redis_server.url, "a", "b").start()
    push(client, 5, "a")
    push(client, 5, "b")
    wait_answered(client, "ab", 10)
    wait_until(lambda: position(client, "b")[2] == 0)
    client.delete("b")
    loop.partition.wanted = keys_of("a")
    push(client, 5, "a")
    wait_answered(client, "ab", 15)
    assert not client.exists("b")
    assert loop.telemetry.registry.get_sample_value("foretick_stream_lag_ticks", {"stream": "b"}) is None


def test_a_stream_that_came_beside_a_key_that_is_none_is_read_at_once_and_that_key_when_it_is_one(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(redis_server.url, "a").start()
    client.set("c", "text")
    push(client, 5, "b")
    loop.partition.wanted = keys_of("a", "b", "c")
    wait_answered(client, "b", 5)
    wait_until(lambda: loop.partition.wanted == keys_of("a", "b"))  # so that the next rescan finds c missing
    client.delete("c")
    push(client, 5, "c")
    loop.partition.wanted = keys_of("a", "b", "c")
    wait_answered(client, "c", 5)
    for stream in ("b", "c"):
        assert_exactly_once(client, stream)


def test_a_stream_that_was_deleted_and_comes_back_goes_on_with_later_ids(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(redis_server.url, "a", "b").start()
    push(client, 5, "b")
    wait_answered(client, "b", 5)
    before = forecasts(client, "b")
    client.delete("b")
    loop.partition.wanted = keys_of("a")
    wait_until(lambda: len(loop.partition._streams) == 1)
    ids = push(client, 5, "b")
    loop.partition.wanted = keys_of("a", "b")
    wait_answered(client, "b", 10)
    assert [entry_id for entry_id, _ in forecasts(client, "b")] == [entry_id for entry_id, _ in before] + ids
    assert not client.keys("*aside*")
    assert len(loop.engines) == 1


def test_a_stream_that_comes_back_with_its_history_is_replayed_in_its_place(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(redis_server.url, "a", "b").start()
    push(client, 5, "b")
    wait_answered(client, "b", 5)
    client.rename("b", "elsewhere")
    loop.partition.wanted = keys_of("a")
    wait_until(lambda: len(loop.partition._streams) == 1)
    client.rename("elsewhere", "b")
    push(client, 5, "b")
    loop.partition.wanted = keys_of("a", "b")
    wait_answered(client, "b", 10)
    assert_exactly_once(client, "b")
    assert len(loop.engines) == 2


def test_a_foreign_entry_in_one_of_many_unwatched_streams_is_set_aside(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    streams = [f"t{i}" for i in range(100)]
    loop = make_loop(redis_server.url, *streams).start()
    assert loop.lease.guarded == ()
    push(client, 5, "t7")
    wait_answered(client, streams, 5)
    client.xadd("foretick:{t7}:forecasts", {"evil": "1"}, id="9999999999999-0")
    push(client, 5, "t7")
    push(client, 5, "t8")
    wait_until(lambda: len(forecasts(client, "t7")) == 10)
    assert_exactly_once(client, "t7")
    wait_until(lambda: len(forecasts(client, "t8")) == 5)
    assert len(client.keys("foretick:{t7}:forecasts:aside:*")) == 1


def test_an_owner_that_slept_through_anothers_whole_tenure_writes_nothing(
    client: redis.Redis, redis_server: Server, make_loop: Callable[..., Loop]
) -> None:
    """The lease is free again when it wakes: only the record of the last owner tells that its state is stale."""
    sleeper = make_loop(redis_server.url, "ticks", ttl_seconds=1.0)
    asleep, wake = threading.Event(), threading.Event()
    advance = Memory.advance

    def sleep(engine: Memory, ticks: Ticks) -> Forecasts:
        if len(sleeper.engines) == 1:
            asleep.set()
            wake.wait(20)
        return advance(engine, ticks)

    sleeper.engine = sleep
    sleeper.start()
    push(client, 5)
    assert asleep.wait(10)
    wait_until(lambda: client.get(LEASE) is None)
    other = make_loop(redis_server.url, "ticks", ttl_seconds=1.0).start()
    push(client, 5)
    wait_answered(client, ["ticks"], 10)
    before = client.xrange("foretick:{ticks}:forecasts")
    other.stop()
    wake.set()
    wait_until(lambda: sleeper.metric("lease_lost_total") == 1)
    push(client, 5)
    wait_answered(client, ["ticks"], 15)
    assert client.xrange("foretick:{ticks}:forecasts")[:10] == before
    assert_exactly_once(client)
    assert not client.keys("*aside*")


def test_fields_may_have_any_names(redis_server: Server, client: redis.Redis, make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(redis_server.url, "a", "b")
    loop.partition._fields = FieldNames(series="sensor", value="temperature", ts="at", ts_unit="s")
    loop.start()
    client.xadd("b", {"sensor": "x", "temperature": "3", "at": "1700000000", "value": "9"})
    wait_answered(client, "b", 1)
    _, fields = client.xrange("foretick:{b}:forecasts")[0]
    assert (fields[b"series"], fields[b"ts"], fields[b"y"]) == (b"x", b"1700000000000", b"3.0")
