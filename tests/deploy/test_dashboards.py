"""The dashboards are what their script makes, tell what each panel is about, and leave no metric out."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring import DASHBOARDS, METRICS_PAGE, RUNBOOK, anchors, binary, dashboards, panels, resolved, rules
from servers import REPOSITORY

PANELS = [
    pytest.param(panel, id=f"{name}-{panel['id']}")
    for name, dashboard in dashboards().items()
    for panel in panels(dashboard)
]
FREE_OF_BOUNDS = {"table", "state-timeline", "heatmap"}  # their colours come from elsewhere


def queries():
    """Every query of every panel, by place."""
    found = {}
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                found[f"{name}, {panel['title']}, {target['refId']}"] = target["expr"]
    return found


def test_making_the_dashboards_again_gives_the_same_bytes(tmp_path):
    script = REPOSITORY / "deploy/grafana/dashboards.py"
    subprocess.run([sys.executable, "-W", "error", script, "--out", tmp_path], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in DASHBOARDS.iterdir()}, "run `make dashboards`"


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_has_the_shape_that_grafana_knows(name):
    register_default_plugins()
    dashboard = dashboards()[name]
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard))) == dashboard
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [one["name"] for one in dashboard["templating"]["list"]][:2] == ["datasource", "job"]


@pytest.mark.parametrize("name", dashboards())
def test_no_two_panels_lie_over_each_other(name):
    taken = set()
    for panel in dashboards()[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_which_unit_and_where_to_read_on(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
    assert defaults["thresholds"]["steps"][0]["value"] is None
    (link,) = panel["links"]
    assert link["url"].startswith("${runbook}#")
    assert link["url"].partition("#")[2] in anchors(RUNBOOK)
    for target in panel["targets"]:
        assert "$job" in target["expr"] or "ALERTS" in target["expr"]


def test_no_query_is_misspelt(tmp_path):
    records = [{"record": f"query:{n}", "expr": resolved(expr)} for n, expr in enumerate(queries().values())]
    for dashboard in dashboards().values():
        for mark in dashboard["annotations"]["list"]:
            records.append({"record": f"query:{len(records)}", "expr": resolved(mark["expr"])})
    page = tmp_path / "queries.yaml"
    page.write_text(json.dumps({"groups": [{"name": "all", "rules": records}]}))
    found = subprocess.run([binary("promtool"), "check", "rules", page], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_metric_is_on_a_panel_or_in_an_alert_or_the_page_says_why_not():
    asked = [*queries().values(), *(rule["expr"] for kind in ("alert", "record") for rule in rules(kind).values())]
    used = {name for expr in asked for name in re.findall(r"(?<![:\w])foretick_\w+", expr)}
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} | used
    text = METRICS_PAGE.read_text()
    excused = set(re.findall(r"^\| `(foretick_\w+)` \|.*\(on no panel: [^)]+\)", text, re.MULTILINE))
    exported = set(re.findall(r"`(foretick_\w+)`", text))
    assert exported - used == excused
    assert used <= exported | {re.sub(r"_total$", "", name) for name in exported} | {
        f"{name}_{part}" for name in exported for part in ("bucket", "sum", "count")
    }
