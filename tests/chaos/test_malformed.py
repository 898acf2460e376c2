"""Entries as no producer should write them, by the thousand: each is answered by a forecast or a dead letter.

`make chaos MALFORMED=100000` takes that many; `FORETICK_TEST_SEED=…` repeats them.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from forked import ForkedDaemon
from recount import events, is_drained, recount, total
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = [pytest.mark.redis, pytest.mark.chaos, pytest.mark.timeout(3600)]

SHORT = 3_000
ENTRIES = int(os.environ.get("FORETICK_TEST_MALFORMED") or SHORT)
SEED = os.environ.get("FORETICK_TEST_SEED") or secrets.token_hex(4)
AT_ONCE = 500
AHEAD_MAX = 5_000  # entries that the daemon may lag behind, so that the giants do not fill the memory
GIANT_SHARE = 0.002
SOUND_SHARE = 0.2  # among whom the others must do no harm
GIANT_BYTES = 300_000
SERIES = 25

NUMBERS = (
    *("0", "-0", "1e30", "-1e30", "1.0000000000000002e30", "1e31", "5e-324", "1e-400", "1e400", "nan", "-nan", "+NaN"),
    *(
        "inf",
        "-Infinity",
        "infinity",
        "1_000",
        "1,5",
        " 1",
        "1 ",
        "1\n",
        "\t1",
        "0x10",
        "1e",
        "e1",
        "1e+",
        ".",
        "+",
        "-",
    ),
    *(
        "+.5",
        "5.",
        "--1",
        "1..2",
        "1e1e1",
        "١٢",
        "½",
        "1\x00",
        "1\u200b",
        "NULL",
        "None",
        "true",
        "[]",
        "{}",
        '"1"',
        "",
    ),
    *("9" * 309, "9" * 400, "9" * 401, "0." + "0" * 397 + "1", "1e" + "9" * 300, "0" * 399 + "1", "1" * 31),
)
STAMPS = (
    *("0", "-1", "1", "1e3", "1.5", "", "now", "00000000000000000001", "+1700000000000", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775808", "1700000000000000", "9" * 50, "١٢٣", " 5", "5 ", "1_000", "0x5"),
)
NAMES = (
    *(
        "",
        " ",
        "\n",
        "a\x00b",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "é" * 100,
        "é" * 101,
        "s" * 200,
        "s" * 201,
        "🌡" * 50,
    ),
    *("{tag}", "%s %n %(x)d", "*3\r\n$3\r\nSET", "../../etc/passwd", "'; DROP TABLE", "NaN", "foretick", "\u202eevil"),
)
FIELDS = ("value", "series", "ts", "Value", "value ", "", "id", "\x00", "y", "valuevalue", "series\n", "*", "value")


def some_bytes(rng: random.Random, size_max: int = 40) -> bytes:
    return rng.randbytes(rng.randrange(size_max))


def text_or_bytes(rng: random.Random, usual: tuple[str, ...]) -> bytes:
    """One of the usual oddities, one that is damaged, or anything at all."""
    kind = rng.random()
    if kind < 0.2:
        return some_bytes(rng)
    text = bytearray(rng.choice(usual).encode())
    if kind < 0.4 and text:
        text[rng.randrange(len(text))] = rng.randrange(256)
    if kind > 0.95:
        text += some_bytes(rng)
    return bytes(text)


def sound_number(rng: random.Random) -> bytes:
    return repr(
        rng.choice([rng.gauss(0, 1), rng.uniform(-1e30, 1e30), rng.gauss(0, 1) * 10.0 ** rng.randint(-300, 29)])
    ).encode()


def any_entry(rng: random.Random, now_ms: int) -> list[bytes]:
    """Fields and values in turn."""
    name = b"s%d" % rng.randrange(SERIES)
    if rng.random() < SOUND_SHARE:
        return [b"series", name, b"value", sound_number(rng)]
    if rng.random() < GIANT_SHARE:
        where = rng.choice([b"value", b"series", b"ts", b"note", rng.randbytes(GIANT_BYTES)])
        return [b"series", name, b"value", b"1", where, rng.choice([b"7", b"\xff", b"ab"]) * GIANT_BYTES]
    row = [b"series", name if rng.random() < 0.7 else text_or_bytes(rng, NAMES)]
    row += [b"value", sound_number(rng) if rng.random() < 0.4 else text_or_bytes(rng, NUMBERS)]
    if rng.random() < 0.5:
        # Near now, so that late ones, equal ones and runs that restart their series come about.
        beside = rng.choice([0, 0, 0, 1, 2, -1, -rng.randrange(100_000), -rng.randrange(10**12), 90_000_000])
        near = b"%d" % (now_ms + beside)
        row += [b"ts", near if rng.random() < 0.6 else text_or_bytes(rng, STAMPS)]
    pairs = [row[i : i + 2] for i in range(0, len(row), 2)]
    if rng.random() < 0.2:
        pairs.append([rng.choice(FIELDS).encode(), text_or_bytes(rng, NUMBERS)])
    if rng.random() < 0.1:
        del pairs[rng.randrange(len(pairs))]
    if rng.random() < 0.02:
        pairs += [[some_bytes(rng), some_bytes(rng)] for _ in range(rng.randrange(200))]
    rng.shuffle(pairs)
    return [part for pair in pairs or [[b"", b""]] for part in pair]


@pytest.fixture
def start() -> Iterator[Callable[..., ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def begin(url: str, **settings: Any) -> ForkedDaemon:
        made.append(ForkedDaemon(url, **settings))
        return made[-1].start()

    yield begin
    for one in made:
        one.discard()


def push(client: redis.Redis, rng: random.Random, n: int) -> None:
    now_ms = int(client.time()[0]) * 1000
    pipe = client.pipeline(transaction=False)
    for _ in range(n - 2):
        pipe.execute_command("XADD", "ticks", "*", *any_entry(rng, now_ms))
    for _ in range(2):  # the second is a duplicate, whatever the seed
        pipe.execute_command("XADD", "ticks", "*", "series", f"twin{n}", "value", "1", "ts", now_ms)
    pipe.execute()


def lag(client: redis.Redis) -> int:
    groups = client.xinfo_groups("ticks")
    return groups[0]["lag"] if groups else client.xlen("ticks")


def test_every_malformed_entry_is_answered_and_none_does_harm(
    redis_server: Server, start: Callable[..., ForkedDaemon]
) -> None:
    print(f"FORETICK_TEST_SEED={SEED}")
    rng, client = random.Random(SEED), redis_server.client()
    daemon = start(redis_server.url, learn__enabled=ENTRIES > SHORT)  # which takes most of the time
    for sent in range(0, ENTRIES, AT_ONCE):
        push(client, rng, min(AT_ONCE, ENTRIES - sent))
        wait_until(lambda: lag(client) < AHEAD_MAX, 60, "a daemon that keeps up")
    wait_until(lambda: is_drained(client), 120, "the drain")

    found = recount(client)
    reasons = Counter(found.reasons.values())
    print(f"{len(found.forecasts)} forecasts, {reasons}")
    assert found.faults() == []
    assert found.aside == []
    assert len(found.forecasts) + len(found.dead) == len(found.entries) == ENTRIES
    wanted = {"missing_field", "not_a_number", "out_of_range", "bad_series", "bad_ts", "late", "duplicate", "too_large"}
    assert set(reasons) >= wanted, "the entries are too tame"
    assert len(found.forecasts) > ENTRIES / 4
    assert total(daemon.get("/metrics")[1], "dead_letters_total") == len(found.dead)
    told = {line["event"] for line in events(daemon.output()) if line["level"] in {"error", "critical"}}
    assert told == set()
    assert daemon.terminate(10) == 0
