"""The report as one self-contained page: no network, no build; it reads without script and sorts with it."""

from __future__ import annotations

import math
import platform
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick import __version__
from foretick.app.backtest.html import pictures
from foretick.app.backtest.panels import ROLLING_TICKS
from foretick.app.settings import catalogue, value_of
from foretick.app.settings_text import written, written_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretick.app.backtest.report import Report
    from foretick.app.backtest.running import Run
    from foretick.app.settings import Settings
    from foretick.core.accuracy import SeriesAccuracy

DRAWN_OF_EACH = 4  # of the worst, the middling and the best series, where there are too many to draw all
DRAWN_ALL = 12
SPARKS_MAX = 2000  # rows with a sparkline: 1 kB each
HARM = 1.01  # above, a series would have been better off with naive
NEAR = 0.02  # coverage this far from its level is what is promised
LEFT = ("source", "leading expert")  # columns of words
_SHAPING = (  # settings by which a backtest's forecasts differ: the others are the daemon's
    *("profile", "features", "targets", "horizon", "interval", "season", "learn", "model", "max_series"),
    *("series", "fields", "groups", "batch", "device"),
)


def document(report: Report, ran: Run, settings: Settings, inputs: Sequence[str], chosen: str) -> str:
    """The page as HTML.

    Args:
        report: what was found.
        ran: every tick with its answer.
        settings: what it was found with.
        inputs: what was read, as people call it.
        chosen: a series that is drawn in any case.
    """
    style, script = ((files(__package__) / name).read_text(encoding="utf-8") for name in ("style.css", "table.js"))
    drawn = _drawn(report, chosen)
    body = "\n".join(
        part
        for part in (
            _head(report, inputs),
            _cards(report),
            _ranking(report),
            _table(report, ran, drawn),
            "<h2>Series</h2>",
            *(_series(report, ran, name, place) for place, name in enumerate(drawn)),
            _facts(report, settings),
        )
        if part
    )
    title = f"foretick backtest: {', '.join(inputs)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _drawn(report: Report, chosen: str) -> list[str]:
    """The series that are drawn, the least foreseeable first; the chosen one before all."""
    ranked = sorted(
        (name for name, one in report.series.items() if math.isfinite(one.rel_mae)),
        key=lambda name: -report.series[name].rel_mae,
    )
    if len(ranked) > DRAWN_ALL:
        middle = (len(ranked) - DRAWN_OF_EACH) // 2
        ranked = ranked[:DRAWN_OF_EACH] + ranked[middle : middle + DRAWN_OF_EACH] + ranked[-DRAWN_OF_EACH:]
    return list(dict.fromkeys(([chosen] if chosen in report.series else []) + ranked))


def _head(report: Report, inputs: Sequence[str]) -> str:
    ticks = sum(one.ticks for one in report.series.values())
    return (
        f"<header><h1>foretick backtest</h1><p>{escape(', '.join(inputs))}</p>"
        f'<p class="soft">{ticks:,} ticks of {len(report.series):,} series, replayed through the daemon’s own engine: '
        "each forecast is made before its actual is seen, and scored against the naive one (next value = last value) "
        f"after the first {report.burn_in:,} ticks of the series.</p></header>"
    )


def _cards(report: Report) -> str:
    total = report.summary
    cards = [
        (_percent(1.0 - total.gm, sign=True), "less error than naive (geometric mean of all series)", total.gm <= 1.0),
        (_percent(total.harm), "of the series worse than naive by over 1%", total.harm == 0.0),
        (f"{total.worst:.3f}", "rel-MAE of the worst series (1 is naive)", total.worst <= HARM),
        *(
            (
                _percent(one.mean),
                f"of actuals in the {one.level * 100:.4g}% interval",
                abs(one.mean - one.level) <= NEAR,
            )
            for one in report.coverage
        ),
        (f"{report.ticks_per_second:,.0f}", "ticks/s on one core, learning included", None),
    ]
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b{_verdict(is_good)}>{figure}</b><span>{told}</span></div>'
            for figure, told, is_good in cards
        )
        + "</div>"
    )


def _verdict(is_good: bool | None) -> str:  # noqa: FBT001  the thing itself
    return "" if is_good is None else f' class="{"good" if is_good else "bad"}"'


def _ranking(report: Report) -> str:
    picture = pictures.ranking(report)
    if not picture:
        return '<p class="bad">No series was long enough to be scored.</p>'
    return (
        '<h2>rel-MAE of every series</h2><p class="legend"><span class="key"><i style="background:var(--ours)"></i>'
        'foretick</span><span class="key"><i style="background:var(--bad)"></i>worse than naive by over 1%</span>'
        '<span class="key"><i style="border:1px solid var(--naive)"></i>seasonal naive</span>below the dashed line: '
        f'better than naive</p><div class="wide">{picture}</div>'
    )


def _table(report: Report, ran: Run, drawn: Sequence[str]) -> str:
    levels = [one.level for one in report.coverage]
    has_sources = len(set(report.source_of.values())) > 1
    heads = [*(["source"] if has_sources else []), "ticks", "MAE", "naive MAE", "seasonal MAE", "rel-MAE"]
    heads += ["rel-RMSE", "MASE", *(f"{level * 100:.4g}%" for level in levels), "leading expert"]
    best_first = sorted(report.series.items(), key=lambda item: (math.isnan(item[1].rel_mae), item[1].rel_mae))
    rows = []
    for place, (name, one) in enumerate(best_first):
        rows.append(
            f'<tr><td title="{escape(name)}">{_linked(name, drawn)}</td>'
            f"<td>{pictures.last_ticks(ran, report.at[name]) if place < SPARKS_MAX else ''}</td>"
            + (f'<td class="left">{escape(report.source_of.get(name, ""))}</td>' if has_sources else "")
            + "".join(_cells(one, levels))
            + f'<td class="left">{_leading(report.experts[name])}</td></tr>'
        )
    columns = "".join(f"<th{_sorted_by(head)}><button>{escape(head)}</button></th>" for head in heads)
    return (
        "<h2>All series</h2>"
        '<p><input id="find" type="search" placeholder="find a series" aria-label="find a series"></p>'
        f'<div class="wide"><table id="series"><thead><tr><th><button>series</button></th>'
        f'<th class="left">last ticks</th>{columns}</tr></thead>'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _sorted_by(head: str) -> str:
    return " aria-sort=ascending" if head == "rel-MAE" else ' class="left"' if head in LEFT else ""


def _linked(name: str, drawn: Sequence[str]) -> str:
    return f'<a href="#drawn-{drawn.index(name)}">{escape(name)}</a>' if name in drawn else escape(name)


def _cells(one: SeriesAccuracy, levels: Sequence[float]) -> Iterator[str]:
    yield f'<td data-sort="{one.ticks}">{one.ticks:,}</td>'
    yield _cell(one.mae)
    yield _cell(one.naive_mae)
    yield _cell(one.seasonal_mae if one.season_ticks else math.nan)
    style = "" if math.isnan(one.rel_mae) else "bad" if one.rel_mae > HARM else "good" if one.rel_mae < 0.995 else ""
    yield _cell(one.rel_mae, f"{one.rel_mae:.3f}", style)
    yield _cell(one.rel_rmse, f"{one.rel_rmse:.3f}")
    yield _cell(one.mase, f"{one.mase:.3f}")
    for level in levels:
        share = one.coverage.get(level, math.nan)
        yield _cell(share, f"{share:.1%}", "bad" if abs(share - level) > NEAR else "")


def _cell(value: float, text: str = "", style: str = "") -> str:
    if not math.isfinite(value):
        return '<td data-sort="">–</td>'
    return f'<td data-sort="{value!r}"{f" class={style}" if style else ""}>{text or _number(value)}</td>'


def _leading(weights: dict[str, float]) -> str:
    name, weight = max(weights.items(), key=lambda item: item[1])
    return f"{escape(name.replace('_', ' '))} {weight:.0%}"


def _series(report: Report, ran: Run, name: str, place: int) -> str:
    one, at = report.series[name], report.at[name]
    weights = ran.weights[name.encode()]
    held = "".join(f", {level * 100:.4g}% interval held {share:.1%}" for level, share in one.coverage.items())
    told = f"rel-MAE {one.rel_mae:.3f}, skill {one.skill:+.1%}{held}" if one.scored else "too short to be scored"
    farther = "".join(
        f", {steps} steps ahead {far.skill:+.1%}" for steps, far in report.farther[name].items() if far.scored
    )
    return (
        f'<section class="series" id="drawn-{place}"><h3>{escape(name)}</h3><p class="soft">{one.ticks:,} ticks, {told}'
        f"{farther}</p><h4>the last {min(pictures.SHOWN_TICKS, max(len(at) - 1, 0))} ticks</h4>"
        '<p class="legend"><span class="key"><i class="line" style="color:var(--ink)"></i>actual</span>'
        '<span class="key"><i class="line" style="color:var(--ours)"></i>forecast, one step ahead</span>'
        '<span class="key"><i style="background:var(--band);opacity:.4"></i>intervals</span>'
        '<span class="key"><i style="background:var(--bad)"></i>outside the widest</span></p>'
        f'<div class="wide">{pictures.forecasts(ran, at)}</div>'
        f"<h4>mean absolute error of the last {ROLLING_TICKS} ticks (dashed: naive)</h4>"
        f'<div class="wide">{pictures.errors(ran, at)}</div><h4>weights of the experts</h4>'
        f'{pictures.expert_legend(weights.experts)}<div class="wide">{pictures.experts(weights)}</div></section>'
    )


def _facts(report: Report, settings: Settings) -> str:
    aside = {**report.refused, **({"unusable": report.unusable} if report.unusable else {})}
    refused = ", ".join(f"{n:,} {reason}" for reason, n in aside.items()) or "nothing"
    shaping = [name for name in catalogue() if name.partition(".")[0] in _SHAPING]
    known = [(name, value_of(settings, name)) for name in shaping]
    told = [(name, written(name, value)) for name, value in known if value is not None and name != "groups"]
    told += [(name, value) for name, _, value in (line.partition(" = ") for line in written_groups(settings.groups))]
    versions = {
        "foretick": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "Python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return (
        f'<h2>Set aside</h2><p class="soft">{escape(refused)}</p><h2>Settings</h2>{_list(told)}'
        f"<h2>Versions</h2>{_list(list(versions.items()))}"
    )


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd><code>{escape(b)}</code></dd>" for a, b in pairs) + "</dl>"


def _percent(share: float, *, sign: bool = False) -> str:
    return "–" if math.isnan(share) else f"{share:+.1%}" if sign else f"{share:.1%}"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
