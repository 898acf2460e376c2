"""What a picture of a series shows, drawn by matplotlib or as SVG: intervals, rolling errors, weights of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.app.backtest.running import Run, Weights

ROLLING_TICKS = 200  # of the mean errors: the memory of the model's own scale
BINS = 300  # of what spans a whole series: more than there are pixels to tell apart

Bounds = tuple[str, "NDArray[np.float64]", "NDArray[np.float64]"]


def values_of(ran: Run, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) the values that are forecast, at these positions."""
    return ran.ticks.y[at] if ran.ticks.y.ndim == 1 else ran.ticks.y[at, 0]


def bounds_of(ran: Run, at: NDArray[np.int64]) -> list[Bounds]:
    """Per cent, lower and upper bounds of the intervals one step ahead, the widest first."""
    digits = [name.removeprefix("yhat_lower_") for name in ran.forecasts.names if name.startswith("yhat_lower_")]
    return [
        (
            f"{float(f'0.{one}') * 100:.4g}",
            ran.forecasts.column(f"yhat_lower_{one}")[at],
            ran.forecasts.column(f"yhat_upper_{one}")[at],
        )
        for one in sorted(digits, key=lambda one: -float(f"0.{one}"))
    ]


def rolling_mean(values: NDArray[np.float64], window: int = ROLLING_TICKS) -> tuple[int, NDArray[np.float64]]:
    """The window, which is no longer than the values, and the mean over each of its n − window + 1 places."""
    window = min(window, len(values))
    if not window:
        return 0, values
    total = np.cumsum(np.insert(values / window, 0, 0.0))
    return window, total[window:] - total[:-window]


def stretches(weights: Weights, bins: int = BINS) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(b,) first ticks of up to `bins` stretches of a series, and (b, K) its experts' mean weights over each."""
    ticks = len(weights.rows)
    edges = np.unique(np.linspace(0, ticks, min(bins, ticks) + 1).astype(np.int64))[:-1]
    sums = np.add.reduceat(weights.rows.astype(np.float64), edges, axis=0)
    return edges, sums / np.diff(edges, append=ticks)[:, None]
