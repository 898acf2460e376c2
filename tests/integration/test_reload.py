"""SIGHUP: what can change while the daemon runs does, the rest is told, and a wrong file changes nothing."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from foretick.app.reload import LIVE
from foretick.app.settings import Settings, catalogue
from forked import ForkedDaemon
from recount import events
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = pytest.mark.redis
FORECASTS = "foretick:{%s}:forecasts"
BEFORE = """
streams = ["a"]
batch = 7
log.level = "warning"
forecasts.maxlen = 100000
metrics.worst = 0
horizon = 1
"""
AFTER = """
streams = ["b*"]
batch = 3
log.level = "info"
forecasts.maxlen = 100
metrics.worst = 5
metrics.series = ["s1"]
horizon = 2
lease.ttl = "20s"
"""


@pytest.fixture
def make_daemon() -> Iterator[Callable[[str], ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def make(url: str) -> ForkedDaemon:
        made.append(ForkedDaemon(url))
        return made[-1]

    yield make
    for daemon in made:
        daemon.discard()


def push(client: redis.Redis, stream: str, n: int) -> None:
    with client.pipeline(transaction=False) as pipe:
        for i in range(n):
            pipe.xadd(stream, {"series": f"s{i % 2}", "value": i % 5})
        pipe.execute()


def test_every_live_setting_is_a_setting() -> None:
    assert set(LIVE) <= catalogue(Settings).keys()


def test_a_reload_takes_up_what_it_can_tells_what_it_cannot_and_a_wrong_file_changes_nothing(
    redis_server: Server, make_daemon: Callable[[str], ForkedDaemon]
) -> None:
    client = redis_server.client()
    push(client, "a", 10)
    push(client, "b1", 300)
    daemon = make_daemon(redis_server.url)
    config = daemon.folder / "foretick.toml"
    config.write_text(BEFORE)
    daemon.start()
    wait_until(lambda: client.xlen(FORECASTS % "a") == 10, 30, "the forecasts of a")

    def told(event: str) -> list[dict[str, Any]]:
        return events(daemon.output(), event)

    config.write_text(BEFORE + 'prefixx = "f"\n')
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: told("settings_not_reloaded"), what="the complaint")
    assert "prefixx" in told("settings_not_reloaded")[0]["reason"]
    push(client, "a", 1)
    wait_until(lambda: client.xlen(FORECASTS % "a") == 11, what="a daemon that goes on")
    assert not client.exists(FORECASTS % "b1")

    config.write_text(AFTER)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: client.xlen(FORECASTS % "b1") > 0, 30, "forecasts of the stream that came")
    wait_until(lambda: (client.xinfo_groups("b1") or [{}])[0].get("lag") == 0, 30, "all of it")
    assert client.xlen(FORECASTS % "b1") < 300, "XTRIM ~ drops whole nodes of a hundred"
    [line] = told("settings_reloaded")  # at the level that it has just set
    assert set(line["changed"]) == {*LIVE} - {"dead.maxlen"}
    assert line["changed"]["streams"] == ["b*"]
    [line] = told("settings_need_restart")
    assert sorted(line["settings"]) == ["horizon", "lease.ttl"]
    page = daemon.get("/metrics")[1]
    assert 'foretick_series_staleness_seconds{series="s1",stream="b1"}' in page
    push(client, "a", 5)
    push(client, "b1", 1)
    wait_until(lambda: client.xinfo_groups("b1")[0]["lag"] == 0, what="the tick of b1")
    assert client.xlen(FORECASTS % "a") == 11, "a is no input any more"

    config.write_text(AFTER.replace('"info"', '"error"'))
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: len(told("settings_need_restart")) == 2, what="the warning, at the level that it still had")
    assert told("settings_reloaded")[1]["changed"] == {"log.level": "error"}
    config.write_text(AFTER.replace('"info"', '"warning"'))
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: len(told("settings_need_restart")) == 3, what="the warning, at the level that it has now")
    assert len(told("settings_reloaded")) == 2
    assert daemon.terminate() == 0
