"""Where a tick's time goes: the stages of a turn, the parts of the engine, and the functions of the whole daemon.

    python bench/breakdown.py [--profile lean] [--batch 2000] [--ticks 20000] [--functions 14] [--engine]

1. Stages: `foretick_turn_seconds` of a real daemon on a full stream.
2. Parts of the engine: time on the core of each part less that of the parts inside it. The clock costs 1 µs a part
   and round: read it as shares where rounds are small. `--engine` shows nothing else.
3. Functions: a real daemon under cProfile, which triples the price of short Python functions: read the order only.
"""

from __future__ import annotations

import argparse
import pstats
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from kinds import LARGEST_READ_TICKS, OFF
from rig import circumstances, consumer, fill, forget_readers, server, table, url_of, wait_until

from foretick.core import engine as engine_module
from foretick.core import experts
from foretick.core import model as model_module
from foretick.core.arena import Arena
from foretick.core.engine import Engine
from foretick.core.ensemble import Ensemble
from foretick.core.ensemble_compact import CompactEnsemble
from foretick.core.features import Features
from foretick.core.features_compact import CompactFeatures
from foretick.core.intervals import Intervals
from foretick.core.learner import InlineTrainer
from foretick.core.lstm import Stepper
from foretick.core.model import Model
from foretick.core.profiles import PROFILES
from foretick.core.recorder import Recorder
from foretick.core.records import Ticks
from foretick.core.schedule import Schedule
from foretick.core.scores import Tally
from foretick.core.tracking import Tracking
from foretick.ports.embedded import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

PROFILED = """
import cProfile, sys
import foretick.app.assembly, foretick.app.lifecycle, foretick.cli
_, file, *sys.argv[1:] = sys.argv
cProfile.run("sys.exit(foretick.cli.main())", file)
"""  # imports stay outside
NOT_OF_A_TURN = (
    "poll",
    "recv_into",
    "acquire",
    "exec",
    "compile",
    "marshal",
    "__build_class__",
)  # waits, and the start
WARM_ROUNDS = 40  # ticks of each series before the engine is timed: bounds are calibrated, seasons looked for
PARTS: tuple[tuple[Any, str, str], ...] = (  # owner, name, label
    (Engine, "advance", "advance: rest"),
    (Arena, "admit", "admit: rows by series id"),
    (Schedule, "take", "schedule"),
    (engine_module, "rounds", "split into rounds"),
    (Model, "round", "round: rest"),
    (Arena, "gather", "gather"),
    (Arena, "scatter", "scatter"),
    (Model, "_reveal", "reveal: rest"),
    (Model, "_average", "running means"),
    (model_module, "rescale", "running means"),
    (experts, "update_mix", "mix"),
    (Model, "_blend", "mix"),
    (Tally, "add", "scores"),
    (Tally, "weigh", "scores"),
    (Tally, "cover", "scores"),
    (Model, "_score", "scores"),
    (Tracking, "settle", "intervals"),
    (Tracking, "told", "intervals"),
    (Intervals, "settle", "intervals"),
    (Intervals, "bound", "intervals"),
    (Intervals, "told", "intervals"),
    (Model, "_forecast", "forecast: rest"),
    (Stepper, "step", "LSTM step"),
    *(
        (features, name, "features")
        for features in (Features, CompactFeatures)
        for name in ("recall", "observe", "take", "see")
    ),
    *(
        (ensemble, name, "linear experts")
        for ensemble in (Ensemble, CompactEnsemble)
        for name in ("meet", "learn", "forecast_linear", "forecast_readout")
    ),
    (Recorder, "reveal", "recorder"),
    (Recorder, "record", "recorder"),
    (Engine, "_cut", "learning: cut a job"),
    (InlineTrainer, "collect", "learning: compute a job"),
)


class Case(NamedTuple):
    """One column of the table of parts."""

    profile: str
    series: int
    batch: int
    learning: bool = False

    def __str__(self) -> str:
        size = "one tick" if self.batch == 1 else f"{self.batch:,} ticks"
        return f"{self.series:,} series, {size}" + (", learning on" if self.learning else "")


class Stopwatch:
    """Time on the core by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def around(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        clock, inner, seconds = time.thread_time, self._inner, self.seconds

        def timed(*arguments: Any, **named: Any) -> Any:
            inner.append(0.0)
            begun = clock()
            answer = function(*arguments, **named)
            if label == "split into rounds":
                answer = list(answer)  # a generator works when it is asked
            spent = clock() - begun
            seconds[label] += spent - inner.pop()
            inner[-1] += spent
            return answer

        return timed

    def reset(self) -> None:
        self.seconds.clear()


def batches(n_ticks: int, n_series: int, size: int) -> list[Ticks]:
    rounds = -(-n_ticks // n_series)
    values = np.round(100 + np.cumsum(np.random.default_rng(0).standard_normal((rounds, n_series)), axis=0), 3)
    n = rounds * n_series
    ms = np.repeat(np.arange(rounds, dtype=np.int64) * 60_000, n_series)
    names = [b"sensor-%d" % (i % n_series) for i in range(n)]
    ticks = Ticks(names, ms, ms, np.ones(n, np.bool_), values.ravel())
    return [ticks.slice(start, min(start + size, n)) for start in range(0, n, size)]


def engine_parts(case: Case, n_ticks: int, stopwatch: Stopwatch) -> dict[str, float]:
    """µs per tick by part; learning has its later pace from the start."""
    recipe = PROFILES[case.profile]()
    engine = Engine(replace(recipe, learn=replace(recipe.learn, enabled=case.learning, early_until=0)))
    warm = -(-WARM_ROUNDS * case.series // case.batch)  # batches
    ticks = 0
    for number, batch in enumerate(batches(warm * case.batch + n_ticks, case.series, case.batch)):
        if number == warm:
            stopwatch.reset()
        ticks += len(batch) if number >= warm else 0
        engine.advance(batch)
    return {label: seconds * 1e6 / ticks for label, seconds in stopwatch.seconds.items()}


def parts_table(profile: str, batch: int, n_ticks: int) -> str:
    stopwatch = Stopwatch()
    for owner, name, label in PARTS:
        if name in vars(owner):
            setattr(owner, name, stopwatch.around(getattr(owner, name), label))
    cases = [
        Case(profile, 1, 1),
        *(Case(profile, S, batch) for S in (10, 1000, 10_000)),
        Case(profile, 1000, batch, True),
    ]
    ticks = [n_ticks // 20, n_ticks // 2, *[10 * n_ticks] * 3]
    columns = [engine_parts(case, n, stopwatch) for case, n in zip(cases, ticks, strict=True)]
    labels = sorted({label for column in columns for label in column}, key=lambda x: -columns[2].get(x, 0.0))
    rows = [[label, *(f"{column.get(label, 0.0):.2f}" for column in columns)] for label in labels]
    rows.append(["**sum**", *(f"**{sum(column.values()):.2f}**" for column in columns)])
    return table([f"{profile}, µs of the core per tick", *map(str, cases)], rows)


def stages(client: redis.Redis, n_series: int, n_ticks: int) -> dict[str, float]:
    """µs per tick of each stage of the turn."""
    stream = f"{{stages{n_series}}}:ticks"
    fill(client, stream, n_ticks, n_series)
    with consumer(client, OFF, stream) as running:
        wait_until(lambda: client.xlen(OFF.output_of(stream)) >= n_ticks, 240, "the end of the stream")
        found = running.stages()
    forget_readers(client, stream)
    client.delete(stream)
    return {stage: seconds * 1e6 / n_ticks for stage, seconds in found.items()}


def stages_table(client: redis.Redis, n_ticks: int) -> str:
    columns = [stages(client, 10, n_ticks), stages(client, 1000, 5 * n_ticks)]
    rows = [[stage, *(f"{column[stage]:.2f}" for column in columns)] for stage in sorted(columns[0])]
    rows.append(["**sum**", *(f"**{sum(column.values()):.2f}**" for column in columns)])
    return table(["µs per tick, wall, learning off", "10 series", "1,000 series"], rows)


def functions_table(client: redis.Redis, n_series: int, n_ticks: int, shown: int) -> str:
    """The functions with the largest own time; numpy's operators are no functions and count to who uses them."""
    stream = f"{{functions{n_series}}}:ticks"
    fill(client, stream, n_ticks, n_series)
    with tempfile.NamedTemporaryFile(suffix=".prof") as file:
        _, _, _, *arguments = OFF.command(url_of(client), stream, free_port())
        with consumer(client, OFF, stream, [sys.executable, "-c", PROFILED, file.name, *arguments], end=signal.SIGTERM):
            wait_until(lambda: client.xlen(OFF.output_of(stream)) >= n_ticks, 240, "the end of the stream")
        profile: Any = pstats.Stats(file.name)
    forget_readers(client, stream)
    client.delete(stream)
    rows = []
    for (path, line, name), (_, calls, own, *_) in sorted(profile.stats.items(), key=lambda item: -item[1][2]):
        if calls >= n_ticks // LARGEST_READ_TICKS and not any(word in name for word in NOT_OF_A_TURN):
            place = f"{Path(path).name}:{line}" if line else ""
            cells = (calls / n_ticks, own * 1e6 / n_ticks)
            rows.append([f"`{name}` {place}".strip(), *(f"{cell:.2f}" for cell in cells)])
    return table([f"{n_series:,} series, under cProfile", "calls per tick", "own µs per tick"], rows[:shown])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=10_000, help="at 10 series; more at 1,000")
    parser.add_argument("--profile", default="lean", choices=PROFILES)
    parser.add_argument("--batch", type=int, default=2000, help="ticks that the engine is given at a time")
    parser.add_argument("--engine", action="store_true", help="the parts of the engine alone")
    parser.add_argument("--functions", type=int, default=14, help="lines of the last tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.engine:
        print(parts_table(options.profile, options.batch, options.ticks))
        return
    with server() as client:
        print(f"## Where a tick's time goes\n\n{circumstances(client)}\n")
        print(f"### Stages of a turn\n\n{stages_table(client, options.ticks)}\n", flush=True)
        print(f"### Parts of the engine\n\n{parts_table(options.profile, options.batch, options.ticks)}\n", flush=True)
        for n_series, n_ticks in ((10, options.ticks), (1000, 5 * options.ticks)):
            print(f"### Functions\n\n{functions_table(client, n_series, n_ticks, options.functions)}\n", flush=True)


if __name__ == "__main__":
    main()
