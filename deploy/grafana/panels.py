"""The kinds of panels that our dashboards are made of, each with a unit, a description and a link to the runbook."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, Row, ThresholdsConfig
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
COLUMNS = 24  # of Grafana's grid
STAT_ROWS, CHART_ROWS = 4, 8  # height of a number and of a chart, in rows of that grid

Builder = TypeVar(
    "Builder",
    stat.Panel,
    bargauge.Panel,
    timeseries.Panel,
    table.Panel,
    heatmap.Panel,
    statetimeline.Panel,
)
Bounds = list[tuple[float | None, str]]  # colour from this value on; the first from minus infinity


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked, and how each line of its answer is called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What a panel says of itself.

    Attributes:
        title: above it.
        text: its description: what is shown, and what is good.
        runbook: anchor in docs/runbook.md.
        unit: Grafana's name of the unit.
        bounds: thresholds; none where no value is good or bad in itself.
        width: columns of the grid.
        decimals: digits behind the point; none: as Grafana likes.
    """

    title: str
    text: str
    runbook: str
    unit: str
    bounds: Bounds | None = None
    width: int = 8
    decimals: int | None = None


class Page:
    """A dashboard under construction: rows and panels in reading order, numbered from 1."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self._ids = count(1)

    def row(self, title: str) -> None:
        """Begin a row."""
        self.dashboard.with_row(Row(title).id(next(self._ids)))

    def number(self, about: About, *queries: Query, whole_range: bool = False, names: bool = False) -> None:
        """Numbers, large, with a line behind them unless they are of the whole range; or the names of what is there."""
        panel = self._told(stat.Panel(), about, queries, "instant" if whole_range else "range", STAT_ROWS)
        panel.color_mode(options.BigValueColorMode.VALUE if about.bounds else options.BigValueColorMode.NONE)
        panel.graph_mode(options.BigValueGraphMode.NONE if whole_range or names else options.BigValueGraphMode.AREA)
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        if names:
            panel.text_mode(options.BigValueTextMode.NAME)
        self.dashboard.with_panel(panel)

    def lines(
        self,
        about: About,
        *queries: Query,
        stacked: bool = False,
        dashed: str | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Lines over time.

        Args:
            about: the panel.
            queries: the lines.
            stacked: on top of each other.
            dashed: regular expression of the names of lines that are a reference rather than a measurement.
            low: the axis reaches at least down to here.
            high: and up to here.
        """
        panel = self._told(timeseries.Panel(), about, queries, "range", CHART_ROWS)
        panel.line_width(1).fill_opacity(60 if stacked else 8).show_points(options.VisibilityMode.NEVER)
        panel.legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.TABLE)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
        )
        panel.tooltip(
            common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
        )
        if stacked:
            panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
        if about.bounds:
            panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.DASHED))
        if dashed:
            style = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})
            panel.override_by_regexp(dashed, [style, DynamicConfigValue("custom.fillOpacity", 0)])
        if low is not None:
            panel.axis_soft_min(low)
        if high is not None:
            panel.axis_soft_max(high)
        self.dashboard.with_panel(panel)

    def bars(self, about: About, *queries: Query, high: float | None = None) -> None:
        """One bar for each line of the answer, as it is now."""
        panel = self._told(bargauge.Panel(), about, queries, "instant", CHART_ROWS)
        panel.orientation(options.VizOrientation.HORIZONTAL).display_mode(options.BarGaugeDisplayMode.BASIC)
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).min(0)
        if high is not None:
            panel.max(high)
        self.dashboard.with_panel(panel)

    def rows(
        self,
        about: About,
        columns: dict[str, Query],
        keys: list[str],
        worst: str,
        *,
        ascending: bool,
        units: dict[str, str] | None = None,
    ) -> None:
        """A table with one column for each query, joined by labels.

        Args:
            about: the panel.
            columns: query by the heading of its column.
            keys: labels that tell the rows.
            worst: heading of the column by which it is sorted.
            ascending: the smallest first.
            units: of columns that have another one than the panel.
        """
        panel = self._told(table.Panel(), about, list(columns.values()), "table", CHART_ROWS)
        names = {f"Value #{_letter(n)}" if len(columns) > 1 else "Value": name for n, name in enumerate(columns)}
        order = {name: n for n, name in enumerate([*keys, *names])}
        panel.with_transformation(DataTransformerConfig("merge", options={}))
        panel.with_transformation(
            DataTransformerConfig(
                "organize",
                options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
            )
        )
        for name, unit in (units or {}).items():
            panel.override_by_name(name, [DynamicConfigValue("unit", unit)])
        panel.sort_by([common.TableSortByFieldState().display_name(worst).desc(not ascending)])
        self.dashboard.with_panel(panel)

    def heat(self, about: About, query: Query) -> None:
        """The buckets of a histogram over time."""
        panel = self._told(heatmap.Panel(), about, [query], "heatmap", CHART_ROWS)
        panel.calculate(False).color(heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Blues"))
        panel.y_axis(heatmap.YAxisConfig().unit(about.unit)).cell_gap(0)
        panel.scale_distribution(common.ScaleDistributionConfig().type(options.ScaleDistribution.LINEAR))
        self.dashboard.with_panel(panel)

    def states(self, about: About, *queries: Query) -> None:
        """What held (1) and what did not (0), over time."""
        panel = self._told(statetimeline.Panel(), about, queries, "range", CHART_ROWS)
        texts = {"1": ValueMappingResult(text="ok", color="green"), "0": ValueMappingResult(text="not", color="red")}
        panel.mappings([ValueMap(options=texts)]).show_value(options.VisibilityMode.NEVER).merge_values(True)
        panel.line_width(0).fill_opacity(70)
        self.dashboard.with_panel(panel)

    def _told(
        self,
        panel: Builder,
        about: About,
        queries: list[Query] | tuple[Query, ...],
        kind: Literal["instant", "range", "table", "heatmap"],
        height: int,
    ) -> Builder:
        panel.id(next(self._ids)).title(about.title).description(about.text).datasource(SOURCE).unit(about.unit)
        panel.height(height).span(about.width)
        link = DashboardLink("Runbook").type(DashboardLinkType.LINK).url(f"${{runbook}}#{about.runbook}")
        panel.links([link.target_blank(True)])
        if about.decimals is not None:
            panel.decimals(about.decimals)
        steps = [Threshold(value=value, color=color) for value, color in about.bounds or [(None, "blue")]]
        panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        for n, query in enumerate(queries):
            target = prometheus.Dataquery().expr(query.expr).ref_id(_letter(n)).datasource(SOURCE)
            target.legend_format(query.legend or "__auto")
            if kind in ("instant", "table"):
                target.instant()
            else:
                target.range()
            if kind in ("table", "heatmap"):
                target.format(PromQueryFormat.TABLE if kind == "table" else PromQueryFormat.HEATMAP)
            panel.with_target(target)
        return panel


def _letter(n: int) -> str:
    return chr(ord("A") + n)
