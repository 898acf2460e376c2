"""A backtest's report as JSON, and as a table by series or by source."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from foretick.app.backtest.report import sources
from foretick.core.accuracy import summarise, summarise_coverage, summarise_ratios

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.app.backtest.report import Report
    from foretick.core.accuracy import CoverageSummary, SeriesAccuracy, Summary

    By = Literal["series", "source"] | None

_NAME_MIN, _NAME_MAX = 20, 50  # columns of a name
_WIDTH = (100, 24)  # where there is no terminal to ask


def as_json(report: Report, _by: By = None) -> str:
    """The whole report; null for what is not known."""
    summary, coverage = report.summary, {_key(one): one for one in report.coverage}
    document = {
        "series": {name: _series(report, name, one) for name, one in report.series.items()},
        "summary": {
            **asdict(summary),
            "seasonal_gm": report.seasonal.gm,
            "seasonal_bal": report.seasonal.bal,
            "seasonal_harm": report.seasonal.harm,
            "coverage": {key: one.mean for key, one in coverage.items()},
            "coverage_within_2_points": {key: one.near for key, one in coverage.items()},
        },
        "refused": report.refused,
        "unusable": report.unusable,
        "ticks_per_second": round(report.ticks_per_second, 1),
    }
    return json.dumps(_without_nan(document), indent=1, ensure_ascii=False) + "\n"


def _series(report: Report, name: str, one: SeriesAccuracy) -> dict[str, Any]:
    return {
        "source": report.source_of.get(name, ""),
        **_scores(one),
        "experts": report.experts[name],
        "horizons": {str(steps): _scores(far) for steps, far in report.farther[name].items()},
    }


def _scores(one: SeriesAccuracy) -> dict[str, Any]:
    coverage = {str(level): share for level, share in one.coverage.items()}
    return {**asdict(one), "skill": one.skill, "coverage": coverage}


def _key(one: CoverageSummary) -> str:
    return str(one.level)


def _without_nan(value: object) -> object:
    """The same with null for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(report: Report, by: By = None) -> str:
    """The report for a person, the most foreseeable series first."""
    names = sources(report.source_of)
    by = by or ("source" if len(names) > 1 else "series")
    lines = _by_source(report, names) if by == "source" else _by_series(report)
    total, seasonal = report.summary, report.seasonal
    lines += [
        "",
        f"{total.series} series, scored after their first {report.burn_in} ticks; rel-MAE 1 is naive",
        f"geometric mean {total.gm:.4f}  by source {total.bal:.4f}  harmed {total.harm:.1%}  worst {total.worst:.3f}",
        f"seasonal naive {seasonal.gm:.4f}  by source {seasonal.bal:.4f}  harmed {seasonal.harm:.1%}",
        *(
            f"{one.level:.4g} intervals held {one.mean:.1%}; within two points of it in {one.near:.1%} of series"
            for one in report.coverage
        ),
        f"{report.ticks_per_second:,.0f} ticks/s, learning included",
    ]
    if report.refused or report.unusable:
        counts = {**report.refused, **({"unusable": report.unusable} if report.unusable else {})}
        lines.append("set aside: " + ", ".join(f"{n:,} {reason}" for reason, n in counts.items()))
    return "\n".join(lines) + "\n"


def _by_series(report: Report) -> list[str]:
    levels = [one.level for one in report.coverage]
    head = f"{'ticks':>8}  {'MAE':>9}  {'naive':>9}  {'seasonal':>9}  {'rel-MAE':>7}" + _level_heads(levels)
    width = _name_width(report.series, len(head) + 2)
    lines = [f"{'series':{width}}  {head}"]
    best_first = sorted(report.series.items(), key=lambda item: (math.isnan(item[1].rel_mae), item[1].rel_mae))
    for name, one in best_first:
        seasonal = f"{one.seasonal_mae:9.4g}" if one.season_ticks else f"{'–':>9}"
        errors = f"{one.mae:9.4g}  {one.naive_mae:9.4g}  {seasonal}  {one.rel_mae:7.3f}"
        shares = "".join(_share(one.coverage.get(level, math.nan)) for level in levels)
        lines.append(f"{_shortened(name, width):{width}}  {one.ticks:8,}  {errors}{shares}")
    return lines


def _by_source(report: Report, names: list[str]) -> list[str]:
    levels = [one.level for one in report.coverage]
    head = f"{'series':>6}  {'ticks':>9}  {'rel-MAE':>7}  {'seasonal':>8}  {'harmed':>6}  {'worst':>6}"
    head += _level_heads(levels)
    width = _name_width(names, len(head) + 2)
    lines = [f"{'source':{width}}  {head}"]
    for source in names:
        of = {name: one for name, one in report.series.items() if report.source_of[name] == source}
        found: Summary = summarise(of, {})
        seasonal = summarise_ratios({name: one.seasonal_rel_mae for name, one in of.items()}, {})
        ticks = sum(one.ticks for one in of.values())
        shares = {one.level: one.mean for one in summarise_coverage(of.values())}
        lines.append(
            f"{_shortened(source or '(none)', width):{width}}  {len(of):6,}  {ticks:9,}  {found.gm:7.3f}"
            f"  {seasonal.gm:8.3f}  {found.harm:6.1%}  {found.worst:6.3f}"
            + "".join(_share(shares.get(level, math.nan)) for level in levels)
        )
    return lines


def _level_heads(levels: list[float]) -> str:
    return "".join(f"  {f'{level * 100:.4g}%':>5}" for level in levels)


def _share(share: float) -> str:
    return "      –" if math.isnan(share) else f"  {share * 100:5.1f}"


def _name_width(names: Iterable[str], beside: int) -> int:
    longest = max((len(name) for name in names), default=0)
    room = shutil.get_terminal_size(_WIDTH).columns - beside
    return min(max(6, longest), max(_NAME_MIN, min(room, _NAME_MAX)))


def _shortened(name: str, width: int) -> str:
    """The name; of a longer one both ends, since what tells ids apart is often their end."""
    if len(name) <= width:
        return name
    front = (width - 1) // 2
    return f"{name[:front]}…{name[len(name) - (width - 1 - front) :]}"
