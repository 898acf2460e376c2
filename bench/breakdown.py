"""Where a tick's time goes: the stages of a turn, the parts of the engine, and the functions of the whole daemon.

    python bench/breakdown.py [--ticks 20000] [--functions 14]

1. Stages: `foretick_turn_seconds` of a real daemon on a full stream; batches of 500.
2. Parts of the engine: time on the core of each part less that of the parts inside it; the clock costs about 3% more.
3. Functions: a real daemon under cProfile, which triples the price of short Python functions: read the order only.
"""

from __future__ import annotations

import argparse
import pstats
import re
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rig import OFF, circumstances, consumer, fill, forget_readers, server, table, url_of, wait_until

from foretick.core import engine as engine_module
from foretick.core import experts
from foretick.core.arena import Arena
from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer
from foretick.core.linear import LinearExpert
from foretick.core.lstm import Stepper
from foretick.core.recipe import Recipe
from foretick.core.recorder import Recorder
from foretick.core.records import Ticks
from foretick.core.schedule import Schedule
from foretick.core.scores import Tally
from foretick.core.window import Window
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
BATCH = 500  # the daemon's default
WARM_ROUNDS = 100  # ticks of each series before the engine is timed: the first job and the seasons are past
STAGE = re.compile(r'foretick_turn_seconds_sum\{stage="(\w+)"\} ([0-9.e+-]+)')
PARTS: tuple[tuple[Any, str, str], ...] = (  # owner, name, label
    (Engine, "advance", "advance: rest"),
    (Arena, "admit", "admit: rows by series id"),
    (Schedule, "take", "schedule"),
    (engine_module, "_rounds", "split into rounds"),
    (Engine, "_round", "round: rest"),
    (Arena, "gather", "gather"),
    (Arena, "scatter", "scatter"),
    (Engine, "_judge", "judge: late, duplicate"),
    (Engine, "_reveal", "reveal: rest"),
    (experts, "update_mix", "mix"),
    (engine_module, "update_scaling", "scaling"),
    (engine_module, "update_seasons", "seasons"),
    (Window, "push", "window: push"),
    (Tally, "add", "scores"),
    (Tally, "weigh", "scores"),
    (Engine, "_forecast", "forecast: rest"),
    (engine_module, "features", "features: rest"),
    (Window, "at", "window: look back"),
    (Recorder, "reveal", "recorder"),
    (Recorder, "record", "recorder"),
    (Stepper, "step", "LSTM step"),
    (experts, "weights", "expert weights"),
    (LinearExpert, "learn", "linear experts: learn"),
    (LinearExpert, "forecast", "linear experts: forecast"),
    (Engine, "_cut", "learning: cut a job"),
    (InlineTrainer, "collect", "learning: compute a job"),
)


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


def batches(n_ticks: int, n_series: int) -> list[Ticks]:
    rounds = -(-n_ticks // n_series)
    values = np.round(100 + np.cumsum(np.random.default_rng(0).standard_normal((rounds, n_series)), axis=0), 3)
    n = rounds * n_series
    ms = np.repeat(np.arange(rounds, dtype=np.int64) * 60_000, n_series)
    names = [b"sensor-%d" % (i % n_series) for i in range(n)]
    ticks = Ticks(names, ms, ms, np.ones(n, np.bool_), values.ravel())
    return [ticks.slice(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]


def engine_parts(n_series: int, n_ticks: int, stopwatch: Stopwatch, *, learning: bool) -> dict[str, float]:
    """µs per tick by part; learning has its later pace from the start."""
    recipe = Recipe()
    engine = Engine(replace(recipe, learn=replace(recipe.learn, enabled=learning, early_until=0)))
    warm = -(-WARM_ROUNDS * n_series // BATCH)  # batches
    ticks = 0
    for number, batch in enumerate(batches(warm * BATCH + n_ticks, n_series)):
        if number == warm:
            stopwatch.reset()
        ticks += len(batch) if number >= warm else 0
        engine.advance(batch)
    return {label: seconds * 1e6 / ticks for label, seconds in stopwatch.seconds.items()}


def parts_table(n_ticks: int) -> str:
    stopwatch = Stopwatch()
    for owner, name, label in PARTS:
        setattr(owner, name, stopwatch.around(getattr(owner, name), label))
    cases = [(10, False), (1000, False), (10, True)]
    columns = [engine_parts(S, n_ticks if S == 10 else 10 * n_ticks, stopwatch, learning=on) for S, on in cases]
    labels = sorted({label for column in columns for label in column}, key=lambda x: -columns[0].get(x, 0.0))
    rows = [[label, *(f"{column.get(label, 0.0):.2f}" for column in columns)] for label in labels]
    rows.append(["**sum**", *(f"**{sum(column.values()):.2f}**" for column in columns)])
    header = ["µs of the core per tick", "10 series", "1,000 series", "10 series, learning on (later pace)"]
    return table(header, rows)


def stages(client: redis.Redis, n_series: int, n_ticks: int) -> dict[str, float]:
    """µs per tick of each stage of the turn."""
    stream = f"{{stages{n_series}}}:ticks"
    fill(client, stream, n_ticks, n_series)
    with consumer(client, OFF, stream) as running:
        wait_until(lambda: client.xlen(OFF.output_of(stream)) >= n_ticks, 240, "the end of the stream")
        found = STAGE.findall(running.metrics())
    forget_readers(client, stream)
    client.delete(stream)
    return {stage: float(seconds) * 1e6 / n_ticks for stage, seconds in found}


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
        if calls >= n_ticks // BATCH and not any(word in name for word in NOT_OF_A_TURN):
            place = f"{Path(path).name}:{line}" if line else ""
            cells = (calls / n_ticks, own * 1e6 / n_ticks)
            rows.append([f"`{name}` {place}".strip(), *(f"{cell:.2f}" for cell in cells)])
    return table([f"{n_series:,} series, under cProfile", "calls per tick", "own µs per tick"], rows[:shown])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ticks", type=int, default=10_000, help="at 10 series; more at 1,000")
    parser.add_argument("--functions", type=int, default=14, help="lines of the last tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with server() as client:
        print(f"## Where a tick's time goes\n\n{circumstances(client)}\n")
        print(f"### Stages of a turn\n\n{stages_table(client, options.ticks)}\n", flush=True)
        print(f"### Parts of the engine\n\n{parts_table(options.ticks)}\n", flush=True)
        for n_series, n_ticks in ((10, options.ticks), (1000, 5 * options.ticks)):
            print(f"### Functions\n\n{functions_table(client, n_series, n_ticks, options.functions)}\n", flush=True)


if __name__ == "__main__":
    main()
