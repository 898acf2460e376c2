"""What learning does to the loop's turn: off, inline, and in the trainer's process on a core of its own.

    python bench/trainer.py [--seconds 20]

One engine of each kind, each with random walks at ten ticks a second and series, evenly spread. A turn takes all ticks
that are due, as the daemon's does; Redis is left out, since it does the same for all three. The engines take turns of
two seconds on the same core, so that a noisy machine troubles them alike. Learning is past its hasty beginning: a job
every eight ticks per series, up to 128 series a job.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from rig import OWN_CORES, SERVED_CORE, table, wait_until

from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.records import Ticks
from foretick.ports.trainer import TrainerProcess

if TYPE_CHECKING:
    from foretick.core.learner import Trainer

RATE_HZ = 10  # of each series
SEGMENT_SECONDS = 2.0
WARM_ROUNDS = 100  # at full speed: chunks fill, and every path of the code was taken
COLD_SECONDS = 0.1  # of a segment: the engine was idle before it
RECIPE = Recipe(max_series=1000, learn=LearnRecipe(early_until=0))


class Lane:
    """One engine and its stream."""

    def __init__(self, name: str, n_series: int, engine: Engine) -> None:
        self.name = name
        self.n_series = n_series
        self.turn_seconds: list[float] = []
        self.late_seconds: list[float] = []  # from the time that a turn's oldest tick was due until its forecast
        self._engine = engine
        self._names = [b"sensor-%d" % i for i in range(n_series)]
        self._walk = 100 + np.random.default_rng(0).standard_normal((6000, n_series)).cumsum(axis=0)
        self._taken = 0
        for _ in range(WARM_ROUNDS):
            self._advance(n_series)

    def _advance(self, n: int) -> None:
        at = np.arange(self._taken, self._taken + n)
        ms = 1_700_000_000_000 + at * 1000 // (RATE_HZ * self.n_series)
        series, rounds = at % self.n_series, at // self.n_series
        y = self._walk[rounds % len(self._walk), series]
        self._engine.advance(Ticks([self._names[i] for i in series.tolist()], ms, ms, np.zeros(n, np.bool_), y))
        self._taken += n

    def run(self) -> None:
        """Take ticks as they fall due, for a segment."""
        rate_hz, first, clock = RATE_HZ * self.n_series, self._taken, time.perf_counter
        begun = clock()
        while (now := clock() - begun) < SEGMENT_SECONDS:
            oldest_seconds = (self._taken - first) / rate_hz
            if now < oldest_seconds:
                time.sleep(oldest_seconds - now)
                continue
            n = min(int(now * rate_hz) + 1 - (self._taken - first), 500)
            turn = clock()
            self._advance(n)
            if oldest_seconds > COLD_SECONDS:
                self.turn_seconds.append(clock() - turn)
                self.late_seconds.append(clock() - begun - oldest_seconds)


def measure(n_series: int, seconds: float) -> list[Lane]:
    network = Engine.shape_of(RECIPE), RECIPE.learn
    with TrainerProcess(print, print) as process:
        wait_until(lambda: process.is_ready, 120, "the trainer's readiness")
        os.sched_setaffinity(process.pid or 0, OWN_CORES)

        def engine(trainer: Trainer | None, *, learns: bool = True) -> Engine:
            return Engine(replace(RECIPE, learn=replace(RECIPE.learn, enabled=learns)), trainer)

        lanes = [
            Lane("learning off", n_series, engine(None, learns=False)),
            Lane("inline", n_series, engine(InlineTrainer(*network))),
            Lane("process", n_series, engine(process.seat(*network))),
        ]
        gc.collect()
        gc.freeze()
        gc.disable()  # as the daemon
        for _ in range(max(int(seconds / SEGMENT_SECONDS), 1)):
            for lane in lanes:
                lane.run()
        gc.enable()
    return lanes


def report(lanes: list[Lane]) -> list[list[str]]:
    rows = []
    off = np.percentile(lanes[0].turn_seconds, 99)
    for lane in lanes:
        p50, p99 = np.percentile(lane.turn_seconds, (50, 99))
        late_50, late_99 = np.percentile(lane.late_seconds, (50, 99)) * 1e3
        rows.append(
            [
                f"{lane.n_series} series: {lane.name}",
                f"{p50 * 1e3:.2f}",
                f"{p99 * 1e3:.2f}",
                f"{max(lane.turn_seconds) * 1e3:.1f}",
                f"{p99 / off:.2f}",
                f"{late_50:.2f}",
                f"{late_99:.2f}",
                f"{len(lane.turn_seconds):,}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of each kind")
    options = parser.parse_args()
    os.sched_setaffinity(0, {SERVED_CORE})
    torch.set_num_threads(1)
    rows = [row for n_series in (10, 200) for row in report(measure(n_series, options.seconds))]
    header = ["", "turn p50 ms", "p99 ms", "most ms", "p99 ratio to off", "late p50 ms", "late p99 ms", "turns"]
    about = f"{os.cpu_count()} cores, {platform.machine()}; load {os.getloadavg()[0]:.1f} at the end"
    print(f"## Learning beside the loop\n\n{about}\n\n{table(header, rows)}\n", flush=True)


if __name__ == "__main__":
    main()
