"""How accurate recorded forecasts were: prequential, one step ahead, each series against the naive forecast.

The forecast made at a tick is scored against the series' next tick, after the first `burn_in` scores. For a series

    rel-MAE  = Σ |actual − forecast| / Σ |actual − last value|         skill = 1 − rel-MAE
    rel-RMSE = the same with squares, under a root
    MASE     = mean |actual − forecast| / mean |first difference| over the whole series (Hyndman and Koehler 2006)

and over many series: gm is the geometric mean of rel-MAE, bal the geometric mean over sources of each source's gm (so
that a source with many series does not drown the others), harm the share with rel-MAE > 1.01, worst the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_HARM = 1.01  # rel-MAE above which a series would have been better off with naive; 1% is noise
_FLOOR = 1e-6  # rel-MAE below which a geometric mean would be ruled by one exactly foreseen series


@dataclass(frozen=True, slots=True)
class SeriesAccuracy:
    """Accuracy of one series; NaN where nothing was scored or the series never moved.

    Attributes:
        ticks: accepted ticks.
        scored: forecasts that were scored.
        mae: mean absolute error, in the series' unit.
        naive_mae: the same of the naive forecast.
        rel_mae: their ratio.
        rel_rmse: the same for root mean squared errors.
        mase: mean absolute scaled error.
    """

    ticks: int
    scored: int
    mae: float
    naive_mae: float
    rel_mae: float
    rel_rmse: float
    mase: float

    @property
    def skill(self) -> float:
        """1 − rel-MAE: the share of the naive forecast's error that is gone."""
        return 1.0 - self.rel_mae


@dataclass(frozen=True, slots=True)
class Summary:
    """Accuracy over the series in which something moved and was scored.

    Attributes:
        series: how many there are.
        gm: geometric mean of rel-MAE.
        bal: geometric mean of the sources' geometric means.
        harm: share with rel-MAE > 1.01.
        worst: largest rel-MAE.
    """

    series: int
    gm: float
    bal: float
    harm: float
    worst: float


def score_series(y: NDArray[np.float64], yhat: NDArray[np.float64], burn_in: int) -> SeriesAccuracy:
    """Score one series.

    Args:
        y: (n,) values.
        yhat: (n,) the forecast made at each tick, of the next.
        burn_in: scores left out at the start.
    """
    naive = np.diff(y)
    error = (y[1:] - yhat[:-1])[burn_in:]
    moves = naive[burn_in:]
    if len(moves) == 0:
        return SeriesAccuracy(len(y), 0, *[float("nan")] * 5)
    mae, naive_mae = float(np.abs(error).mean()), float(np.abs(moves).mean())
    largest = float(np.abs(moves).max())
    rmse_ratio = _ratio(_rms(error / largest), _rms(moves / largest)) if largest > 0 else float("nan")
    mase = _ratio(mae, float(np.abs(naive).mean()))
    return SeriesAccuracy(len(y), len(moves), mae, naive_mae, _ratio(mae, naive_mae), rmse_ratio, mase)


def summarise(series: Mapping[str, SeriesAccuracy], source_of: Mapping[str, str]) -> Summary:
    """Means over all scored series."""
    logs = {name: np.log(max(one.rel_mae, _FLOOR)) for name, one in series.items() if np.isfinite(one.rel_mae)}
    if not logs:
        return Summary(0, *[float("nan")] * 4)
    by_source: dict[str, list[float]] = {}
    for name, value in logs.items():
        by_source.setdefault(source_of.get(name, ""), []).append(value)
    rel = np.exp(list(logs.values()))
    return Summary(
        series=len(logs),
        gm=float(np.exp(np.mean(list(logs.values())))),
        bal=float(np.exp(np.mean([np.mean(values) for values in by_source.values()]))),
        harm=float(np.mean(rel > _HARM)),
        worst=float(rel.max()),
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _ratio(ours: float, naive: float) -> float:
    return ours / naive if naive > 0 else float("nan")
