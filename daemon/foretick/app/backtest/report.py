"""What a backtest found: every series scored against its naive forecasts, and all of them together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from foretick.app.backtest.running import stream_of
from foretick.app.groups import group_finder, settings_of
from foretick.app.recipes import recipe_of
from foretick.core.accuracy import (
    CoverageSummary,
    SeriesAccuracy,
    Summary,
    score_series,
    summarise,
    summarise_coverage,
    summarise_ratios,
)
from foretick.core.outputs import YHAT
from foretick.core.records import Verdict
from foretick.core.seasons import season_ticks
from foretick.errors import UsageError
from foretick.ports.wire import series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from foretick.app.backtest.running import Run, Weights
    from foretick.app.settings import Settings
    from foretick.core.recipe import SeasonRecipe
    from foretick.core.records import Forecasts, Ticks
    from foretick.ports.recordings import Recording

_STEP = re.compile(rf"{YHAT}(?:_(\d+))?")
_LOWER = re.compile(rf"{YHAT}_lower_(\d+)")


@dataclass(frozen=True, slots=True)
class Report:
    """What a backtest found.

    Attributes:
        burn_in: scores left out at the start of each series.
        series: accuracy one step ahead, by series id.
        farther: by series id, accuracy by steps ahead, from two on.
        experts: by series id, mean weight of each expert behind the scored forecasts.
        at: by series id, positions of its accepted ticks in the recording.
        source_of: source by series id.
        summary: over all series.
        seasonal: the seasonal naive forecast's summary.
        coverage: of all series' intervals, by level.
        refused: ticks the engine set aside, and entries that were no ticks, by reason.
        unusable: rows of the files that are no ticks.
        ticks_per_second: engine speed, learning included.
    """

    burn_in: int
    series: dict[str, SeriesAccuracy]
    farther: dict[str, dict[int, SeriesAccuracy]]
    experts: dict[str, dict[str, float]]
    at: dict[str, NDArray[np.int64]]
    source_of: dict[str, str]
    summary: Summary
    seasonal: Summary
    coverage: list[CoverageSummary]
    refused: dict[str, int]
    unusable: int
    ticks_per_second: float

    def chosen(self, name: str) -> str:
        """The series id that `worst`, `best` or a series id stands for.

        Raises:
            UsageError: no series was scored, or not a single tick of this one was accepted.
        """
        if name in self.series:
            return name
        if name not in {"worst", "best"}:
            raise UsageError(f"no tick of {name} was accepted")
        ranked = sorted((one.rel_mae, key) for key, one in self.series.items() if math.isfinite(one.rel_mae))
        if not ranked:
            raise UsageError(f"no series was scored, so none is the {name}: it takes more than {self.burn_in} ticks")
        return ranked[-1 if name == "worst" else 0][1]


def make_report(recording: Recording, ran: Run, settings: Settings, burn_in: int) -> Report:
    """Score what the engine answered."""
    ticks, forecasts = ran.ticks, ran.forecasts
    season_of = _season_finder(settings, stream_of(recording, settings))
    at = _positions(ticks, forecasts)
    series: dict[str, SeriesAccuracy] = {}
    farther: dict[str, dict[int, SeriesAccuracy]] = {}
    for key, positions in at.items():
        season = season_ticks(ticks.ts[positions], season_of(ran.series_of.get(key, key)))
        scored = {
            steps: score_series(
                _values(ticks)[positions],
                forecasts.column(name)[positions],
                burn_in,
                steps=steps,
                season_ticks=season,
                intervals=_intervals(forecasts, name, positions),
            )
            for steps, name in _steps(forecasts.names).items()
        }
        series[key.decode()] = scored.pop(1)
        farther[key.decode()] = scored
    source_of = {name.decode(): source for name, source in recording.source_of.items()}
    refused = {code.reason: int((forecasts.verdict == code).sum()) for code in Verdict if code != Verdict.FORECAST}
    return Report(
        burn_in=burn_in,
        series=series,
        farther=farther,
        experts={key.decode(): _mean_weights(ran.weights[key], burn_in) for key in at},
        at={key.decode(): positions for key, positions in at.items()},
        source_of=source_of,
        summary=summarise(series, source_of),
        seasonal=summarise_ratios({name: one.seasonal_rel_mae for name, one in series.items()}, source_of),
        coverage=summarise_coverage(series.values()),
        refused={reason: n for reason, n in [*recording.dead.items(), *refused.items()] if n},
        unusable=recording.unusable,
        ticks_per_second=ran.ticks_per_second,
    )


def _values(ticks: Ticks) -> NDArray[np.float64]:
    """(n,) the values that are forecast."""
    return ticks.y if ticks.y.ndim == 1 else ticks.y[:, 0]


def _positions(ticks: Ticks, forecasts: Forecasts) -> dict[bytes, NDArray[np.int64]]:
    """The positions of each series' accepted ticks, by series id in its order."""
    positions: dict[bytes, list[int]] = {}
    for position in np.flatnonzero(forecasts.verdict == Verdict.FORECAST).tolist():
        positions.setdefault(ticks.series[position], []).append(position)
    return {name: np.array(positions[name]) for name in sorted(positions)}


def _steps(names: tuple[str, ...]) -> dict[int, str]:
    """The columns of forecasts, by how many steps they look ahead."""
    found = ((_STEP.fullmatch(name), name) for name in names)
    return {int(match[1] or 1): name for match, name in found if match}


def _intervals(
    forecasts: Forecasts, name: str, at: NDArray[np.int64]
) -> dict[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """By level, the bounds around the forecasts in the column of this name."""
    percents = [match[1] for column in forecasts.names if (match := _LOWER.fullmatch(column))]
    return {
        float(f"0.{percent}"): (
            forecasts.column(f"{name}_lower_{percent}")[at],
            forecasts.column(f"{name}_upper_{percent}")[at],
        )
        for percent in percents
        if f"{name}_lower_{percent}" in forecasts.names
    }


def _mean_weights(weights: Weights, burn_in: int) -> dict[str, float]:
    """The mean weight of each expert behind the scored forecasts; behind all where none was scored."""
    scored = weights.rows[burn_in:-1]
    means = (scored if len(scored) else weights.rows).mean(axis=0, dtype=np.float64)
    return {name: round(float(mean), 6) for name, mean in zip(weights.experts, means, strict=True)}


def _season_finder(settings: Settings, stream: bytes) -> Callable[[bytes], SeasonRecipe]:
    """What tells the season settings of a series by its id."""

    @cache
    def of_group(group: str) -> SeasonRecipe:
        return recipe_of(settings_of(settings, group)).season

    group_of = group_finder(list(settings.groups))
    return lambda series: of_group(group_of(series_key(stream, series)))


def sources(source_of: Mapping[str, str]) -> list[str]:
    """The names of the sources; one without a name where the recording names none."""
    return sorted(set(source_of.values()))
