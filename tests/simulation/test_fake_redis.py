"""The fake server against the real one: the same requests, byte for byte, get the same replies."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import hiredis
import pytest
from fake_redis import FakeRedis, Session

from foretick.errors import CommandFailed, ServerRefused
from foretick.ports.connection import RedisConnection, explain, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.ports.connection import Command
    from servers import Server

pytestmark = pytest.mark.redis
KEYS = [b"s1", b"s2", b"h", b"t", b"set"]
IDS = [b"1-0", b"1-1", b"2-5", b"3-0", b"7-0", b"9"]
GROUP = b"foretick"
# Facts of XINFO that foretick does not read, or that a server of one minor version tells and another does not.
UNREAD = {b"radix-tree-keys", b"radix-tree-nodes", b"recorded-first-entry-id", b"groups", b"last-entry"}


@pytest.fixture
def connections(redis_server: Server) -> Iterator[list[RedisConnection]]:
    made = [RedisConnection(redis_server.url, timeout_seconds=5) for _ in range(2)]
    for one in made:
        one.open()
    yield made
    for one in made:
        one.close()


def any_command(rng: random.Random) -> Command:
    stream, key = rng.choice(KEYS[:2] + KEYS[:1] + [b"t"]), rng.choice(KEYS)
    entry_id, other = rng.choice(IDS), rng.choice(IDS)
    commands: list[Command] = [
        (b"XADD", stream, entry_id, b"a", b"1", b"b", b"\xff\r\n"),
        (b"XADD", stream, b"*", b"a", b"x" * 300),
        (b"XADD", stream, b"%d-0" % rng.randint(10, 10_000), b"a", b"1"),
        (b"XLEN", stream),
        (b"XRANGE", stream, entry_id, other),
        (b"XRANGE", stream, b"(" + entry_id, other, b"COUNT", 2),
        (b"XRANGE", stream, b"-", b"+"),
        (b"XREAD", b"COUNT", 3, b"STREAMS", b"s1", b"s2", entry_id, other),
        (b"XREAD", b"COUNT", 3, b"BLOCK", 1, b"STREAMS", b"s1", b"9999999999999999-0"),
        (b"XTRIM", stream, b"MAXLEN", b"~", 1),
        (b"XTRIM", stream, b"MAXLEN", b"=", 2),
        (b"XINFO", b"STREAM", stream),
        (b"XINFO", b"GROUPS", stream),
        (b"XGROUP", b"CREATE", stream, GROUP, entry_id, b"ENTRIESREAD", 2),
        (b"XGROUP", b"CREATE", stream, GROUP, entry_id, b"MKSTREAM", b"ENTRIESREAD", 1),
        (b"XGROUP", b"SETID", stream, GROUP, entry_id, b"ENTRIESREAD", 1),
        (b"XGROUP", b"DESTROY", stream, GROUP),
        (b"SET", b"t", b"v"),
        (b"SET", key, b"w", b"NX", b"PX", 60_000),
        (b"SET", b"t", b"brief", b"PX", 1),
        (b"GET", key),
        (b"GETRANGE", b"t", 0, 100),
        (b"PEXPIRE", key, 60_000),
        (b"DEL", key),
        (b"UNLINK", key),
        (b"EXISTS", key),
        (b"RENAME", key, rng.choice(KEYS)),
        (b"HSET", b"h", rng.choice([b"", b"x", b"y"]), b"1", b"z", b"2"),
        (b"HSET", key, b"x", b"1"),
        (b"HSETNX", b"h", rng.choice([b"x", b"y"]), b"3"),
        (b"HGET", key, b"x"),
        (b"HGETALL", key),
        (b"HDEL", key, b"x", b"y"),
        (b"SADD", b"set", rng.choice([b"a", b"b"])),
        (b"SADD", key, b"a"),
        (b"SREM", b"set", rng.choice([b"a", b"b"])),
        (b"SMEMBERS", b"set"),
        (b"PING",),
    ]
    return rng.choice(commands)


def any_request(rng: random.Random) -> list[Command]:
    """One command, a transaction, or a watch that the transaction after it may trip over."""
    shape = rng.random()
    if shape < 0.7:
        return [any_command(rng)]
    watch: list[Command] = [(b"WATCH", rng.choice(KEYS), rng.choice(KEYS))] if shape < 0.9 else []
    between = [any_command(rng)] if shape < 0.8 else []
    ending: Command = (b"UNWATCH",) if shape > 0.97 else (b"MULTI",)
    inside = [command for command in (any_command(rng) for _ in range(3)) if command[0] != b"XREAD"]
    return [*watch, *between, ending, *inside, *([(b"EXEC",)] if ending == (b"MULTI",) else [])]


class Fake:
    """The fake, asked as a server is."""

    def __init__(self) -> None:
        self.server = FakeRedis(lambda: time.time() * 1000)
        self.sessions = [Session(), Session()]

    def ask(self, who: int, request: list[Command]) -> list[Any]:
        reader: Any = hiredis.Reader(replyError=explain)
        session = self.sessions[who]
        replies = self.server.feed(session, pack(request))
        while session.waiting or session.unread:
            replies += self.server.go_on(session)
        reader.feed(replies)
        return [reader.gets() for _ in request]


def shown(command: Command, reply: Any) -> Any:
    """What of a reply can be compared."""
    if isinstance(reply, CommandFailed | ServerRefused):
        return "error", str(reply).partition(" Note that")[0]
    if command[0] == b"XINFO" and isinstance(reply, list):
        return _facts(reply) if command[1] == b"STREAM" else [_facts(group) for group in reply]
    if command[0] in {b"SMEMBERS", b"HGETALL"} and isinstance(reply, list):
        return sorted(reply)
    return reply


def _facts(flat: list[Any]) -> dict[bytes, Any]:
    facts = dict(zip(flat[::2], flat[1::2], strict=True))
    if isinstance(facts.get(b"lag"), int | None):
        facts.pop(b"lag", None)  # redis guesses where we count
    return {name: value for name, value in facts.items() if name not in UNREAD}


@pytest.mark.parametrize("seed", range(8))
def test_the_fake_answers_as_redis_does(connections: list[RedisConnection], seed: int) -> None:
    rng, fake = random.Random(seed), Fake()
    for _ in range(250):
        who, request = rng.randrange(2), any_request(rng)
        if any(command[-1] == b"*" or command[2:3] == (b"*",) for command in request):
            continue  # ids by the clock differ by a millisecond
        theirs, ours = connections[who].call_all(request), fake.ask(who, request)
        if any(command[:3] == (b"SET", b"t", b"brief") for command in request):
            time.sleep(0.003)  # until it has expired on both, which is what is to be compared next
        for command, their, our in zip(request, theirs, ours, strict=True):
            if command[0] == b"EXEC" and isinstance(their, list) and isinstance(our, list):
                inside = request[request.index((b"MULTI",)) + 1 : -1]
                assert [shown(*one) for one in zip(inside, our, strict=True)] == [
                    shown(*one) for one in zip(inside, their, strict=True)
                ], request
            else:
                assert shown(command, our) == shown(command, their), (command, request)


@pytest.mark.parametrize("word", ["OOM", "READONLY", "NOREPLICAS"])
def test_the_fake_refuses_what_redis_refuses(
    redis_server: Server, connections: list[RedisConnection], word: str
) -> None:
    setting = {"OOM": ("maxmemory", 1), "READONLY": ("", 0), "NOREPLICAS": ("min-replicas-to-write", 1)}[word]
    client, fake, rng = redis_server.client(), Fake(), random.Random(word)
    if word == "READONLY":
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        client.config_set(*setting)
    fake.server.refusal = word
    for _ in range(150):
        request = any_request(rng)
        theirs, ours = connections[0].call_all(request), fake.ask(0, request)
        for command, their, our in zip(request, theirs, ours, strict=True):
            assert _is_refused(our, word) == _is_refused(their, word), (command, our, their)
    if word == "READONLY":
        client.execute_command("REPLICAOF", "NO", "ONE")


def _is_refused(reply: Any, word: str) -> bool:
    return isinstance(reply, ServerRefused) and reply.word == word
