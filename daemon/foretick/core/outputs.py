"""What a forecast consists of, by name: the fields of the wire that carry numbers of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

YHAT = "yhat"
ANOMALY = "anomaly_score"


def output_names(levels: Sequence[float], horizon: int = 1) -> tuple[str, ...]:
    """The columns of `Forecasts.values`: the forecast, of each level the lower and the upper bound, the anomaly score.

    Then forecast and bounds of each further horizon.
    """
    names = [YHAT, *_bounds(YHAT, levels)] + ([ANOMALY] if levels else [])
    for h in range(2, horizon + 1):
        names += [f"{YHAT}_{h}", *_bounds(f"{YHAT}_{h}", levels)]
    return tuple(names)


def _bounds(name: str, levels: Sequence[float]) -> list[str]:
    return [f"{name}_{side}_{percent(level)}" for level in levels for side in ("lower", "upper")]


def percent(level: float) -> str:
    """A level's digits behind the point, two at least: 80 for .8, 95 for .95, 995 for .995."""
    return f"{level:.10f}"[2:].rstrip("0").ljust(2, "0")
