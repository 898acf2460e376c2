"""What a forecast consists of, by name: the fields of the wire that carry numbers of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

YHAT = "yhat"
ANOMALY = "anomaly_score"


def output_names(levels: Sequence[float]) -> tuple[str, ...]:
    """The columns of `Forecasts.values`: the forecast, then of each level the lower and the upper bound."""
    if not levels:
        return (YHAT,)
    bounds = [f"{YHAT}_{side}_{percent(level)}" for level in levels for side in ("lower", "upper")]
    return (YHAT, *bounds, ANOMALY)


def percent(level: float) -> str:
    """A level's digits behind the point, two at least: 80 for .8, 95 for .95, 995 for .995."""
    return f"{level:.10f}"[2:].rstrip("0").ljust(2, "0")
