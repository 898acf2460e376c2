"""What the replies to a transaction amount to, and errors told apart by their first word."""

from __future__ import annotations

from typing import Any

import pytest

from foretick.errors import CommandFailed, ConnectionLost, ServerRefused, UsageError
from foretick.ports.connection import RedisConnection, explain, pack
from foretick.ports.streams import Commit, _judge, id_order

COMMIT = Commit([(b"XADD", b"f", b"1-0", b"a", b"b"), (b"XGROUP", b"SETID")])
QUEUED: list[Any] = [b"QUEUED"] * 3  # two commands and the renewal


@pytest.mark.parametrize(
    ("message", "kind", "word"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", ServerRefused, "OOM"),
        ("EXECABORT Transaction discarded because of: OOM command not allowed", ServerRefused, "OOM"),
        ("EXECABORT Transaction discarded because of previous errors.", CommandFailed, "EXECABORT"),
        ("READONLY You can't write against a read only replica.", ServerRefused, "READONLY"),
        ("MISCONF Redis is configured to save RDB snapshots", ServerRefused, "MISCONF"),
        ("NOAUTH Authentication required.", ServerRefused, "NOAUTH"),
        ("WRONGTYPE Operation against a key", CommandFailed, "WRONGTYPE"),
        ("ERR max number of clients reached", ServerRefused, "ERR"),
    ],
)
def test_an_error_reply_is_told_by_its_first_word(message: str, kind: type, word: str) -> None:
    error = explain(message)
    assert (type(error), error.word, str(error)) == (kind, word, message.partition("because of: ")[2] or message)


def test_a_nil_answer_means_that_the_fence_has_fallen() -> None:
    assert _judge(COMMIT, b"OK", QUEUED, None).fenced


def test_a_refused_transaction_names_the_command_that_was_refused() -> None:
    cause = ServerRefused("OOM", "OOM no")
    outcome = _judge(COMMIT, b"OK", [cause, b"QUEUED", b"QUEUED"], CommandFailed("EXECABORT", "EXECABORT"))
    assert outcome.refused is cause
    assert not outcome.is_committed


def test_a_failure_inside_is_found_beside_what_succeeded() -> None:
    error = CommandFailed("ERR", "ERR The ID specified in XADD is equal or smaller than the target stream top item")
    outcome = _judge(COMMIT, b"OK", QUEUED, [error, b"OK", 1])
    assert [(failure.command, failure.is_out_of_order) for failure in outcome.failures] == [(COMMIT.commands[0], True)]


def test_a_commit_is_through_when_every_reply_is_good() -> None:
    assert _judge(COMMIT, b"OK", QUEUED, [b"1-0", b"OK", 1]).is_committed


def test_replies_that_do_not_fit_are_never_taken_for_success() -> None:
    with pytest.raises(ConnectionLost):
        _judge(COMMIT, b"OK", QUEUED, [b"1-0"])


def test_ids_are_ordered_as_numbers() -> None:
    assert id_order(b"9-10") < id_order(b"10-2") < id_order(b"10-11")


def test_commands_are_packed_as_one_request() -> None:
    assert pack([(b"GET", "k"), (b"PEXPIRE", b"k", 5)]) == (
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$7\r\nPEXPIRE\r\n$1\r\nk\r\n$1\r\n5\r\n"
    )


def test_a_url_of_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        RedisConnection("http://x", timeout_seconds=1)


def test_a_closed_connection_is_a_lost_one() -> None:
    connection = RedisConnection("redis://127.0.0.1:1/0", timeout_seconds=1)
    for act in (connection.open, lambda: connection.send(b"x"), connection.read):
        with pytest.raises(ConnectionLost):
            act()
