"""Dead letters become ticks again, each once, whoever asks and whatever breaks."""

from __future__ import annotations

import threading

import pytest

from cutting import CuttingProxy
from foretick import cli
from foretick.ports.connection import RedisConnection
from foretick.ports.letters import BATCH_LETTERS, DeadLetters
from foretick.ports.wire import DeadLetter, dead_fields
from partitions import forecasts, position, run_loop
from servers import wait_until

pytestmark = pytest.mark.redis

DEAD = "foretick:{ticks}:dead"


@pytest.fixture
def resend(redis_server, tmp_path, monkeypatch, capsys):
    """Runs the verb in this process; its status and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, url=redis_server.url):
        status = cli.main(["resend", "--redis-url", url, *arguments])
        return status, capsys.readouterr().out

    return run


def bury(client, *letters):
    """Dead letters as the daemon writes them: reason and raw fields of each."""
    pipe = client.pipeline()
    for k, (reason, fields) in enumerate(letters, start=1):
        raw = [part if isinstance(part, bytes) else str(part).encode() for pair in fields.items() for part in pair]
        flat = dead_fields(DeadLetter(b"%d-0" % k, reason, "why", raw))
        pipe.execute_command("XADD", DEAD, f"{k}-0", *flat)
    pipe.execute()


def ticks(client):
    return [fields for _, fields in client.xrange("ticks")]


def test_each_is_a_new_entry_with_its_own_fields_and_no_letter_any_more(server, resend):
    client = server.client()
    bury(client, ("missing_field", {"series": "Öl", "price": "7", "ts": 5}), ("not_a_number", {"value": "a\nb"}))
    status, said = resend(url=server.url)
    assert status == 0
    assert said == "ticks: 2 dead letters sent again (missing_field 1, not_a_number 1)\n"
    assert ticks(client) == [{b"series": "Öl".encode(), b"price": b"7", b"ts": b"5"}, {b"value": b"a\nb"}]
    assert client.xlen(DEAD) == 0
    assert client.xinfo_stream(DEAD)["last-generated-id"] == b"2-0"  # the daemon still knows how far it wrote
    assert resend(url=server.url) == (0, "ticks: 0 dead letters sent again\n")


def test_what_would_be_dead_again_stays_unless_it_is_asked_for(redis_server, resend):
    client = redis_server.client()
    bury(client, ("late", {"value": 1}), ("duplicate", {"value": 2}), ("bad_ts", {"value": 3}))
    assert resend() == (
        0,
        "ticks: 1 dead letters sent again (bad_ts 1)\n  2 left alone (late 1, duplicate 1)\n",
    )
    assert resend("--reason", "late")[0] == 0
    assert ticks(client) == [{b"value": b"3"}, {b"value": b"1"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"value": "1" * 1001},
        {"x" * 1001: "1"},
        {f"f{k}": "1" for k in range(65)},
        {"value": b"\xff\xfe"},
        {b"na\xefve": "1"},
    ],
)
def test_a_letter_that_was_not_kept_whole_stays_and_is_counted(redis_server, resend, fields):
    client = redis_server.client()
    bury(client, ("too_large", fields))
    status, said = resend()
    assert status == 0
    assert "1 cannot be sent: their fields were not kept whole (too_large 1)" in said
    assert ticks(client) == []
    assert client.xlen(DEAD) == 1


def test_a_letter_kept_to_its_last_character_is_whole(redis_server, resend):
    bury(redis_server.client(), ("too_large", {"value": "1" * 1000} | {f"f{k}": "…" for k in range(63)}))
    assert resend()[0] == 0
    assert len(ticks(redis_server.client())[0]) == 64


def test_a_dry_run_tells_and_changes_nothing(redis_server, resend):
    client = redis_server.client()
    bury(client, *[("bad_ts", {"value": k}) for k in range(3)])
    assert resend("--dry-run", "--since", "2") == (0, "ticks: 2 dead letters would be sent again (bad_ts 2)\n")
    assert ticks(client) == []
    assert client.xlen(DEAD) == 3


def test_since_leaves_the_older_ones(redis_server, resend):
    client = redis_server.client()
    bury(client, *[("bad_ts", {"value": k}) for k in range(4)])
    assert resend("--since", "3-0")[0] == 0
    assert ticks(client) == [{b"value": b"2"}, {b"value": b"3"}]
    assert client.xlen(DEAD) == 2


def test_two_senders_at_once_send_each_letter_once_and_in_order(redis_server):
    client = redis_server.client()
    total = 12 * BATCH_LETTERS
    bury(client, *[("bad_ts", {"value": k}) for k in range(total)])
    sent = []

    def send():
        connection = RedisConnection(redis_server.url, timeout_seconds=5)
        connection.open()
        letters, begin = DeadLetters(connection, "ticks", "foretick"), b"-"
        while batch := letters.resend(begin, lambda letter: True):
            begin = batch.next
            sent.append(len(batch.sent))
        connection.close()

    senders = [threading.Thread(target=send) for _ in range(2)]
    for one in senders:
        one.start()
    for one in senders:
        one.join(30)
    assert sorted(int(fields[b"value"]) for fields in ticks(client)) == list(range(total))
    assert sum(sent) == total
    assert client.xlen(DEAD) == 0


@pytest.mark.parametrize(("side", "after_bytes"), [("request", 200), ("reply", 3)])
def test_a_connection_that_is_cut_in_the_middle_doubles_and_loses_nothing(redis_server, resend, side, after_bytes):
    client = redis_server.client()
    bury(client, *[("bad_ts", {"value": k}) for k in range(150)])
    proxy = CuttingProxy(redis_server.port)
    proxy.cut(side, after_bytes)
    status, said = resend(url=proxy.url)
    proxy.close()
    assert proxy.cuts == 1
    assert status == 0
    assert said == "ticks: 150 dead letters sent again (bad_ts 150)\n"
    assert ticks(client) == [{b"value": b"%d" % k} for k in range(150)]


def test_the_daemon_beside_it_answers_each_once_more(redis_server, resend):
    client = redis_server.client()
    for k in range(3 * BATCH_LETTERS):
        client.xadd("ticks", {"value": "abc" if k % 2 else k})
    loop = run_loop(redis_server)
    try:
        wait_until(lambda: client.xlen(DEAD) == 3 * BATCH_LETTERS // 2)
        status, said = resend()
        assert status == 0
        assert said.endswith("ticks: 150 dead letters sent again (not_a_number 150)\n")  # the loop logs before it
        wait_until(lambda: position(client)[2] == 0)
    finally:
        loop.stop()
    assert client.xlen("ticks") == 450
    assert len(forecasts(client)) == 150
    assert client.xlen(DEAD) == 150  # they are no better than they were


def test_letters_that_come_meanwhile_are_left_for_another_time(redis_server):
    client = redis_server.client()
    bury(client, ("bad_ts", {"value": 1}))
    connection = RedisConnection(redis_server.url, timeout_seconds=5)
    connection.open()
    letters = DeadLetters(connection, "ticks", "foretick")
    client.xadd(DEAD, {"reason": "bad_ts", "detail": "", "fields": '{"value": "1"}'}, id="9-0")
    batch = letters.resend(b"-", lambda letter: True)
    assert [one.id for one in batch.sent] == [b"1-0"]
    assert letters.resend(batch.next, lambda letter: True) is None
    assert client.xlen(DEAD) == 1
    connection.close()
