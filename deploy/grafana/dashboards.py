"""Writes the dashboards beside this file; `make dashboards` runs it.

With an address of your own for the runbook, as in `make dashboards RUNBOOK=https://wiki.example.org/foretick/runbook`,
that goes into the links of every panel, and into the alerts of ../prometheus/rules.yaml and their test.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import accuracy
import service
import upkeep
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    ConstantVariable,
    CustomVariable,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from panels import SOURCE, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
PROMETHEUS = HERE.parent / "prometheus"
RUNBOOK = "https://foretick.example/docs/runbook.md"  # a reserved name: nobody else can own it
WINDOWS = ("5m", "15m", "1h", "6h", "1d")  # over which a point of an accuracy chart is measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all files, here or into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runbook", default=RUNBOOK, help="address of docs/runbook.md")
    parser.add_argument("--out", type=Path, default=HERE / "dashboards", help="folder for them")
    asked = parser.parse_args(arguments)
    for name, dashboard in (("accuracy", forecast_accuracy(asked.runbook)), ("service", the_service(asked.runbook))):
        text = JSONEncoder(sort_keys=True, indent=2).encode(dashboard.build())
        (asked.out / f"{name}.json").write_text(text + "\n")
    if asked.out == parser.get_default("out"):
        for path in (PROMETHEUS / "rules.yaml", PROMETHEUS / "tests.yaml"):
            path.write_text(re.sub(r"(?<=runbook_url: )\S+(?=#)", lambda _: asked.runbook, path.read_text()))


def forecast_accuracy(runbook: str) -> Dashboard:
    """How good the forecasts are."""
    page = Page(_dashboard("foretick-accuracy", "Forecast accuracy", runbook, "now-6h"))
    page.dashboard.with_variable(_labels("partition", 'label_values(foretick_scored_total{job=~"$job"}, partition)'))
    page.dashboard.with_variable(_labels("group", 'label_values(foretick_scored_total{job=~"$job"}, group)'))
    window = CustomVariable("window").label("Each point over").values(",".join(WINDOWS))
    window.options([VariableOption(text=one, value=one, selected=one == "15m") for one in WINDOWS])
    page.dashboard.with_variable(window.current(VariableOption(text="15m", value="15m", selected=True)))
    accuracy.fill(page)
    return page.dashboard


def the_service(runbook: str) -> Dashboard:
    """Whether the daemons work."""
    page = Page(_dashboard("foretick-service", "Service", runbook, "now-1h"))
    page.dashboard.with_variable(_labels("instance", 'label_values(foretick_build_info{job=~"$job"}, instance)'))
    page.dashboard.with_variable(_labels("stream", 'label_values(foretick_ticks_total{job=~"$job"}, stream)'))
    service.fill(page)
    upkeep.fill(page)
    return page.dashboard


def _dashboard(uid: str, title: str, runbook: str, since: str) -> Dashboard:
    """What both have in common: choices at the top, marks where daemons start and alerts fire, the way to the other."""
    made = Dashboard(f"foretick: {title}").uid(uid).tags(["foretick"]).timezone("browser").editable()
    made.time(since, "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR)
    made.description("Made by deploy/grafana/dashboards.py; change it there.")
    made.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.with_variable(_labels("job", "label_values(foretick_build_info, job)"))
    made.with_variable(ConstantVariable("runbook").value(runbook))
    starts = 'changes(process_start_time_seconds{job=~"$job"}[$__rate_interval]) > 0'
    for name, expr, colour in (
        ("Starts", starts, "blue"),
        ("Alerts", 'ALERTS{service="foretick", alertstate="firing"}', "red"),
    ):
        mark = AnnotationQuery().name(name).datasource(SOURCE).enable(True).hide(False).icon_color(colour)
        made.annotation(mark.expr(expr))
    other = DashboardLink("foretick").type(DashboardLinkType.DASHBOARDS).tags(["foretick"])
    made.link(other.keep_time(True).include_vars(True).as_dropdown(False))
    book = DashboardLink("Runbook").type(DashboardLinkType.LINK).url(runbook)
    return made.link(book.target_blank(True))


def _labels(name: str, query: str) -> QueryVariable:
    """A choice among the values of a label; all of them at first."""
    variable = QueryVariable(name).label(name.capitalize()).datasource(SOURCE).query(query)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC).hide(
        VariableHide.DONT_HIDE
    )
    variable.multi(True).include_all(True).all_value(".*")
    return variable.current(VariableOption(text="All", value="$__all", selected=True))


if __name__ == "__main__":
    main()
