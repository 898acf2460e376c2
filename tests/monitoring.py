"""Prometheus, Alertmanager and a webhook for the tests, and what our dashboards, alerts and pages say of metrics."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from typing import TYPE_CHECKING

import yaml

from servers import REPOSITORY, missing

if TYPE_CHECKING:
    from pathlib import Path

RULES = REPOSITORY / "deploy/prometheus/rules.yaml"
RULE_TESTS = REPOSITORY / "deploy/prometheus/tests.yaml"
DASHBOARDS = REPOSITORY / "deploy/grafana/dashboards"
METRICS_PAGE = REPOSITORY / "docs/metrics.md"
RUNBOOK = REPOSITORY / "docs/runbook.md"


def binary(name: str) -> str:
    """Path of promtool, prometheus or alertmanager; Debian names the last one after its package."""
    return shutil.which(name) or shutil.which(f"prometheus-{name}") or missing(name) or ""


def dashboards() -> dict[str, dict]:
    """Every committed dashboard, by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: dict) -> list[dict]:
    """All panels with queries, those in folded rows included."""
    inner = [panel for row in dashboard["panels"] for panel in row.get("panels") or []]
    return [panel for panel in [*dashboard["panels"], *inner] if panel["type"] != "row"]


@cache
def read_yaml(path: Path) -> dict:
    """The file's contents, read once: YAML is slow."""
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> dict[str, dict]:
    """Alerts (`alert`) or recording rules (`record`), by name."""
    groups = read_yaml(RULES)["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end in, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolved(expr: str, *, window: str = "1m", rate_interval: str = "30s", span: str = "2m") -> str:
    """A panel's query as Grafana would send it with All chosen everywhere."""
    for name, value in (("__rate_interval", rate_interval), ("__range", span), ("window", window)):
        expr = expr.replace(f"${name}", value)
    return re.sub(r"\$\w+", ".*", expr)
