"""Draws the pictures of docs/how-it-works.md, two of them from a run of the real engine: `make docs`."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.app.backtest.html import svg
from foretick.app.backtest.panels import bounds_of
from foretick.app.backtest.running import Run, run_engine
from foretick.app.settings import Settings
from foretick.core.records import Ticks
from foretick.ports.recordings import Faults, Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
HOUR_MS = 3_600_000
SERIES = b"example"
PART_TICKS = 300  # of each of the three parts of the example
DRAWN = (  # what the report has not
    ".cell { fill: var(--card); stroke: var(--accent); stroke-width: 1.6; }"
    ".arrow { fill: none; stroke: var(--accent); stroke-width: 1.6; }"
)
SHOWN = slice(420, 740)  # where the interval has to widen and may narrow again


def example() -> NDArray[np.float64]:
    """A daily wave, then a walk without any pattern, then the wave again, three times as noisy."""
    chance = np.random.default_rng(4)
    hours = np.arange(PART_TICKS)
    wave = 10 * np.sin(hours * 2 * np.pi / 24) + 4 * np.sin(hours * 2 * np.pi / 12)
    calm = 50 + wave + chance.normal(0, 0.8, PART_TICKS)
    walk = calm[-1] + np.cumsum(chance.normal(0, 2.0, PART_TICKS))
    return np.concatenate([calm, walk, walk[-1] + wave - wave[0] + chance.normal(0, 2.4, PART_TICKS)])


def forecast(y: NDArray[np.float64]) -> Run:
    """The engine over hourly ticks, in its default profile."""
    torch.set_num_threads(1)
    n = len(y)
    ms = 1_700_000_000_000 + HOUR_MS * np.arange(n)
    ticks = Ticks([SERIES] * n, ms, ms, np.ones(n, np.bool_), y)
    return run_engine(Recording(ticks, {SERIES: ""}, Faults(), b"ticks", {}), Settings())


def styled(text: str) -> str:
    """The picture as a file of its own: with the report's colours, its namespace and a ground."""
    style = (files("foretick.app.backtest.html") / "style.css").read_text(encoding="utf-8")
    rules = re.sub(r"(?m)^(body|h1|p|table|th|td|\*|a|input|dl|dt|dd|@media print).*\n(  .*\n)*", "", style)
    found = re.match(r'<svg viewBox="0 0 (\d+) (\d+)"', text)
    assert found is not None
    ground = f'<rect width="{found[1]}" height="{found[2]}" rx="10" fill="var(--paper)"/>'
    head = text.index(">") + 1
    opening = text[:head].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    style = f"<style>{rules}svg text {{ font-family: ui-sans-serif, system-ui, sans-serif; }}{DRAWN}</style>"
    return f"{opening}{style}{ground}{text[head:]}\n"


def mix(ran: Run) -> str:
    """Actual and forecast above, weights of the experts below."""
    y, made = ran.ticks.y, ran.weights[SERIES]
    top = svg.Frame.around(len(y), y, height=190)
    ends = [
        (0, "a daily wave"),
        (PART_TICKS * 1.5, "a walk without a pattern"),
        (len(y) - 1, "the wave again, noisier"),
    ]
    parts = [top.axes(ends), top.line(y, "actual"), top.line(np.append(np.nan, ran.forecasts.yhat[:-1]), "ours")]
    below = svg.Frame(len(y), 0.0, 1.0, 190)
    bins = np.arange(0, len(y), 4)
    means = np.add.reduceat(made.rows, bins, axis=0) / np.diff(bins, append=len(y))[:, None]
    tops = np.cumsum(means, axis=1)
    narrow = svg.Frame(len(bins), 0.0, 1.0, 190)
    areas = [narrow.band(tops[:, k] - means[:, k], tops[:, k], f"expert expert-{k % 9}") for k in range(means.shape[1])]
    legend, x = [], float(svg.LEFT)
    for k, name in enumerate(made.experts):
        legend.append(f'<rect class="expert-{k % 9}" x="{x:.0f}" y="388" width="14" height="9" rx="2"/>')
        legend.append(f'<text x="{x + 18:.0f}" y="397">{name.replace("_", " ")}</text>')
        x += 30 + 5.6 * len(name)
    shifted = f'<g transform="translate(0 190)">{"".join(areas)}{below.axes([])}</g>'
    inner = "".join([*parts, shifted, *legend])
    label = "forecasts above, weights of experts below"
    return f'<svg viewBox="0 0 {svg.WIDTH} 408" role="img" aria-label="{label}">{inner}</svg>'


def interval(ran: Run) -> str:
    """A stretch in which the noise changes: bands, actuals, those outside."""
    at = np.arange(*SHOWN.indices(len(ran.ticks.y)))
    y, bounds = ran.ticks.y[at], bounds_of(ran, at - 1)
    frame = svg.Frame.around(len(y), y, bounds[0][1], bounds[0][2], height=250)
    parts = [frame.band(lower, upper, f"band band-{i}") for i, (_, lower, upper) in enumerate(bounds)]
    parts.append(frame.line(y, "actual"))
    _, lower, upper = bounds[0]
    outside = np.flatnonzero((y < lower) | (y > upper)).tolist()
    parts += [frame.dot(k, y[k], "dot-miss") for k in outside]
    told = f"{len(outside)} of {len(y)} actuals outside of the 95% interval ({len(outside) / len(y):.1%})"
    return frame.picture("intervals", frame.axes([(len(y) // 2, told)]), *parts)


def carried() -> str:
    """A window that is read again at each tick, and a state that is carried on."""
    tip = '<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    parts = ['<svg viewBox="0 0 720 300" role="img" aria-label="window against carried state">']
    parts.append(f'<defs>{tip}<path d="M0 0 10 5 0 10z" fill="var(--soft)"/></marker></defs>')
    parts.append(said(20, 28, "a window: at every tick the last W are read anew, from nothing", "start"))
    for row in range(3):
        y = 44 + row * 22
        for k in range(12):
            fill = "var(--band)" if row <= k - 6 < row + 4 else "var(--rule)"
            parts.append(f'<rect x="{60 + k * 46}" y="{y}" width="38" height="15" rx="4" fill="{fill}"/>')
        parts.append(said(620, y + 12, "W steps", "start"))
    parts.append(said(20, 146, "carried state: one step a tick, and what is kept in mind goes along", "start"))
    for k in range(7):
        x = 60 + k * 88
        parts.append(f'<rect class="cell" x="{x}" y="168" width="56" height="40" rx="8"/>')
        parts.append(f'<path class="arrow" d="M{x + 28} 244V212" marker-end="url(#tip)"/>')
        parts += [said(x + 28, 193, "LSTM"), said(x + 28, 260, f"tick {k + 1}")]
        if k < 6:
            parts.append(f'<path class="arrow" d="M{x + 57} 188H{x + 85}" marker-end="url(#tip)"/>')
            parts.append(said(x + 71, 181, "h, c"))
    parts.append(
        said(20, 288, "h: what it says now.   c: what it keeps in mind.   64 numbers each, for every series.", "start")
    )
    return "".join([*parts, "</svg>"])


def said(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Words in the picture."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    found = forecast(example())
    for name, text in (("carried", carried()), ("mix", mix(found)), ("interval", interval(found))):
        (FOLDER / f"{name}.svg").write_text(styled(text), encoding="utf-8")
