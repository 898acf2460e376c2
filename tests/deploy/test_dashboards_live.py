"""Every panel, choice and mark of the dashboards, asked of a real Prometheus over real daemons under load."""

from __future__ import annotations

import json
import math
import re
import time

import pytest

from monitoring import RULES, dashboards, panels, resolved
from monitoring_servers import Prometheus
from producing import Producer
from servers import wait_until

STREAMS = ("{north}:ticks", "{south}:ticks")
SPAN_SECONDS = 45
TIMES = {"window": "20s", "rate_interval": "10s", "span": f"{SPAN_SECONDS}s"}


def problem(prometheus, target):
    """What is wrong with a query's answer; nothing where it shows something."""
    expr = resolved(target["expr"], **TIMES)
    try:
        values = prometheus.values(expr)
        if target.get("range"):
            end = time.time()
            answer = prometheus.ask("query_range", query=expr, start=str(end - 20), end=str(end), step="1")
            values = [float(value) for line in answer["result"] for _, value in line["values"]]
    except AssertionError as error:
        return str(error)
    if not values:
        return f"empty: {expr}"
    return "" if any(map(math.isfinite, values)) else f"no number: {expr}"


def choices(prometheus, query):
    """The values that a variable offers."""
    match, label = re.fullmatch(r"label_values\((.+), (\w+)\)", resolved(query)).groups()
    return prometheus.ask(f"label/{label}/values", **{"match[]": match})


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_no_query_fails_and_no_panel_is_empty(redis_server, start_daemon):
    settings = {
        "streams": "{north}:ticks,{south}:ticks",
        "profile": "lean",
        "horizon": 2,
        "groups": json.dumps({"boiler-*": {"hidden": 16}}),
        "checkpoint__every": "3s",
        "learn__trainer": "process",
    }
    daemons = [start_daemon(redis_server.url, **settings)]
    with Producer(redis_server, STREAMS, broken=0.03):
        daemons += [start_daemon(redis_server.url, ready=False, **settings)]
        daemons += [start_daemon(None, "--embedded", state_dir="state")]
        daemons[1].wait_ready()
        targets = [f"127.0.0.1:{daemon.http_port}" for daemon in daemons]
        with Prometheus(targets, rules=RULES) as prometheus:
            whole = f"count(foretick_build_info offset {SPAN_SECONDS}s)"
            wait_until(lambda: prometheus.values(whole) == [3], 2 * SPAN_SECONDS, "a span of samples of all three")
            problems, asked = {}, 0
            for name, dashboard in dashboards().items():
                for panel in panels(dashboard):
                    for target in panel["targets"]:
                        asked += 1
                        if trouble := problem(prometheus, target):
                            problems[name, panel["title"], target["refId"]] = trouble
                for mark in dashboard["annotations"]["list"]:
                    prometheus.ask("query", query=resolved(mark["expr"], **TIMES))
                for variable in dashboard["templating"]["list"]:
                    if variable["type"] == "query" and not choices(prometheus, variable["query"]):
                        problems[name, variable["name"]] = "offers nothing"
            assert problems == {}
            assert asked > 50
            assert prometheus.values("foretick_leases_held") == [1, 1, 1]  # north, south, and the embedded one's
            print(f"{asked} queries answered")
