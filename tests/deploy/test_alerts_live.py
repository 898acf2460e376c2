"""Alerts staged for real: broken, heard through a real Alertmanager, mended as the runbook says, cleared.

The rules are the committed ones with every duration divided by 60: their minutes last a second here.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import pytest

from monitoring import RULES, RUNBOOK, anchors, rules
from monitoring_servers import Alertmanager, Prometheus, Webhook
from producing import Producer
from servers import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
SHORTER = {"d": "24m", "h": "m", "m": "s"}  # a sixtieth
HEARD_SECONDS, CLEARED_SECONDS = 60, 60


def sped_up(text: str) -> str:
    """The rules with their durations divided by 60; thresholds stay."""

    def shorten(found: re.Match[str]) -> str:
        before, number, unit, after = found.groups()
        return f"{before}{24 * int(number)}m{after}" if unit == "d" else f"{before}{number}{SHORTER[unit]}{after}"

    return re.sub(r"(\[|for: )(\d+)([dhm])(\]|$)", shorten, text, flags=re.MULTILINE)


@pytest.fixture
def staged(tmp_path):
    """Sets Prometheus over a daemon, and Alertmanager between it and a webhook."""
    with ExitStack() as stack:

        def stage(daemon):
            webhook = stack.enter_context(Webhook())
            alertmanager = stack.enter_context(Alertmanager(webhook.url))
            path = tmp_path / "rules.yaml"
            path.write_text(sped_up(RULES.read_text()))
            target = f"127.0.0.1:{daemon.http_port}"
            prometheus = Prometheus([target], rules=path, alertmanagers=[alertmanager.url], every="500ms")
            stack.enter_context(prometheus)
            return webhook, prometheus

        yield stage


def heard(webhook, alert):
    """Wait for the alert, and tell how long that took."""
    begun = time.monotonic()
    told = webhook.wait(alert, "firing", HEARD_SECONDS)
    assert told["labels"].items() >= rules("alert")[alert]["labels"].items()
    assert told["annotations"]["runbook_url"].partition("#")[2] in anchors(RUNBOOK)
    print(f"{alert}: heard after {time.monotonic() - begun:.1f} s: {told['annotations']['summary']}")


def cleared(webhook, alert):
    begun = time.monotonic()
    webhook.wait(alert, "resolved", CLEARED_SECONDS)
    print(f"{alert}: cleared after {time.monotonic() - begun:.1f} s")


LEAN = {"streams": "ticks", "profile": "lean", "learn__enabled": False, "checkpoint__every": "5s"}


def test_a_daemon_that_dies_is_heard_of_and_one_that_is_started_again_clears_it(redis_server, start_daemon, staged):
    daemon = start_daemon(redis_server.url, **LEAN)
    webhook, _ = staged(daemon)
    daemon.kill()
    heard(webhook, "InstanceDown")
    daemon.start()
    cleared(webhook, "InstanceDown")


def test_a_redis_that_is_gone_is_heard_of_and_one_that_comes_back_clears_it(private_server, start_daemon, staged):
    server = private_server(appendonly="yes")
    daemon = start_daemon(server.url, **LEAN)
    webhook, _ = staged(daemon)
    server.stop()
    heard(webhook, "RedisUnreachable")
    assert "[-]redis" in daemon.get("/readyz?verbose")[1]  # the runbook's first look
    server.start()
    cleared(webhook, "RedisUnreachable")


def test_a_producer_that_goes_wrong_is_heard_of_and_mending_it_clears_it(redis_server, start_daemon, staged):
    daemon = start_daemon(redis_server.url, **LEAN)
    webhook, _ = staged(daemon)
    with Producer(redis_server, ["ticks"], broken=0.3) as producer:
        heard(webhook, "DeadLettersRising")
        reasons = {fields[b"reason"] for _, fields in redis_server.client().xrevrange("foretick:{ticks}:dead", count=9)}
        assert reasons == {b"not_a_number"}  # the runbook's first look
        producer.broken = 0.0
        cleared(webhook, "DeadLettersRising")


def test_a_producer_that_falls_silent_is_heard_of_and_one_that_speaks_again_clears_it(
    redis_server, start_daemon, staged
):
    daemon = start_daemon(redis_server.url, **LEAN)
    webhook, prometheus = staged(daemon)
    with Producer(redis_server, ["ticks"]):
        busy = "sum(rate(foretick_forecasts_total[6m])) > 1"
        wait_until(lambda: prometheus.values(busy), 30, busy)
    heard(webhook, "ForecastsStale")
    with Producer(redis_server, ["ticks"]):
        cleared(webhook, "ForecastsStale")


def test_a_right_that_is_taken_away_stops_the_partition_and_giving_it_back_with_a_restart_clears_it(
    private_server, start_daemon, staged
):
    server = private_server()
    admin = server.client()
    admin.execute_command("ACL", "SETUSER", "daemon", "on", ">secret", "~*", "&*", "+@all")
    url = server.url.replace("redis://", "redis://daemon:secret@")
    daemon = start_daemon(url, **LEAN)
    webhook, _ = staged(daemon)
    admin.execute_command("ACL", "SETUSER", "daemon", "-xadd")
    with Producer(server, ["ticks"]):
        heard(webhook, "PartitionStopped")
        assert "[-]default/partition: " in daemon.get("/readyz?verbose")[1]
        assert "NOPERM" in daemon.get("/readyz?verbose")[1]
        admin.execute_command("ACL", "SETUSER", "daemon", "+xadd")
        daemon.terminate()
        daemon.start()
        cleared(webhook, "PartitionStopped")


def test_a_checkpoint_that_cannot_be_written_is_heard_of_and_more_room_clears_it(redis_server, start_daemon, staged):
    settings = LEAN | {"checkpoint__every": "1s", "checkpoint__redis_max": "1kB"}
    daemon = start_daemon(redis_server.url, **settings)
    webhook, _ = staged(daemon)
    with Producer(redis_server, ["ticks"]):
        heard(webhook, "CheckpointStale")
        assert "raise checkpoint.redis_max" in daemon.output()  # the runbook's first look
        daemon.terminate()
        daemon.settings["checkpoint__redis_max"] = "64MB"
        daemon.start()
        cleared(webhook, "CheckpointStale")
