"""An engine led through ticks, and how its network alone, its blend and the naive forecast did on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foretick.core import experts
from foretick.core.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from foretick.app.progress import Advance
    from foretick.core.engine import Engine
    from foretick.core.records import Ticks

_TICKS_AT_ONCE = 500
_REL_FLOOR = 1e-6  # rel-MAE below which a geometric mean would be ruled by one exactly foreseen series


@dataclass(frozen=True, slots=True)
class Walk:
    """Ticks and what was forecast after each, of the series' next value.

    Attributes:
        series: (n,) series ids.
        y: (n,) values.
        blend: (n,) published forecasts; NaN where the tick was refused.
        lstm: (n,) those of the network alone.
        scale: (n,) running scales; 0 while nothing moved.
        bounds: target clip and floor of the learner's loss.
    """

    series: list[bytes]
    y: NDArray[np.float64]
    blend: NDArray[np.float64]
    lstm: NDArray[np.float64]
    scale: NDArray[np.float64]
    bounds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Standing:
    """How good some forecasts were.

    Attributes:
        loss: the learner's: mean over series of mean |error| / (mean |move| + floor), in scales.
        mae: mean absolute error over all ticks, in the values' unit.
        by_series: MAE of each series, in its unit.
        rel_mae: geometric mean over the series that moved of MAE / naive MAE.
    """

    loss: float
    mae: float
    by_series: dict[bytes, float]
    rel_mae: float

    @property
    def skill(self) -> float:
        """1 − rel-MAE."""
        return 1.0 - self.rel_mae


@dataclass(frozen=True, slots=True)
class Standings:
    """Of three ways to forecast the same ticks."""

    naive: Standing
    lstm: Standing
    blend: Standing


def walk(engine: Engine, ticks: Ticks, advance: Advance) -> Walk:
    """Lead the engine through the ticks."""
    place = experts.names(engine.recipe).index("lstm")
    n = len(ticks)
    blend, lstm, scale = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    for start, stop in _distinct(ticks.series):
        batch = ticks.slice(start, stop)
        answer = engine.advance(batch)
        sound = answer.verdict == Verdict.FORECAST
        scales, opinions = engine.opinions(batch.series)
        blend[start:stop] = np.where(sound, answer.yhat, np.nan)
        lstm[start:stop] = np.where(sound, batch.y + scales * opinions[:, place], np.nan)
        scale[start:stop] = scales
        advance(stop - start)
    learn = engine.recipe.learn
    return Walk(ticks.series, ticks.y, blend, lstm, scale, (learn.target_clip, learn.loss_floor))


def score(walked: Walk) -> Standings:
    """Score each forecast against the next tick of its series."""
    places: dict[bytes, list[int]] = {}
    for place in np.flatnonzero(np.isfinite(walked.blend)).tolist():
        places.setdefault(walked.series[place], []).append(place)
    origin = {name: np.array(at[:-1]) for name, at in places.items() if len(at) > 1}
    actual = {name: walked.y[places[name][1:]] for name in origin}
    naive_mae = {name: float(np.abs(actual[name] - walked.y[at]).mean()) for name, at in origin.items()}
    naive, lstm, blend = (
        _standing(walked, forecast, origin, actual, naive_mae) for forecast in (walked.y, walked.lstm, walked.blend)
    )
    return Standings(naive, lstm, blend)


def _standing(
    walked: Walk,
    forecast: NDArray[np.float64],
    origin: dict[bytes, NDArray[np.int64]],
    actual: dict[bytes, NDArray[np.float64]],
    naive_mae: dict[bytes, float],
) -> Standing:
    clip, floor = walked.bounds
    errors = {name: np.abs(actual[name] - forecast[at]) for name, at in origin.items()}
    by_series = {name: float(error.mean()) for name, error in errors.items()}
    losses = []
    for name, at in origin.items():
        known = walked.scale[at] > 0
        if known.any():
            base, scale = walked.y[at][known], walked.scale[at][known]
            z = ((actual[name][known] - base) / scale).clip(-clip, clip)
            said = (forecast[at][known] - base) / scale
            losses.append(np.abs(said - z).mean() / (np.abs(z).mean() + floor))
    relative = [by_series[name] / naive for name, naive in naive_mae.items() if naive > 0]
    return Standing(
        loss=float(np.mean(losses)) if losses else float("nan"),
        mae=float(np.concatenate(list(errors.values())).mean()) if errors else float("nan"),
        by_series=by_series,
        rel_mae=float(np.exp(np.log(np.maximum(relative, _REL_FLOOR)).mean())) if relative else float("nan"),
    )


def _distinct(series: list[bytes]) -> Iterator[tuple[int, int]]:
    """Begin and end of consecutive batches in which no series appears twice."""
    begin, seen = 0, set[bytes]()
    for place, name in enumerate(series):
        if name in seen or len(seen) == _TICKS_AT_ONCE:
            yield begin, place
            begin, seen = place, set()
        seen.add(name)
    if seen:
        yield begin, len(series)
