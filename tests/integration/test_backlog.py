"""A backlog is read in portions that follow how long the engine takes, by clocks that the test turns."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from foretick.app import pipeline
from foretick.app.portion import AIM_SECONDS, FIRST_ENTRIES
from partitions import Loop, Memory, assert_exactly_once, push, wait_answered

if TYPE_CHECKING:
    from foretick.core.records import Forecasts, Ticks
    from servers import Server

pytestmark = pytest.mark.redis

READ = re.compile(rb"XREAD\r\n\$5\r\nCOUNT\r\n\$\d+\r\n(\d+)\r\n")


class Drain:
    """A loop on a backlog; its engine works so long on each tick, and waits so long in each piece."""

    def __init__(
        self, url: str, seconds_per_tick: float, monkeypatch: pytest.MonkeyPatch, *, waits_seconds: float = 0.0
    ) -> None:
        self.loop = Loop(url)
        self.asked: list[int] = []  # entries that were asked for, by each read
        self._seconds_per_tick = seconds_per_tick
        self._waits_seconds = waits_seconds
        self._worked = self._waited = 0.0  # seconds
        clock = SimpleNamespace(
            thread_time=lambda: self._worked,
            perf_counter=lambda: self._worked + self._waited,
            monotonic=time.monotonic,
            time=time.time,
        )
        monkeypatch.setattr(pipeline, "time", clock)
        self.loop.engine = self._forecast
        send = self.loop.connection.send

        def listen(request: bytes) -> None:
            self.asked += [int(count) for count in READ.findall(request)]
            send(request)

        monkeypatch.setattr(self.loop.connection, "send", listen)

    def _forecast(self, memory: Memory, ticks: Ticks) -> Forecasts:
        self._worked += len(ticks) * self._seconds_per_tick
        self._waited += self._waits_seconds
        return Memory.advance(memory, ticks)


@pytest.mark.parametrize("waits_seconds", [0.0, 0.4], ids=["alone", "waiting for others"])
def test_a_backlog_is_drained_in_growing_reads(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch, waits_seconds: float
) -> None:
    client = redis_server.client()
    drain = Drain(redis_server.url, 1e-6, monkeypatch, waits_seconds=waits_seconds)
    push(client, 4000)
    drain.loop.start()
    try:
        wait_answered(client, 4000)
    finally:
        drain.loop.stop()
    assert drain.asked[:4] == [FIRST_ENTRIES, 512, 1024, 2048]
    assert_exactly_once(client)


def test_an_engine_that_is_slow_is_given_as_much_as_it_can_do_in_the_time_that_is_aimed_at(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis_server.client()
    drain = Drain(redis_server.url, AIM_SECONDS / 50, monkeypatch)
    push(client, 600)
    drain.loop.start()
    try:
        wait_answered(client, 600)
    finally:
        drain.loop.stop()
    assert drain.asked[:5] == [FIRST_ENTRIES, 128, 64, 50, 50]
    assert_exactly_once(client)
