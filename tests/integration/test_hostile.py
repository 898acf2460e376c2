"""Producers that mean harm: whatever they write, the daemon's memory stays bounded and every entry has its answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from foretick.app.appetite import REPLY_MAX_BYTES
from forked import ForkedDaemon
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import DaemonProcess, Server

pytestmark = pytest.mark.redis
FORECASTS, DEAD = "foretick:{ticks}:forecasts", "foretick:{ticks}:dead"
MEGABYTE = 1_000_000


def memory_of(daemon: DaemonProcess, name: str) -> int:
    """`VmRSS`, or the highest it ever was, `VmHWM`, in bytes."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.fixture
def make_daemon() -> Iterator[Callable[..., ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def make(url: str, **settings: object) -> ForkedDaemon:
        made.append(ForkedDaemon(url, streams="ticks", **settings))
        return made[-1].start()

    yield make
    for daemon in made:
        daemon.discard()


def wait_drained(client: redis.Redis, n: int) -> None:
    wait_until(lambda: client.xlen(FORECASTS) + client.xlen(DEAD) == n, 60, f"{n} answers")


def giants(client: redis.Redis, n: int) -> int:
    """n times a giant of each kind among sound ticks; how many entries that makes."""
    for i in range(n):
        sound = {"series": "s", "value": i % 7}
        client.xadd("ticks", sound)
        client.xadd("ticks", {**sound, "value": "7" * MEGABYTE})
        client.xadd("ticks", {**sound, "series": "x" * MEGABYTE})
        client.xadd("ticks", {**sound, "note": b"\xff" * MEGABYTE})
        client.xadd("ticks", {**sound, **{f"{k}" * 1000: b"\xf0" * 1000 for k in range(500)}})
    return 5 * n


def test_a_backlog_of_giants_is_taken_in_bearable_pieces_live_and_in_a_replay(
    private_server: Callable[..., Server], make_daemon: Callable[..., ForkedDaemon]
) -> None:
    server = private_server()
    client = server.client()
    daemon = make_daemon(server.url, checkpoint__every=0, batch=1000, lease__ttl="1s")
    client.xadd("ticks", {"series": "s", "value": 1})
    wait_drained(client, 1)
    idle = memory_of(daemon, "VmRSS")
    daemon.kill()
    n = 1 + giants(client, 40)  # 160 MB
    daemon.start()
    wait_drained(client, n)
    assert Counter(fields[b"reason"] for _, fields in client.xrange(DEAD)) == {b"too_large": 40, b"bad_series": 40}
    live = memory_of(daemon, "VmHWM") - idle
    daemon.kill()
    daemon.start()
    client.xadd("ticks", {"series": "s", "value": 1})
    wait_drained(client, n + 1)
    replayed = memory_of(daemon, "VmHWM") - idle
    print(f"peaks of memory: {live / 1e6:.0f} MB live, {replayed / 1e6:.0f} MB in the replay")
    assert max(live, replayed) < 2.5 * REPLY_MAX_BYTES, (live, replayed)
    assert daemon.terminate() == 0


def test_a_flood_of_series_costs_no_memory_beyond_those_that_are_allowed(
    redis_server: Server, make_daemon: Callable[..., ForkedDaemon]
) -> None:
    client = redis_server.client()
    daemon = make_daemon(redis_server.url, max_series=100, dead__maxlen=1000)
    pipe = client.pipeline(transaction=False)
    for i in range(100):
        pipe.xadd("ticks", {"series": f"good-{i}", "value": i})
    pipe.execute()
    wait_until(lambda: client.xlen(FORECASTS) == 100, 20, "the series that are allowed")
    before = memory_of(daemon, "VmRSS")
    for first in range(0, 20_000, 4000):
        for i in range(first, first + 4000):
            pipe.xadd("ticks", {"series": f"{i}".rjust(200, "x"), "value": i})
        pipe.execute()
    pipe.xadd("ticks", {"series": "good-7", "value": 1}).execute()
    wait_until(lambda: client.xlen(FORECASTS) == 101, 60, "the answer behind the flood")
    assert client.xrevrange(DEAD, count=1)[0][1][b"reason"] == b"too_many_series"
    assert client.xlen(DEAD) < 1200, "dead letters are trimmed"
    assert client.hlen("foretick:{ticks}:latest") == 100
    grown = memory_of(daemon, "VmRSS") - before
    print(f"{grown / 1e6:.1f} MB for 20,000 series that are not known")
    assert grown < 40 * MEGABYTE
    assert daemon.terminate() == 0
