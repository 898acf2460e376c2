"""Addresses of recorded streams, and what is read there."""

from __future__ import annotations

import pytest

from foretick.errors import UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.recordings_stream import PASS_ENTRIES, RecordedStream, is_address, parse_address
from foretick.ports.streams import HEAD


@pytest.mark.parametrize(
    ("text", "url", "stream"),
    [
        ("redis://h", "redis://h", None),
        ("redis://h/3", "redis://h/3", None),
        ("redis://h/0?stream=ticks", "redis://h/0", "ticks"),
        ("redis://h:1/ticks", "redis://h:1", "ticks"),
        ("redis://h:1/2/ticks", "redis://h:1/2", "ticks"),
        ("redis://h/ticks:a/b", "redis://h", "ticks:a/b"),
        ("redis://u:p%40@h/%7Bsite%7D:ticks", "redis://u:p%40@h", "{site}:ticks"),
        ("redis://h/0?db=4&stream=a%20b", "redis://h/0?db=4", "a b"),
        ("rediss://h/ticks?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=none", "ticks"),
        ("unix:///run/r.sock?db=1&stream=ticks", "unix:///run/r.sock?db=1", "ticks"),
        ("unix:///run/r.sock", "unix:///run/r.sock", None),
    ],
)
def test_an_address_is_a_server_and_a_stream(text, url, stream):
    assert is_address(text)
    found = parse_address(text)
    assert (found.url, found.stream) == (url, stream)


@pytest.mark.parametrize(
    "text",
    [
        "redis://u:hunter2@h/a?stream=b",
        "redis://h?stream=a&stream=b",
        "redis://h?stream=",
        "redis://u:hunter2[@h/a",
        "redis://u:hunter2\N{ACCOUNT OF}@h/a",
    ],
)
def test_an_address_that_is_none_or_of_two_streams_or_of_none_is_refused(text):
    with pytest.raises(UsageError, match="write redis://HOST:6379/0") as refused:
        parse_address(text)
    assert "hunter2" not in str(refused.value)


def test_files_are_no_addresses():
    assert not any(map(is_address, ["a.csv", "redis", "/redis://x", "./unix:"]))


def test_a_stream_is_read_whole_in_order_and_nothing_is_written(redis_server):
    client = redis_server.client()
    n = 2 * PASS_ENTRIES + 5
    pipe = client.pipeline(transaction=False)
    ids = [pipe.xadd("ticks", {"value": i}, id=f"1-{i + 1}") and f"1-{i + 1}".encode() for i in range(n)]
    pipe.execute()
    client.hset("foretick:{default}:checkpoint:skipped", mapping={b"ticks\x001-3": b"why", b"other\x001-4": b"why"})
    connection = RedisConnection(redis_server.url, timeout_seconds=5)
    connection.open()
    before = client.keys()
    stream = RecordedStream(connection, b"ticks", b"foretick")
    passes = list(stream.entries(HEAD, stream.top))
    assert [entry[0] for entries in passes for entry in entries] == ids
    assert stream.skipped == {b"1-3"}
    assert [len(entries) for entries in stream.entries(b"1-10", b"1-12")] == [2]
    assert sorted(client.keys()) == sorted(before)
    connection.close()


def test_a_stream_that_is_not_there_is_named(redis_server):
    connection = RedisConnection(redis_server.url, timeout_seconds=5)
    connection.open()
    with pytest.raises(UsageError, match="there is no stream ticks"):
        RecordedStream(connection, b"ticks", b"foretick")
    connection.close()
