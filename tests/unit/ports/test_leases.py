"""The lease against a real server: who held it meanwhile is noticed, whatever answers were lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from foretick.errors import LeaseLost
from foretick.ports.connection import RedisConnection
from foretick.ports.leases import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server

pytestmark = pytest.mark.redis
KEY, RECORD = b"foretick:{p}:lease", b"foretick:{p}:origin"


@pytest.fixture
def connection(redis_server: Server) -> Iterator[RedisConnection]:
    made = RedisConnection(redis_server.url, timeout_seconds=5)
    made.open()
    yield made
    made.close()


def lease(owner: str) -> Lease:
    return Lease(KEY, owner, 10_000, RECORD)


def test_a_lease_that_expired_is_taken_again_if_nobody_held_it_meanwhile(connection: RedisConnection) -> None:
    ours = lease("us")
    assert ours.take(connection)
    connection.call(b"DEL", KEY)
    ours.raise_fence(connection)
    assert ours.is_ours(connection.call(b"GET", KEY))


@pytest.mark.parametrize("answer", ["heard", "lost"])
def test_a_lease_that_another_held_meanwhile_is_lost_also_if_we_do_not_know_that_we_took_it_again(
    connection: RedisConnection, answer: str
) -> None:
    ours, theirs = lease("us"), lease("them")
    assert ours.take(connection)
    token = connection.call(b"GET", KEY)
    connection.call(b"DEL", KEY)
    assert theirs.take(connection)
    connection.call(b"DEL", KEY)
    if answer == "lost":  # our SET was carried out, and the connection broke before we heard of it
        connection.call(b"SET", KEY, token)
    with pytest.raises(LeaseLost, match="held by them"):
        ours.raise_fence(connection)
    assert connection.call(b"GET", KEY) is None, "the next owner need not wait for it to expire"


def test_a_taker_leaves_its_token_also_if_the_answer_to_the_taking_was_lost(connection: RedisConnection) -> None:
    former, ours = lease("former"), lease("us")
    assert former.take(connection)
    connection.call(b"DEL", KEY)
    assert ours.take(connection)
    connection.call(b"HSET", RECORD, b"", b"former 1")  # as if the connection had broken before we wrote there
    assert ours.take(connection)
    assert connection.call(b"HGET", RECORD, b"") == connection.call(b"GET", KEY)
