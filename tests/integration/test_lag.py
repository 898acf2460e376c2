"""The lag that is told while a daemon is behind, where entries it never read are trimmed away."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from foretick.app import lookout
from partitions import Loop, Memory, position, push
from servers import wait_until

if TYPE_CHECKING:
    from foretick.core.records import Forecasts, Ticks
    from servers import Server

pytestmark = pytest.mark.redis


def test_entries_that_were_trimmed_unread_do_not_count_as_lag(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "SURVEY_EVERY_SECONDS", 0.0)
    client = redis_server.client()
    ids = push(client, 100)
    moved = threading.Condition()
    seen, allowed = 0, 1  # ticks; the engine stands still once it has seen as many as are allowed

    def slowly(engine: Memory, ticks: Ticks) -> Forecasts:
        nonlocal seen
        with moved:
            seen += len(ticks)
            assert moved.wait_for(lambda: seen < allowed, timeout=60)
        return Memory.advance(engine, ticks)

    def allow(ticks: int) -> None:
        nonlocal allowed
        with moved:
            allowed = ticks
            moved.notify_all()

    loop = Loop(redis_server.url, count=10)
    loop.engine = slowly
    loop.start()
    try:
        wait_until(lambda: seen, what="an engine that is at the first ten ticks")
        client.xtrim("ticks", maxlen=50, approximate=False)
        allow(11)
        wait_until(lambda: position(client) == (ids[9], 50, 50), what="the count of what is gone")
        assert loop.metric("stream_lag_ticks", stream="ticks") == 50
        allow(21)
        wait_until(lambda: position(client) == (ids[59], 60, 40), what="ten more")
        assert loop.metric("stream_lag_ticks", stream="ticks") == 40
    finally:
        allow(1000)
        loop.stop()
