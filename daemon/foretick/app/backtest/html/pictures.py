"""The pictures of a report: all series by rel-MAE, and of one series its forecasts, errors and experts."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from foretick.app.backtest.html.svg import Frame, spark
from foretick.app.backtest.panels import bounds_of, rolling_mean, stretches, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.app.backtest.report import Report
    from foretick.app.backtest.running import Run, Weights

SHOWN_TICKS = 160  # of a series' forecasts: four pixels each
SPARK_TICKS = 60
RANKED_MAX = 4000  # dots: more than a pixel has room for
EXPERT_COLOURS = 9  # that the page's style knows


def ranking(report: Report) -> str:
    """Every scored series, the most foreseeable at the left: our rel-MAE, and the seasonal naive forecast's."""
    ranked = sorted(
        (one.rel_mae, one.seasonal_rel_mae, name) for name, one in report.series.items() if math.isfinite(one.rel_mae)
    )
    if not ranked:
        return ""
    ranked = ranked[:: math.ceil(len(ranked) / RANKED_MAX)]
    highest = max(1.15, ranked[-1][0] * 1.03)
    frame = Frame(len(ranked), 0.0, highest, 220)
    parts = [
        frame.axes([(0, "most foreseeable"), (len(ranked) - 1, "least")]),
        frame.line([1.0] * len(ranked), "naive"),
    ]
    radius = 3.0 if len(ranked) < 200 else 1.6
    for place, (ours, seasonal, name) in enumerate(ranked):
        if math.isfinite(seasonal) and seasonal != 1.0:
            parts.append(frame.dot(place, seasonal, "dot-seasonal", f"{name}: seasonal naive {seasonal:.3f}", radius))
        style = "dot-miss" if ours > 1.01 else "dot-ours"
        parts.append(frame.dot(place, ours, style, f"{name}: {ours:.3f}", radius))
    return frame.picture("rel-MAE of every series", *parts)


def last_ticks(ran: Run, at: NDArray[np.int64]) -> str:
    """A line of the series' last values with their forecasts."""
    at = at[-SPARK_TICKS - 1 :]
    return spark(values_of(ran, at)[1:], ran.forecasts.yhat[at][:-1])


def forecasts(ran: Run, at: NDArray[np.int64]) -> str:
    """The last ticks, each with the forecast and the intervals that were made for it one tick before."""
    at = at[-SHOWN_TICKS - 1 :]
    if len(at) < 2:
        return ""
    made, y = at[:-1], values_of(ran, at)[1:]
    yhat, bounds = ran.forecasts.yhat[made], bounds_of(ran, made)
    frame = Frame.around(len(y), y, yhat, height=230)
    when = [_time(ms) for ms in ran.ticks.ts[at[1:]].tolist()]
    labels = [(k, when[k]) for k in sorted({0, len(y) // 2, len(y) - 1})]
    parts = [frame.axes(labels)]
    parts += [frame.band(lower, upper, f"band band-{min(i, 2)}") for i, (_, lower, upper) in enumerate(bounds)]
    parts += [frame.line(yhat, "ours"), frame.line(y, "actual")]
    if bounds:
        percent, lower, upper = bounds[0]
        for k in np.flatnonzero((y < lower) | (y > upper)).tolist():
            told = f"{when[k]}: {y[k]:.6g}, outside {lower[k]:.6g} … {upper[k]:.6g} ({percent}%)"
            parts.append(frame.dot(k, y[k], "dot-miss", told))
    return frame.picture("actual, forecast and intervals", *parts)


def errors(ran: Run, at: NDArray[np.int64]) -> str:
    """Rolling mean absolute errors over the whole series, ours and the naive forecast's."""
    if len(at) < 3:
        return ""
    y, yhat = values_of(ran, at), ran.forecasts.yhat[at]
    window, naive = rolling_mean(np.abs(np.diff(y)))
    _, ours = rolling_mean(np.abs(y[1:] - yhat[:-1]))
    step = max(math.ceil(len(ours) / 400), 1)  # two pixels each
    frame = Frame.around(len(y), naive, ours, height=150, floor=0.0)
    return frame.picture(
        "mean absolute errors",
        frame.axes([(0, "first tick"), (len(y) - 1, f"tick {len(y):,}")]),
        frame.line(naive[::step], "naive", window, step),
        frame.line(ours[::step], "ours", window, step),
    )


def experts(weights: Weights) -> str:
    """The weights of the experts as stacked areas over the whole series."""
    edges, means = stretches(weights, 200)
    if len(edges) < 2:
        return ""
    tops = np.cumsum(means, axis=1)
    bottoms = tops - means
    frame = Frame(len(edges), 0.0, 1.0, 150)
    parts = [
        frame.band(bottoms[:, k], tops[:, k], f"expert expert-{k % EXPERT_COLOURS}") for k in range(means.shape[1])
    ]
    ends = [(0, "first tick"), (len(edges) - 1, f"tick {len(weights.rows):,}")]
    return frame.picture("weights of the experts", *parts, frame.axes(ends))


def expert_legend(names: tuple[str, ...]) -> str:
    """What each colour of `experts` is."""
    keys = (
        f'<span class="key"><i class="expert-{k % EXPERT_COLOURS}"></i>{escape(name.replace("_", " "))}</span>'
        for k, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00")
