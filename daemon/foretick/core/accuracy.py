"""How accurate recorded forecasts were: prequential, each series against the naive forecast.

The forecast made at a tick is scored against the series' next tick, after the first `burn_in` scores. For a series

    rel-MAE  = Σ |actual − forecast| / Σ |actual − last value|         skill = 1 − rel-MAE
    rel-RMSE = the same with squares, under a root
    MASE     = mean |actual − forecast| / mean |first difference| over the whole series (Hyndman and Koehler 2006)

and over many series: gm is the geometric mean of rel-MAE, bal the geometric mean over sources of each source's gm (so
that a source with many series does not drown the others), harm the share with rel-MAE > 1.01, worst the largest.

The seasonal naive forecast is the value one season before the actual; the naive one where no season is known, or none
has passed yet. Coverage is counted over the scored forecasts that had an interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Interval = tuple[NDArray[np.float64], NDArray[np.float64]]

_HARM = 1.01  # rel-MAE above which a series would have been better off with naive; 1% is noise
_FLOOR = 1e-6  # rel-MAE below which a geometric mean would be ruled by one exactly foreseen series
_NEAR = 0.02  # coverage this far from its level is what is promised


@dataclass(frozen=True, slots=True)
class SeriesAccuracy:
    """Accuracy of one series; NaN where nothing was scored or the series never moved.

    Attributes:
        ticks: accepted ticks.
        scored: forecasts that were scored.
        mae: mean absolute error, in the series' unit.
        naive_mae: the same of the naive forecast.
        seasonal_mae: the same of the seasonal naive forecast.
        rel_mae: mae over naive_mae.
        rel_rmse: the same for root mean squared errors.
        mase: mean absolute scaled error.
        season_ticks: ticks of the season that the seasonal naive forecast looked back; 0 where it was the naive one.
        coverage: by level, share of actuals within the interval; NaN where there was none.
    """

    ticks: int
    scored: int
    mae: float
    naive_mae: float
    seasonal_mae: float
    rel_mae: float
    rel_rmse: float
    mase: float
    season_ticks: int = 0
    coverage: dict[float, float] = field(default_factory=dict)

    @property
    def skill(self) -> float:
        """1 − rel-MAE: the share of the naive forecast's error that is gone."""
        return 1.0 - self.rel_mae

    @property
    def seasonal_rel_mae(self) -> float:
        """The seasonal naive forecast's own rel-MAE."""
        return _ratio(self.seasonal_mae, self.naive_mae)


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


@dataclass(frozen=True, slots=True)
class CoverageSummary:
    """How well the intervals of one level kept their promise.

    Attributes:
        level: the share of actuals that they should hold.
        mean: the share that they held, mean over series.
        near: share of series within two points of the level.
    """

    level: float
    mean: float
    near: float


def score_series(
    y: NDArray[np.float64],
    yhat: NDArray[np.float64],
    burn_in: int,
    *,
    steps: int = 1,
    season_ticks: int = 0,
    intervals: Mapping[float, Interval] | None = None,
) -> SeriesAccuracy:
    """Score one series.

    Args:
        y: (n,) values.
        yhat: (n,) the forecast made at each tick, of the one `steps` later.
        burn_in: scores left out at the start.
        steps: ticks from a forecast to its actual; the naive forecast looks as far ahead.
        season_ticks: ticks of a season, 0 where there is none.
        intervals: by level, the (n,) lower and upper bounds around each forecast, NaN where there are none.
    """
    error = (y[steps:] - yhat[:-steps])[burn_in:]
    moves = (y[steps:] - y[:-steps])[burn_in:]
    coverage = {level: _coverage(y, bounds, burn_in, steps) for level, bounds in (intervals or {}).items()}
    if len(moves) == 0:
        nan = float("nan")
        return SeriesAccuracy(len(y), 0, nan, nan, nan, nan, nan, nan, season_ticks, coverage)
    mae, naive_mae = float(np.abs(error).mean()), float(np.abs(moves).mean())
    seasonal_mae = float(np.abs(y[steps:] - seasonal_naive(y, season_ticks, steps)[:-steps])[burn_in:].mean())
    largest = float(np.abs(moves).max())
    rmse_ratio = _ratio(_rms(error / largest), _rms(moves / largest)) if largest > 0 else float("nan")
    mase = _ratio(mae, float(np.abs(np.diff(y)).mean()))
    return SeriesAccuracy(
        ticks=len(y),
        scored=len(moves),
        mae=mae,
        naive_mae=naive_mae,
        seasonal_mae=seasonal_mae,
        rel_mae=_ratio(mae, naive_mae),
        rel_rmse=rmse_ratio,
        mase=mase,
        season_ticks=season_ticks,
        coverage=coverage,
    )


def seasonal_naive(y: NDArray[np.float64], season_ticks: int, steps: int = 1) -> NDArray[np.float64]:
    """(n,) the forecast made at each tick t of the one h steps later: y at t + h − P; y at t where there is none."""
    forecast = y.copy()
    back = season_ticks - steps
    if 0 < back < len(y):
        forecast[back:] = y[: len(y) - back]
    return forecast


def summarise(series: Mapping[str, SeriesAccuracy], source_of: Mapping[str, str]) -> Summary:
    """Means over all scored series."""
    return summarise_ratios({name: one.rel_mae for name, one in series.items()}, source_of)


def summarise_ratios(rel_mae: Mapping[str, float], source_of: Mapping[str, str]) -> Summary:
    """Means over all series whose rel-MAE is a number."""
    logs = {name: np.log(max(one, _FLOOR)) for name, one in rel_mae.items() if np.isfinite(one)}
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


def summarise_coverage(series: Iterable[SeriesAccuracy]) -> list[CoverageSummary]:
    """What became of the intervals of each level, over the series that had some; ascending."""
    shares: dict[float, list[float]] = {}
    for one in series:
        for level, share in one.coverage.items():
            if np.isfinite(share):
                shares.setdefault(level, []).append(share)
    return [
        CoverageSummary(level, float(np.mean(found)), float(np.mean(np.abs(np.array(found) - level) <= _NEAR)))
        for level, found in sorted(shares.items())
    ]


def _coverage(y: NDArray[np.float64], bounds: Interval, burn_in: int, steps: int) -> float:
    lower, upper = (bound[:-steps][burn_in:] for bound in bounds)
    bounded = ~np.isnan(lower)
    if not bounded.any():
        return float("nan")
    actual = y[steps:][burn_in:][bounded]
    return float(np.mean((actual >= lower[bounded]) & (actual <= upper[bounded])))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _ratio(ours: float, naive: float) -> float:
    return ours / naive if naive > 0 else float("nan")
