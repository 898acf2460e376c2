"""Replies that are known beforehand are compared as bytes; any other is read, wherever the difference is."""

from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foretick.errors import CommandFailed, ConnectionLost
from foretick.ports.connection import RedisConnection, pack
from foretick.ports.leases import Lease
from foretick.ports.streams import Commit, Exchange
from foretick.ports.wire import Packed

REPLIES = [b"+OK\r\n", b"+QUEUED\r\n", b"$-1\r\n", b"$15\r\n1763712000000-7\r\n", b":1\r\n", b"-ERR no\r\n"]
XADDS = [(b"XADD", b"f", b"1-0", b"yhat", b"1.0"), (b"XADD", b"f", b"1-1", b"yhat", b"2.0")]
MOVE = (b"XGROUP", b"SETID", b"t", b"foretick", b"1-1", b"ENTRIESREAD", 2)


@pytest.fixture(scope="module")
def line():
    """A connection, and what stands in the server's place."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = RedisConnection(f"redis://127.0.0.1:{listening.getsockname()[1]}", timeout_seconds=5)
        connection._route = type("Route", (), {"session": lambda *_: Session(listening), "doubt": lambda _: None})()
        connection.open()
        yield connection, connection._session.server
        connection.close()


class Session:
    """In the place of redis-py's, which would introduce itself."""

    def __init__(self, listening):
        self._sock = socket.create_connection(listening.getsockname())
        self._sock.settimeout(5)
        self.server = listening.accept()[0]

    def disconnect(self):
        self._sock.close()
        self.server.close()


def text(reply):
    return str(reply) if isinstance(reply, CommandFailed) else reply


def read_all(connection, replies):
    return [text(connection.read()) for _ in replies]


@given(st.lists(st.sampled_from(REPLIES), min_size=1), st.lists(st.sampled_from(REPLIES), min_size=1))
@example([b"+OK\r\n"], [b"+OK\r\n", b"+OK\r\n"])
@example([b"+OK\r\n", b"-ERR no\r\n"], [b"+OK\r\n", b"+QUEUED\r\n"])
def test_replies_are_taken_only_if_they_are_the_expected_ones(line, sent, expected):
    connection, server = line
    is_prefix = sent[: len(expected)] == expected
    if len(sent) < len(expected) and expected[: len(sent)] == sent:
        sent, is_prefix = expected, True  # nothing more would come
    server.sendall(b"".join(sent))
    assert connection.take(b"".join(expected)) == is_prefix
    rest = sent[len(expected) :] if is_prefix else sent
    server.sendall(b"".join(sent))
    assert read_all(connection, [*rest, *sent]) == [read_one(one) for one in [*rest, *sent]]


def read_one(raw):
    """What a reply means."""
    kind, body = raw[:1], raw[1:-2]
    if kind == b"$":
        return None if body == b"-1" else body.partition(b"\r\n")[2]
    return {b"+": bytes, b":": int, b"-": bytes.decode}[kind](body)


def test_more_replies_than_the_buffer_holds_are_taken_piece_by_piece(line):
    connection, server = line
    expected = b"+QUEUED\r\n" * 100_000
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    server.sendall(expected + b"+OK\r\n")
    assert connection.take(expected)
    assert connection.read() == b"OK"


@pytest.mark.parametrize("failing", [None, 0, 1, 2, 3])
def test_a_commit_knows_which_of_its_packed_commands_failed(line, failing):
    connection, server = line
    lease = Lease(b"lease", "me", 1000, b"record")
    known = b"$3\r\n1-0\r\n$3\r\n1-1\r\n"
    commit = Commit([MOVE], [Packed(pack(XADDS), 2, known)], [Packed(pack([(b"HSET", b"l", b"a", b"{}")]), 1)])
    answers = [b"$3\r\n1-0\r\n", b"$3\r\n1-1\r\n", b":1\r\n", b"+OK\r\n", b":1\r\n"]
    if failing is not None:
        answers[failing] = b"-WRONGTYPE no\r\n"
    server.sendall(b"+OK\r\n" + b"+QUEUED\r\n" * 5 + b"*5\r\n" + b"".join(answers))
    outcome = Exchange(connection, lease).read_outcome(commit)
    commands = [*XADDS, (b"HSET", b"l", b"a", b"{}"), MOVE]
    assert [failure.command for failure in outcome.failures] == ([] if failing is None else [commands[failing]])
    assert outcome.is_committed == (failing is None)


@pytest.mark.parametrize("answer", [b"*-1\r\n", b"-EXECABORT Transaction discarded because of previous errors.\r\n"])
def test_a_commit_that_was_not_carried_out_is_told(line, answer):
    connection, server = line
    commit = Commit([], [Packed(pack(XADDS), 2, b"$3\r\n1-0\r\n$3\r\n1-1\r\n")])
    refusal = b"-OOM no\r\n" if b"ABORT" in answer else b"+QUEUED\r\n"
    server.sendall(b"+OK\r\n+QUEUED\r\n" + refusal + b"+QUEUED\r\n" + answer)
    outcome = Exchange(connection, Lease(b"lease", "me", 1000, b"record")).read_outcome(commit)
    assert (outcome.fenced, outcome.refused is not None) == (answer == b"*-1\r\n", answer != b"*-1\r\n")
    assert [command[0] for command in commit.publications] == [b"XADD", b"XADD"]


def test_a_connection_that_ends_in_the_middle_is_lost():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = RedisConnection("redis://127.0.0.1", timeout_seconds=5)
        connection._route = type("Route", (), {"session": lambda *_: Session(listening)})()
        connection.open()
        connection._session.server.sendall(b"+OK\r\n+QUE")
        connection._session.server.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLost):
            connection.take(b"+OK\r\n+QUEUED\r\n")
        connection.close()
