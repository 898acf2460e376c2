"""The engine over a recording, exactly as the daemon runs it over a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from foretick.app.groups import group_finder, groups_of, settings_of
from foretick.app.initial import initial_of
from foretick.app.progress import progress
from foretick.app.recipes import devices_of, engine_of, recipe_of
from foretick.core.groups import GroupedEngine
from foretick.core.learner import InlineTrainer
from foretick.core.records import Forecasts, Ticks, Verdict
from foretick.core.targets import TARGET_MARK
from foretick.ports.wire import series_key, split_series_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from foretick.app.settings import Settings
    from foretick.core.engine import Engine
    from foretick.ports.recordings import Recording


@dataclass(frozen=True, slots=True)
class Weights:
    """How a series' experts were blended.

    Attributes:
        experts: their K names.
        rows: (m, K) float32 weights behind each of its forecasts, in their order.
    """

    experts: tuple[str, ...]
    rows: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """Every tick of a recording with its answer.

    Attributes:
        ticks: as recorded.
        forecasts: the engine's answer to each.
        weights: by series id.
        ticks_per_second: engine speed, learning included.
        series_of: series id by the name that one of its several targets goes by.
    """

    ticks: Ticks
    forecasts: Forecasts
    weights: dict[bytes, Weights]
    ticks_per_second: float
    series_of: dict[bytes, bytes] = field(default_factory=dict)


def run_engine(recording: Recording, settings: Settings) -> Run:
    """Forecast every tick in order, as the daemon does."""
    ticks, stream = recording.ticks, stream_of(recording, settings)
    engine = fresh_engine(settings)
    seen = _WeightLog(engine)
    answers = []
    began = time.perf_counter()
    with progress(len(ticks), "backtest", "ticks") as advance:
        for start in range(0, len(ticks), settings.batch):
            answers.append(engine.advance(_keyed(ticks.slice(start, start + settings.batch), stream)))
            advance(len(answers[-1].verdict))
    elapsed_seconds = time.perf_counter() - began
    return Run(ticks, Forecasts.joined(answers), dict(seen.by_series()), len(ticks) / elapsed_seconds)


def by_target(recording: Recording, ran: Run) -> tuple[Recording, Run]:
    """The same as if each target had been a series of its own, called `series.target` where there are several."""
    forecasts, ticks = ran.forecasts, ran.ticks
    suffixes = [name[1:] for name in forecasts.names if name == "y" or name.startswith("y.")]
    if not suffixes:
        return recording, ran
    outputs = tuple(dict.fromkeys(base for name in forecasts.names if (base := name.partition(".")[0]) != "y"))
    is_forecast = forecasts.verdict == Verdict.FORECAST
    ats, names, y, values = [np.flatnonzero(~is_forecast)], [], [np.full((~is_forecast).sum(), np.nan)], []
    names += [ticks.series[i] for i in ats[0].tolist()]
    values.append(np.full((len(ats[0]), len(outputs)), np.nan))
    for suffix in suffixes:
        actual = forecasts.column("y" + suffix)
        at = np.flatnonzero(is_forecast & ~np.isnan(actual))
        told = [name + suffix for name in outputs]
        blank = np.full(len(ticks), np.nan)
        columns = [forecasts.column(name) if name in forecasts.names else blank for name in told]
        ats.append(at)
        names += [ticks.series[i] + suffix.encode() for i in at.tolist()]
        y.append(actual[at])
        values.append(np.stack(columns, axis=1)[at])
    where = np.concatenate(ats)
    order = np.argsort(where, kind="stable")
    at = where[order]
    series = [names[i] for i in order.tolist()]
    single = Ticks(series, ticks.ms[at], ticks.ts[at], ticks.stamped[at], np.concatenate(y)[order])
    answers = Forecasts(forecasts.verdict[at], forecasts.warm[at], outputs, np.concatenate(values)[order])
    weights = {name.replace(TARGET_MARK, b"."): one for name, one in ran.weights.items()}
    series_of = {name: ticks.series[i] for name, i in zip(series, at.tolist(), strict=True)}
    source_of = {name: recording.source_of[one] for name, one in series_of.items()}
    return replace(recording, ticks=single, source_of=source_of), replace(
        ran, ticks=single, forecasts=answers, weights=weights, series_of=series_of
    )


def names_told(recording: Recording, settings: Settings) -> set[bytes]:
    """What the series of a recording are called in a report: see `by_target`."""
    stream, group_of = stream_of(recording, settings), group_finder(list(settings.groups))
    targets_of = {group: recipe_of(settings_of(settings, group)).targets for group in groups_of(settings)}
    names: set[bytes] = set()
    for series in recording.source_of:
        targets = targets_of[group_of(series_key(stream, series))]
        names |= {b"%b.%b" % (series, one.encode()) for one in targets} if len(targets) > 1 else {series}
    return names


def fresh_engine(settings: Settings) -> Engine | GroupedEngine:
    """The daemon's engine before its first tick, its learning jobs computed inline."""
    return engine_of(settings, devices_of(settings), InlineTrainer, initial_of(settings))


def stream_of(recording: Recording, settings: Settings) -> bytes:
    """The key of the stream that the ticks stand for: files have none, and are taken for the first of the settings."""
    return recording.stream if recording.stream is not None else settings.streams[0].encode()


def _keyed(ticks: Ticks, stream: bytes) -> Ticks:
    """The ticks as the daemon's engine gets them from this stream: the names of series decide what is sampled."""
    return replace(ticks, series=[series_key(stream, series) for series in ticks.series])


class _WeightLog:
    """Keeps what the engines' watchers are told."""

    def __init__(self, engine: Engine | GroupedEngine) -> None:
        self._logs: list[tuple[tuple[str, ...], list[bytes], list[NDArray[np.float32]]]] = []
        for one in engine.engines.values() if isinstance(engine, GroupedEngine) else [engine]:
            series: list[bytes] = []
            weights: list[NDArray[np.float32]] = []
            self._logs.append((tuple(one.experts), series, weights))
            one.watch = partial(_note, series, weights)

    def by_series(self) -> Iterator[tuple[bytes, Weights]]:
        """The weights of each series' experts, by its id."""
        for experts, series, weights in self._logs:
            if not series:
                continue
            number: dict[bytes, int] = {}
            of = np.array([number.setdefault(key, len(number)) for key in series])
            order = np.argsort(of, kind="stable")
            parts = np.split(np.concatenate(weights)[order], np.cumsum(np.bincount(of))[:-1])
            for key, rows in zip(number, parts, strict=True):
                yield split_series_key(key)[1], Weights(experts, rows)


def _note(
    series: list[bytes], weights: list[NDArray[np.float32]], names: list[bytes], weight: NDArray[np.float32]
) -> None:
    series += names
    weights.append(weight)
