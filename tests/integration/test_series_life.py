"""Short-lived series through a real daemon: room for ever, the same bits after a restart, metrics that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.ports.wire import decode, keyed
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from servers import DaemonProcess, Server

pytestmark = pytest.mark.redis
FORECASTS = "foretick:{ticks}:forecasts"
TTL_SECONDS, ROOM = 2, 10
STEP_MS = 50


def push(client: redis.Redis, first: int, last: int) -> None:
    """One tick of `steady` and one of a session each step; a session has ten ticks and never comes back."""
    with client.pipeline(transaction=False) as pipe:
        for i in range(first, last):
            pipe.xadd("ticks", {"series": "steady", "value": float(np.sin(i / 5))}, id=f"{1_000_000 + STEP_MS * i}-0")
            session = {"series": f"session-{i // 10}", "value": i % 7}
            pipe.xadd("ticks", session, id=f"{1_000_000 + STEP_MS * i}-1")
        pipe.execute()


def test_sessions_come_and_go_and_neither_a_restart_nor_the_wall_clock_matters(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    push(client, 0, 400)
    daemon = start_daemon(
        redis_server.url,
        streams="ticks",
        model__hidden=16,
        learn__enabled=False,
        series__ttl=f"{TTL_SECONDS}s",
        max_series=ROOM,
        metrics__series="steady",
        metrics__worst=3,
    )
    wait_until(lambda: client.xlen(FORECASTS) == 800, 30, "all forecasts")
    assert daemon.terminate() == 0
    push(client, 400, 600)
    daemon.start()
    wait_until(lambda: client.xlen(FORECASTS) == 1200, 30, "the later forecasts")
    assert not client.exists("foretick:{ticks}:dead"), "there was no room"

    page = daemon.get("/metrics")[1]
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("foretick_series_"))
    expired = float(values['foretick_series_expired_total{group="default"}'])
    assert 60 - TTL_SECONDS * 1000 / STEP_MS / 10 - 2 <= expired < 60
    assert float(values['foretick_series_skill{series="steady",stream="ticks"}']) > 0.5
    assert float(values['foretick_series_mae{series="steady",stream="ticks"}']) < 0.2
    assert float(values['foretick_series_staleness_seconds{series="steady",stream="ticks"}']) > 1e9
    assert sum(name.startswith("foretick_series_staleness_seconds") for name in values) == 4
    assert daemon.terminate() == 0
    latest = {name.decode() for name in client.hkeys("foretick:{ticks}:latest")}
    alive = {"steady", *(f"session-{i}" for i in range(int(expired), 60))}
    assert latest == alive, "whoever is forgotten has no last forecast either"

    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    still = LearnRecipe(enabled=False)  # with learning on: tests/property/test_life.py
    engine = Engine(Recipe(hidden=16, ttl_ms=1000 * TTL_SECONDS, max_series=ROOM, learn=still))
    wanted = engine.advance(keyed(decode(entries, b"ticks"))).yhat.tolist()
    assert [float(fields[b"yhat"]) for _, fields in client.xrange(FORECASTS)] == wanted
    assert engine.scores()[0].series_expired == expired
