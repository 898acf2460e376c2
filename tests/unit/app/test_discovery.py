"""Which partitions streams form, and how they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from foretick.app import discovery
from foretick.app.discovery import Discovery, arrange
from foretick.ports.connection import RedisConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from servers import Server


def never(_stream: bytes) -> bool:
    return False


def test_streams_with_one_tag_are_one_partition_and_those_without_another() -> None:
    made = arrange([b"b", b"{s}:1", b"a", b"x{s}", b"{t}"], never)
    assert made.partitions == {b"default": (b"a", b"b"), b"s": (b"x{s}", b"{s}:1"), b"t": (b"{t}",)}
    assert made.refused == {}


def test_of_two_streams_with_one_output_the_one_without_braces_is_read() -> None:
    made = arrange([b"{a}", b"a"], never)
    assert made.partitions == {b"default": (b"a",)}
    assert list(made.refused) == [b"{a}"]


def test_of_two_streams_with_one_output_the_one_that_was_read_before_stays() -> None:
    made = arrange([b"{a}", b"a"], lambda stream: stream == b"{a}")
    assert made.partitions == {b"a": (b"{a}",)}
    assert list(made.refused) == [b"a"]


def test_the_tag_default_is_refused() -> None:
    made = arrange([b"{default}:x", b"a"], never)
    assert (made.partitions, list(made.refused)) == ({b"default": (b"a",)}, [b"{default}:x"])


@pytest.fixture
def connection(redis_server: Server) -> Iterator[RedisConnection]:
    made = RedisConnection(redis_server.url, timeout_seconds=5)
    made.open()
    yield made
    made.close()


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    return redis_server.client()


def look(found: Discovery, connection: RedisConnection) -> list[bytes]:
    found.pursue(connection)
    assert found.catalogue is not None
    return sorted(stream for streams in found.catalogue.partitions.values() for stream in streams)


@pytest.mark.redis
def test_globs_find_streams_only_and_never_our_own(client: redis.Redis, connection: RedisConnection) -> None:
    for key in ("ticks:a", "ticks:{b}", "other", "foretick:{ticks}:forecasts", "foretick:x"):
        client.xadd(key, {"value": 1})
    client.set("ticks:string", 1)
    assert look(Discovery(["ticks:*"], b"foretick"), connection) == [b"ticks:a", b"ticks:{b}"]
    assert look(Discovery(["*"], b"foretick"), connection) == [b"other", b"ticks:a", b"ticks:{b}"]
    assert look(Discovery(["tick[s]:?"], b"foretick"), connection) == [b"ticks:a"]


@pytest.mark.redis
def test_a_name_is_input_before_it_exists_but_not_as_another_type(
    client: redis.Redis, connection: RedisConnection
) -> None:
    client.set("b", 1)
    found = Discovery(["a", "b"], b"foretick")
    assert look(found, connection) == [b"a"]
    assert found.catalogue is not None
    assert found.catalogue.refused == {b"b": "it is a string, no stream"}


@pytest.mark.redis
def test_streams_that_come_and_go_are_seen_at_the_next_look(
    client: redis.Redis, connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.xadd("ticks:a", {"value": 1})
    found = Discovery(["ticks:*"], b"foretick")
    assert look(found, connection) == [b"ticks:a"]
    client.rename("ticks:a", "ticks:b")
    assert look(found, connection) == [b"ticks:a"]
    monkeypatch.setattr(discovery, "RESCAN_SECONDS", 0)
    assert look(found, connection) == [b"ticks:b"]


@pytest.mark.redis
def test_a_look_at_many_keys_takes_several_steps(
    client: redis.Redis, connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.mset({f"k{i}": 1 for i in range(5000)})
    client.xadd("ticks:a", {"value": 1})
    monkeypatch.setattr(discovery, "STEPS_AT_ONCE", 1)
    found = Discovery(["ticks:*"], b"foretick")
    found.pursue(connection)
    assert found.catalogue is None
    for _ in range(10):
        found.pursue(connection)
    assert look(found, connection) == [b"ticks:a"]
