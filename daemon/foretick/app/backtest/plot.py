"""A picture of one series: actual, forecast and intervals, residuals, errors over time, and the experts' weights."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.app.backtest.panels import ROLLING_TICKS, bounds_of, rolling_mean, stretches, values_of
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from foretick.app.backtest.report import Report
    from foretick.app.backtest.running import Run

SHOWN_TICKS = 240  # of the upper panels: more are a smear
INK, OURS, NAIVE, BAND = "#222222", "#c2410c", "#6b7280", "#fdba74"
SUFFIXES = (".png", ".svg", ".pdf")


def require(path: Path) -> None:
    """See that a picture can be drawn and written here, before hours of work.

    Raises:
        UsageError: matplotlib is missing, the folder does not exist, or the suffix is unknown.
    """
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # at its first run it tells of its fonts
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  an extra
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'foretick[plot]'") from None
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: write a name that ends with {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.absolute().parent}")


def new_figure(inches: tuple[float, float]) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  an extra
    from matplotlib.figure import Figure  # noqa: PLC0415  likewise

    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write the figure.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error}") from error


def draw(path: Path, report: Report, ran: Run, series: str) -> None:
    """Draw one series of a backtest."""
    at = report.at[series]
    y = values_of(ran, at)
    figure = new_figure((11, 9))
    axes = figure.subplots(4, 1, height_ratios=(3, 1.5, 1.5, 2))
    one = report.series[series]
    figure.suptitle(
        f"{series}   {one.ticks:,} ticks   rel-MAE {one.rel_mae:.3f}   skill {one.skill:+.1%}"
        + "".join(f"   {level * 100:.4g}% interval held {share:.1%}" for level, share in one.coverage.items()),
        fontsize=11,
        color=INK,
    )
    shown = slice(max(1, len(y) - SHOWN_TICKS), len(y))
    times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in ran.ticks.ts[at].tolist()]
    _draw_forecasts(axes[0], times, y, ran, at, shown)
    _draw_residuals(axes[1], times, y, ran.forecasts.yhat[at], shown)
    _draw_errors(axes[2], y, ran.forecasts.yhat[at])
    _draw_weights(axes[3], ran, series)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    save(figure, path)


def _draw_forecasts(
    axis: Any, times: Sequence[datetime], y: NDArray[np.float64], ran: Run, at: NDArray[np.int64], shown: slice
) -> None:
    """Each forecast stands at the tick that settles it: one after the tick it was made from."""
    before = slice(shown.start - 1, shown.stop - 1)
    for i, (percent, lower, upper) in enumerate(bounds_of(ran, at)):
        axis.fill_between(
            times[shown],
            lower[before],
            upper[before],
            color=BAND,
            alpha=(0.3, 0.55, 0.7)[min(i, 2)],
            linewidth=0,
            step="mid",
            label=f"{percent}% interval",
        )
    axis.plot(times[shown], y[shown], color=INK, linewidth=1.1, marker=".", markersize=3, label="actual")
    axis.plot(times[shown], ran.forecasts.yhat[at][before], color=OURS, linewidth=1.1, label="forecast, one step ahead")
    axis.set_title(f"the last {shown.stop - shown.start:,} ticks", fontsize=9, loc="left", color=INK)
    axis.legend(fontsize=8, ncols=4, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.12))
    axis.margins(x=0.01)


def _draw_residuals(
    axis: Any, times: Sequence[datetime], y: NDArray[np.float64], yhat: NDArray[np.float64], shown: slice
) -> None:
    residual = y[1:] - yhat[:-1]
    at = slice(shown.start - 1, shown.stop - 1)
    axis.axhline(0, color=NAIVE, linewidth=0.8)
    axis.vlines(times[shown], 0, residual[at], color=OURS, linewidth=1.2)
    axis.plot(times[shown], np.diff(y)[at], ".", color=NAIVE, markersize=3, label="of the naive forecast")
    axis.set_title("residuals: actual − forecast", fontsize=9, loc="left", color=INK)
    axis.legend(fontsize=8, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.25))
    axis.margins(x=0.01)


def _draw_errors(axis: Any, y: NDArray[np.float64], yhat: NDArray[np.float64]) -> None:
    """Mean errors of the last ticks, over the whole series."""
    for error, colour, label in (
        (np.abs(np.diff(y)), NAIVE, "naive"),
        (np.abs(y[1:] - yhat[:-1]), OURS, "forecast"),
    ):
        window, means = rolling_mean(error)
        axis.plot(np.arange(window, window + len(means)), means, color=colour, label=label)
    axis.set_title(f"mean absolute error of the last {ROLLING_TICKS} ticks", fontsize=9, loc="left", color=INK)
    axis.legend(fontsize=8, ncols=2, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.25))
    axis.set_xlim(0, max(len(y), 1))
    axis.set_ylim(bottom=0)


def _draw_weights(axis: Any, ran: Run, series: str) -> None:
    """The weights as stacked areas; the mean of each of up to `panels.BINS` stretches of the series."""
    weights = ran.weights[series.encode()]
    edges, means = stretches(weights)
    colours = ["#9ca3af", "#60a5fa", "#34d399", "#c2410c", "#a78bfa", "#f472b6", "#facc15", "#7c2d12", "#0f766e"]
    axis.stackplot(
        edges, means.T, labels=weights.experts, colors=[colours[i % len(colours)] for i in range(means.shape[1])]
    )
    axis.set_title("weights of the experts", fontsize=9, loc="left", color=INK)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    axis.set_xlim(0, max(len(weights.rows), 1))
    axis.set_ylim(0, 1)
    axis.set_xlabel("ticks of the series", fontsize=8, color=INK)
