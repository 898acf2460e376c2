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
    entered, allowed = threading.Semaphore(0), threading.Semaphore(0)

    def slowly(engine: Memory, ticks: Ticks) -> Forecasts:
        entered.release()
        assert allowed.acquire(timeout=10)
        return Memory.advance(engine, ticks)

    loop = Loop(redis_server.url, count=10)
    loop.engine = slowly
    loop.start()
    try:
        assert entered.acquire(timeout=10)  # the first ten
        allowed.release()
        assert entered.acquire(timeout=10)  # the second ten are read, too
        client.xtrim("ticks", maxlen=50, approximate=False)
        allowed.release()
        assert entered.acquire(timeout=10)
        assert loop.metric("stream_lag_ticks", stream="ticks") == 50
        allowed.release()
        assert entered.acquire(timeout=10)
        wait_until(lambda: position(client)[0] == ids[59], what="the commit of the sixtieth")
        assert position(client) == (ids[59], 60, 40)
        assert loop.metric("stream_lag_ticks", stream="ticks") == 40
    finally:
        for _ in range(10):
            allowed.release()
        loop.stop()
