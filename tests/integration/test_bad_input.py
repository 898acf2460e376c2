"""Bad input through a whole daemon: a dead letter, or a log line and a metric, and no good tick beside it lost."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from recount import Recount, answers, events, is_drained, recount, total
from servers import DaemonProcess, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

pytestmark = pytest.mark.redis

FORECASTS, DEAD = "foretick:{ticks}:forecasts", "foretick:{ticks}:dead"
MEGABYTE = 1 << 20
QUICK = {"model__hidden": 8, "learn__enabled": False, "lease__ttl": "1s"}  # what these tests are about is no model
AHEAD = 86_400_000 + 600_000  # ms; a day and, for a slow test, ten minutes
FAR = "99999999999999-0"  # an entry id of the year 5138

# Fields that replace those of a sound tick (None takes one away), and the reason of the dead letter.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no value": ({"value": None}, "missing_field"),
    "another name for the value": ({"value": None, "Value": "1"}, "missing_field"),
    "words": ({"value": "warm"}, "not_a_number"),
    "an empty value": ({"value": ""}, "not_a_number"),
    "a blank before": ({"value": " 1"}, "not_a_number"),
    "a line end after": ({"value": "1\n"}, "not_a_number"),
    "a decimal comma": ({"value": "1,5"}, "not_a_number"),
    "underscores": ({"value": "1_000"}, "not_a_number"),
    "hexadecimal": ({"value": "0x1p3"}, "not_a_number"),
    "digits of another script": ({"value": "١٢٣"}, "not_a_number"),
    "true": ({"value": "true"}, "not_a_number"),
    "a zero byte": ({"value": b"1\x00"}, "not_a_number"),
    "a value that is not UTF-8": ({"value": b"\xff\xfe\xfd"}, "not_a_number"),
    "NaN": ({"value": "NaN"}, "out_of_range"),
    "inf": ({"value": "inf"}, "out_of_range"),
    "-Infinity": ({"value": "-Infinity"}, "out_of_range"),
    "1e308": ({"value": "1e308"}, "out_of_range"),
    "1e999": ({"value": "1e999"}, "out_of_range"),
    "just above the limit": ({"value": "-1.0000000000000002e30"}, "out_of_range"),
    "a value of 1 MB": ({"value": "1" * MEGABYTE}, "too_large"),
    "garbage of 1 MB": ({"value": b"\xf0\x9f" * (MEGABYTE // 2)}, "too_large"),
    "an empty series": ({"series": ""}, "bad_series"),
    "a series of 201 bytes": ({"series": "s" * 201}, "bad_series"),
    "a series of 1 MB": ({"series": "s" * MEGABYTE}, "bad_series"),
    "a series that is not UTF-8": ({"series": b"caf\xe9"}, "bad_series"),
    "half a surrogate pair": ({"series": b"\xed\xa0\x80"}, "bad_series"),
    "a line end in the series": ({"series": "boiler\n7"}, "bad_series"),
    "an escape in the series": ({"series": "\x1b[31mred"}, "bad_series"),
    "a zero byte in the series": ({"series": "a\x00b"}, "bad_series"),
    "DEL in the series": ({"series": "a\x7f"}, "bad_series"),
    "a C1 control in the series": ({"series": "a\x85b"}, "bad_series"),
    "a time before the epoch": ({"ts": "-1"}, "bad_ts"),
    "a time that is a fraction": ({"ts": "1700000000000.5"}, "bad_ts"),
    "a time in words": ({"ts": "now"}, "bad_ts"),
    "an empty time": ({"ts": ""}, "bad_ts"),
    "a time in microseconds": ({"ts": "1700000000000000"}, "bad_ts"),
    "a time beyond int64": ({"ts": "9223372036854775808"}, "bad_ts"),
    "a time of 1 MB": ({"ts": "9" * MEGABYTE}, "bad_ts"),
    "a time that is not UTF-8": ({"ts": b"\xb2\xb3"}, "bad_ts"),
}

GOOD: dict[str, dict[str, Any]] = {
    "the largest value": {"value": "1e30"},
    "the smallest value": {"value": "-1e30"},
    "a denormal": {"value": "5e-324"},
    "minus zero": {"value": "-0"},
    "a value of 400 bytes": {"value": "0." + "3" * 398},
    "a plus and a bare point": {"value": "+7."},
    "a series of 200 bytes": {"series": "é" * 100},
    "a series that looks like a template": {"series": '%s %(x)d {0} "q" \\ \u2028 ’'},
    "a series that looks like RESP": {"series": "*3 $3 SET"},
    "a series beyond the BMP": {"series": "🌡️"},
    "time zero": {"ts": "0"},
    "an unknown field of 1 MB": {"note": b"\x00\xff" * (MEGABYTE // 2)},
    "a hundred unknown fields": {f"f{i}": b"\xff" for i in range(100)},
    "an empty field name": {"": ""},
}

numbers = itertools.count()  # every test its own series: they share one daemon


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Server, DaemonProcess]]:
    server = Server("redis").start()
    daemon = DaemonProcess(server.url, **QUICK | {"learn__enabled": True})
    try:
        yield server, daemon.start()
        assert daemon.returncode is None, daemon.output()
        strange = {"stray", "bug"} & {line["event"] for line in events(daemon.output())}
        assert not strange, daemon.output()
        assert recount(server.client()).faults() == []
        assert daemon.terminate(5) == 0
    finally:
        daemon.discard()
        server.discard()


@pytest.fixture
def client(shared: tuple[Server, DaemonProcess]) -> redis.Redis:
    return shared[0].client()


@pytest.fixture
def daemon(shared: tuple[Server, DaemonProcess]) -> DaemonProcess:
    return shared[1]


@pytest.fixture
def start(start_daemon: Callable[..., DaemonProcess]) -> Callable[..., DaemonProcess]:
    return lambda server, **options: start_daemon(server.url, **QUICK | options)


def tick(series: str, /, **changes: Any) -> dict[str, Any]:
    fields = {"series": series, "value": "1.5"} | changes
    return {name: value for name, value in fields.items() if value is not None}


def push(client: redis.Redis, *ticks: dict[str, Any]) -> list[bytes]:
    pipe = client.pipeline(transaction=False)
    for fields in ticks:
        pipe.xadd("ticks", fields)
    return pipe.execute()


def drained(client: redis.Redis) -> Recount:
    """The recount once everything that was pushed is answered."""
    wait_until(lambda: is_drained(client), 30, "the drain")
    return recount(client)


def dead_total(daemon: DaemonProcess, **labels: str) -> float:
    return total(daemon.get("/metrics")[1], "dead_letters_total", stream="ticks", **labels)


@pytest.mark.parametrize("beside", [1, 40], ids=["alone", "in a batch"])
@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_an_unusable_entry_becomes_a_dead_letter_and_its_neighbours_are_answered(
    client: redis.Redis, daemon: DaemonProcess, changes: dict[str, Any], reason: str, beside: int
) -> None:
    series = f"bad{next(numbers)}"
    before = dead_total(daemon, reason=reason)
    bad = tick(series, **changes)
    ids = push(client, *[tick(series)] * beside, bad, *[tick(series)] * beside)
    found = drained(client)
    assert found.faults() == []
    assert {entry_id: found.reasons.get(entry_id) for entry_id in ids} == dict.fromkeys(ids) | {ids[beside]: reason}
    letter = dict(found.dead)[ids[beside]]
    assert letter[b"detail"]
    shown = json.loads(letter[b"fields"])
    assert set(shown) == set(bad)
    assert sum(map(len, letter.values())) < 20_000
    wait_until(lambda: dead_total(daemon, reason=reason) == before + 1, what="the metric")


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD)
def test_an_odd_but_sound_entry_is_answered(client: redis.Redis, changes: dict[str, Any]) -> None:
    series = f"odd{next(numbers)}"
    ids = push(client, tick(series, **changes), tick(series))
    found = drained(client)
    assert found.faults() == []
    assert set(ids) <= {entry_id for entry_id, _ in found.forecasts}


def test_of_a_field_that_comes_twice_the_first_counts(client: redis.Redis) -> None:
    series = f"twice{next(numbers)}"
    entry_id = client.execute_command("XADD", "ticks", "*", "series", series, "value", "3", "value", "words")
    answer = dict(drained_forecasts(client))[entry_id]
    assert (answer[b"series"], float(answer[b"y"])) == (series.encode(), 3.0)


def drained_forecasts(client: redis.Redis) -> list[Any]:
    wait_until(lambda: is_drained(client), 30, "the drain")
    return client.xrange(FORECASTS)


def test_an_entry_without_a_series_belongs_to_the_series_of_the_streams_name(client: redis.Redis) -> None:
    ids = push(client, {"value": "2"}, {"foo": "bar"}, {"value": "3"})
    found = drained(client)
    assert [found.reasons.get(entry_id) for entry_id in ids] == [None, "missing_field", None]
    assert dict(found.forecasts)[ids[2]][b"series"] == b"ticks"


def test_a_time_more_than_a_day_ahead_is_refused_and_one_a_little_less_is_taken(client: redis.Redis) -> None:
    series = f"ahead{next(numbers)}"
    now_ms = int(client.time()[0]) * 1000
    ids = push(client, tick(series, ts=now_ms + AHEAD), tick(series, ts=now_ms + AHEAD - 1_200_000))
    assert [drained(client).reasons.get(entry_id) for entry_id in ids] == ["bad_ts", None]


def test_late_and_duplicate_ticks_are_refused_until_the_seventeenth_late_one_restarts_the_series(
    client: redis.Redis, daemon: DaemonProcess
) -> None:
    series = f"late{next(numbers)}"
    times = [1000 + i for i in range(20)] + [1019, 1018, 1019, 1020]  # warm, then a duplicate, a late one, a duplicate
    times += [500 + i for i in range(16)] + [600, 600, 601]  # 16 late ones, the restart, a duplicate after it
    reasons = [None] * 20 + ["duplicate", "late", "duplicate", None] + ["late"] * 16 + [None, "duplicate", None]
    ids = push(client, *[tick(series, ts=ts, value=i) for i, ts in enumerate(times)])
    found = drained(client)
    assert [found.reasons.get(entry_id) for entry_id in ids] == reasons
    stages = {entry_id: fields[b"stage"] for entry_id, fields in found.forecasts}
    assert stages[ids[23]] == b"warm"
    assert stages[ids[40]] == b"cold"
    wait_until(lambda: dead_total(daemon, reason="late") == Counter(found.reasons.values())["late"], what="the metric")


def test_a_run_of_late_ticks_that_a_good_one_breaks_restarts_nothing(client: redis.Redis) -> None:
    series = f"broken{next(numbers)}"
    times = [1000, *[500] * 16, 1001, *[500] * 16, 1002]
    ids = push(client, *[tick(series, ts=ts) for ts in times])
    found = drained(client)
    assert [found.reasons.get(entry_id) for entry_id in ids] == [None, *["late"] * 16, None, *["late"] * 16, None]


def test_ticks_without_a_time_of_their_own_are_never_late(client: redis.Redis) -> None:
    series = f"timeless{next(numbers)}"
    ids = push(client, *[tick(series, value=i) for i in range(50)])  # many in one millisecond
    assert not set(ids) & set(drained(client).reasons)


def test_the_metrics_agree_with_the_streams_after_all_that(client: redis.Redis, daemon: DaemonProcess) -> None:
    push(client, *[tick(f"end{i % 3}", value=i * i % 17) for i in range(100)], tick("end0", value="x"))
    found = drained(client)
    wait_until(lambda: total(daemon.get("/metrics")[1], "ticks_total") == len(found.entries), what="ticks_total")
    page = daemon.get("/metrics")[1]
    assert total(page, "forecasts_total") == len(found.forecasts)
    assert total(page, "dead_letters_total") == len(found.dead)
    scores = found.scores()
    assert {name: total(page, name) for name in scores} == pytest.approx(scores, rel=1e-9)


# What follows happens to keys, so each test has a daemon and an empty server of its own.


def assert_one_line(daemon: DaemonProcess, event: str) -> dict[str, Any]:
    """The log tells it once."""
    lines = events(daemon.output(), event)
    assert len(lines) == 1, daemon.output()
    return lines[0]


def assert_sound(daemon: DaemonProcess) -> None:
    """It still runs, said nothing strange, and stops cleanly."""
    assert daemon.get("/readyz")[0] == 200
    assert not {"stray", "bug"} & {line["event"] for line in events(daemon.output())}, daemon.output()
    assert daemon.terminate(5) == 0


def unanswered(client: redis.Redis) -> set[bytes]:
    """Entries that have no answer, not even in a stream that was set aside."""
    found = recount(client)
    kept = [entry for key in found.aside for entry in client.xrange(key)]
    answered = {entry_id for entry_id, _ in [*kept, *found.forecasts, *found.dead]}
    return {entry_id for entry_id, _ in found.entries} - answered


def some(n: int = 20) -> list[dict[str, Any]]:
    return [tick(f"s{i % 3}", value=i * 7 % 10) for i in range(n)]


def test_a_key_of_another_type_in_place_of_the_stream_is_waited_for(
    redis_server: Server, start: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    client.set("ticks", "a string")
    daemon = start(redis_server, ready=False)
    wait_until(lambda: "it is a string, no stream" in daemon.get("/readyz?verbose")[1], 60, "the reason")
    assert daemon.get("/readyz")[0] == 503
    client.delete("ticks")
    push(client, *some())
    assert drained(client).faults() == []
    wait_until(lambda: daemon.get("/readyz")[0] == 200, what="readiness")
    assert "it is a string, no stream" in assert_one_line(daemon, "stream_refused")["reason"]

    client.delete("ticks")
    client.rpush("ticks", "a list")
    wait_until(lambda: daemon.get("/readyz")[0] == 503, what="the end of readiness")
    client.delete("ticks")
    ids = push(client, *some())
    wait_until(lambda: is_drained(client), what="the drain")
    assert [entry_id for entry_id, _ in client.xrange(FORECASTS)][-20:] == ids
    wait_until(lambda: daemon.get("/readyz")[0] == 200, what="readiness")
    assert len(events(daemon.output(), "input_unusable")) == 1
    assert_sound(daemon)


def test_a_deleted_stream_and_a_destroyed_group_cost_no_tick(
    redis_server: Server, start: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    daemon = start(redis_server)
    push(client, *some())
    drained(client)
    assert client.xgroup_destroy("ticks", "foretick")
    push(client, *some())
    wait_until(lambda: answers(client) == 40, what="40 answers")
    assert drained(client).faults() == []
    assert_one_line(daemon, "group_destroyed")

    first = client.xrange(FORECASTS)
    client.delete("ticks")
    ids = push(client, *some(), tick("s0", value="x"))
    wait_until(lambda: answers(client) == 61, what="61 answers")
    assert client.xrange(FORECASTS)[:40] == first
    assert [entry_id for entry_id, _ in client.xrange(FORECASTS)[40:]] == ids[:-1]
    wait_until(lambda: is_drained(client), what="the drain")
    assert total(daemon.get("/metrics")[1], "position_regressions_total") == 0
    assert_sound(daemon)


def test_a_foreign_entry_in_our_streams_from_before_the_start_is_set_aside(
    redis_server: Server, start: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    for key in (FORECASTS, DEAD):
        client.xadd(key, {"written": "by somebody else"}, id=FAR)
    push(client, *some(), tick("s0", value="x"))
    daemon = start(redis_server)
    found = drained(client)
    assert found.faults() == []
    assert len(found.aside) == 2
    assert all(client.xrange(key)[0][0] == FAR.encode() for key in found.aside)
    assert len(events(daemon.output(), "stream_set_aside")) == 2
    assert_sound(daemon)


def test_a_foreign_entry_in_our_streams_while_running_is_set_aside(
    redis_server: Server, start: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    daemon = start(redis_server)
    push(client, *some(), tick("s0", value="x"))
    drained(client)
    for key in (FORECASTS, DEAD):
        client.xadd(key, {"written": "by somebody else"}, id=FAR)
    push(client, *some(), tick("s0", value="x"))
    wait_until(lambda: not unanswered(client), what="an answer to every entry")
    found = recount(client)
    assert len(found.aside) == 2
    assert [entry_id for entry_id, _ in [*found.forecasts, *found.dead]] == [i for i, _ in found.entries[21:]]
    assert len(events(daemon.output(), "stream_set_aside")) == 2
    assert_sound(daemon)


def test_a_stream_made_anew_with_lower_ids_is_read_from_its_beginning(
    redis_server: Server, start: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    daemon = start(redis_server)
    push(client, *some())
    absurd = client.xadd("ticks", tick("s0"), id=f"{1 << 60}-0")  # a producer with its own ids, and a bug
    found = drained(client)
    assert found.faults() == []
    assert found.reasons == {absurd: "bad_ts"}
    client.delete("ticks")  # the operator's way out: from here on `*` would only give ids beyond the absurd one
    push(client, *some())
    wait_until(lambda: client.exists(FORECASTS) and client.xlen(FORECASTS) == 20 and is_drained(client), what="answers")
    found = recount(client)
    assert found.faults() == []
    assert len(found.aside) == 2
    wait_until(lambda: daemon.get("/readyz")[0] == 200, what="readiness")
    assert total(daemon.get("/metrics")[1], "position_regressions_total") == 1
    assert_one_line(daemon, "input_recreated")
    assert_sound(daemon)
