"""`foretick backtest`: the daemon's own engine over recorded ticks, scored as a stream would have been."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.app.progress import progress
from foretick.app.recipes import engine_of
from foretick.core.accuracy import SeriesAccuracy, Summary, score_series, summarise
from foretick.core.learner import InlineTrainer
from foretick.core.records import Verdict
from foretick.errors import EXIT_CLEAN, UsageError
from foretick.ports.recordings import read_recordings
from foretick.ports.wire import series_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from foretick.app.settings import Settings
    from foretick.core.records import Ticks
    from foretick.ports.recordings import Recording

_NAME_WIDTH = 30  # columns; with it a line fits into 80


@dataclass(frozen=True, slots=True)
class Report:
    """What a backtest found.

    Attributes:
        series: accuracy by series id.
        source_of: source by series id.
        summary: over all series.
        refused: ticks the engine set aside, by reason.
        unusable: rows of the files that are no ticks.
        ticks_per_second: engine speed, learning included.
    """

    series: dict[str, SeriesAccuracy]
    source_of: dict[str, str]
    summary: Summary
    refused: dict[str, int]
    unusable: int
    ticks_per_second: float


def run(files: Sequence[Path], settings: Settings, *, as_json: bool, burn_in_ticks: int) -> int:
    """Backtest the files and print the outcome; returns the exit status."""
    torch.set_num_threads(1)  # as the daemon: the same bits
    recording = read_recordings(files)
    if len(recording.ticks) == 0:
        raise UsageError(f"no tick in {', '.join(map(str, files))} ({recording.unusable} unusable rows)")
    report = backtest(recording, settings, burn_in_ticks)
    sys.stdout.write(_as_json(report) if as_json else _as_table(report, burn_in_ticks))
    return EXIT_CLEAN


def backtest(recording: Recording, settings: Settings, burn_in_ticks: int) -> Report:
    """Forecast every tick in order, as the daemon does, then score each series."""
    ticks = recording.ticks
    stream = settings.streams[0].encode()
    engine = engine_of(settings, InlineTrainer)
    verdict, yhat = np.empty(len(ticks), np.uint8), np.empty(len(ticks))
    began = time.perf_counter()
    with progress(len(ticks), "backtest", "ticks") as advance:
        for start in range(0, len(ticks), settings.batch):
            part = slice(start, start + settings.batch)
            forecasts = engine.advance(_keyed(ticks.slice(start, start + settings.batch), stream))
            verdict[part], yhat[part] = forecasts.verdict, forecasts.yhat
            advance(len(forecasts.yhat))
    elapsed_seconds = time.perf_counter() - began
    series = _score(ticks, verdict, yhat, burn_in_ticks)
    source_of = {name.decode(): source for name, source in recording.source_of.items()}
    refused = {code.reason: int((verdict == code).sum()) for code in Verdict if code != Verdict.FORECAST}
    return Report(
        series=series,
        source_of=source_of,
        summary=summarise(series, source_of),
        refused={reason: n for reason, n in refused.items() if n},
        unusable=recording.unusable,
        ticks_per_second=len(ticks) / elapsed_seconds,
    )


def _keyed(ticks: Ticks, stream: bytes) -> Ticks:
    """The ticks as the daemon's engine gets them from this stream: the names of series decide what is sampled."""
    return replace(ticks, series=[series_key(stream, series) for series in ticks.series])


def _score(
    ticks: Ticks, verdict: NDArray[np.uint8], yhat: NDArray[np.float64], burn_in: int
) -> dict[str, SeriesAccuracy]:
    positions: dict[bytes, list[int]] = {}
    for position in np.flatnonzero(verdict == Verdict.FORECAST).tolist():
        positions.setdefault(ticks.series[position], []).append(position)
    return {name.decode(): score_series(ticks.y[at], yhat[at], burn_in) for name, at in sorted(positions.items())}


def _as_json(report: Report) -> str:
    series = {
        name: {"source": report.source_of[name], **asdict(one), "skill": one.skill}
        for name, one in report.series.items()
    }
    document = {
        "series": series,
        "summary": asdict(report.summary),
        "refused": report.refused,
        "unusable": report.unusable,
        "ticks_per_second": round(report.ticks_per_second, 1),
    }
    return json.dumps(_without_nan(document), indent=1, ensure_ascii=False) + "\n"


def _without_nan(value: object) -> object:
    """The same with null for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_table(report: Report, burn_in_ticks: int) -> str:
    width = min(max(6, *(len(name) for name in report.series)), _NAME_WIDTH)
    lines = [f"{'series':{width}}  {'ticks':>8}  {'MAE':>11}  {'naive MAE':>11}  {'rel-MAE':>7}  {'skill':>7}"]
    best_first = sorted(report.series.items(), key=lambda item: (math.isnan(item[1].rel_mae), item[1].rel_mae))
    for name, one in best_first:
        errors = f"{one.mae:11.5g}  {one.naive_mae:11.5g}  {one.rel_mae:7.3f}  {one.skill:+7.1%}"
        lines.append(f"{name[:width]:{width}}  {one.ticks:8,}  {errors}")
    total = report.summary
    lines += [
        "",
        f"{total.series} series, scored after their first {burn_in_ticks} ticks; rel-MAE 1 is naive",
        f"geometric mean {total.gm:.4f}  by source {total.bal:.4f}  harmed {total.harm:.1%}  worst {total.worst:.3f}",
        f"{report.ticks_per_second:,.0f} ticks/s, learning included",
    ]
    if report.refused or report.unusable:
        counts = {**report.refused, **({"unusable": report.unusable} if report.unusable else {})}
        lines.append("set aside: " + ", ".join(f"{n:,} {reason}" for reason, n in counts.items()))
    return "\n".join(lines) + "\n"
