"""Ticks per second on one core: a stream that is full already is read to its end, Redis' own time included.

    python bench/throughput.py [--profile lean] [--runs 5] [--scale 1.0] [--series 10,1000]

Timed from the first forecast (or from where all series are warm) to the last, so starting and importing do not count.
All kinds take turns, so that a noisy machine troubles them alike. Besides wall time, the time that server and consumer
spent on the core is taken: both share one core and it is never idle, so on a quiet machine the two agree, and on a busy
one the latter still holds. The trainer has the other core, and is not counted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rig import (
    ECHO,
    Kind,
    circumstances,
    consumer,
    cpu_seconds,
    deep_river,
    fill,
    floor,
    forget_readers,
    free_trainers,
    off,
    on,
    pid_of,
    server,
    table,
)

if TYPE_CHECKING:
    import redis

POLL_SECONDS = 0.02  # each poll costs the server about 20 µs: 0.1%
DEADLINE_SECONDS = 300.0  # of one run
WARM_TICKS = 32  # of a series: from then on its forecasts have intervals


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind on one stream: timed from its `begin`th tick to its `end`th, `runs` times at most."""

    kind: Kind
    begin: int
    end: int
    runs: int = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """Where a run stood at one moment."""

    forecasts: int
    wall_seconds: float
    server_seconds: float
    consumer_seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Per tick, µs."""

    wall: float
    server: float
    consumer: float

    @property
    def core(self) -> float:
        return self.server + self.consumer


@dataclass(slots=True)
class Plan:
    """All trials on one stream."""

    n_series: int
    trials: list[Trial]
    costs: dict[str, list[Cost]] = field(default_factory=dict)


def plans(profile: str, scale: float, chosen: set[int]) -> list[Plan]:
    """500,000 ticks at most; of fewer series fewer will do, for they are dearer."""
    made = []
    for n_series, thousands in ((10, 60), (100, 100), (1_000, 200), (10_000, 400), (100_000, 500)):
        if n_series not in chosen:
            continue
        peer_ticks, ticks = int(50_000 * scale), max(int(thousands * 1000 * scale), 5 * n_series // 2)
        warm = WARM_TICKS * n_series
        begin = warm if warm <= ticks // 2 else min(n_series, ticks // 2)  # at least all are known
        trials = [
            Trial(floor(n_series), begin, ticks),
            Trial(ECHO, 0, peer_ticks),
            Trial(off(profile), begin, ticks),
            Trial(on(profile), begin, ticks),
        ]
        if n_series == 10:
            trials.append(Trial(deep_river(), 0, 1_000, runs=1))
        made.append(Plan(n_series, [trial for trial in trials if trial.kind.command]))
    return made


def run_once(client: redis.Redis, trial: Trial, stream: str) -> list[Sample]:
    """Samples from the first forecast to the last."""
    samples: list[Sample] = []
    output = trial.kind.output_of(stream)
    server_pid = pid_of(client)
    forget_readers(client, stream)
    with consumer(client, trial.kind, stream) as running:
        give_up = time.perf_counter() + DEADLINE_SECONDS
        while not samples or samples[-1].forecasts < trial.end:
            n = client.xlen(output)
            now = time.perf_counter()
            if n:
                samples.append(Sample(n, now, cpu_seconds(server_pid), cpu_seconds(running.process.pid)))
            else:
                free_trainers(running.process.pid)
            if now > give_up:
                raise TimeoutError(f"{trial.kind.name}: {n} of {trial.end} ticks after {DEADLINE_SECONDS:g} s")
            running.check()
            time.sleep(POLL_SECONDS)
    return samples


def cost(samples: list[Sample], begin: int, end: int) -> Cost:
    """µs per tick between the first samples at or beyond `begin` and `end` ticks."""
    a, b = (next(sample for sample in samples if sample.forecasts >= at) for at in (begin, end))
    per_tick = 1e6 / max(b.forecasts - a.forecasts, 1)
    return Cost(
        (b.wall_seconds - a.wall_seconds) * per_tick,
        (b.server_seconds - a.server_seconds) * per_tick,
        (b.consumer_seconds - a.consumer_seconds) * per_tick,
    )


def measure(client: redis.Redis, plan: Plan, runs: int) -> None:
    stream = f"{{s{plan.n_series}}}:ticks"
    fill(client, stream, max(trial.end for trial in plan.trials), plan.n_series)
    for number in range(runs):
        for trial in plan.trials:
            if number < trial.runs:
                samples = run_once(client, trial, stream)
                plan.costs.setdefault(trial.kind.name, []).append(cost(samples, trial.begin, trial.end))
    forget_readers(client, stream)
    client.delete(stream)


def report(plan: Plan) -> list[list[str]]:
    rows = []
    for name, costs in plan.costs.items():
        core = [cost.core for cost in costs]
        rows.append(
            [
                f"{plan.n_series:,} series: {name}",
                f"{1e6 / median(cost.wall for cost in costs):,.0f}",
                f"{1e6 / median(core):,.0f}",
                f"{median(core):.1f} ({min(core):.1f}–{max(core):.1f})",
                f"{median(cost.server for cost in costs):.1f}",
                _ratio(costs, plan.costs.get("C floor")),
                _ratio(costs, plan.costs.get(ECHO.name)),
                str(len(costs)),
            ]
        )
    return rows


def _ratio(costs: list[Cost], peer: list[Cost] | None) -> str:
    """Ticks per second of the core against a peer's, each run against that of the same round."""
    return f"{median(b.core / a.core for a, b in zip(costs, peer, strict=False)):.2f}" if peer else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of ticks")
    parser.add_argument("--series", default="10,1000,10000,100000", help="how many, of 10, 100, 1000, 10000, 100000")
    options = parser.parse_args()
    chosen = {int(text) for text in options.series.split(",")}
    header = ["consumer", "ticks/s, wall", "ticks/s, core", "core µs per tick", "of it Redis"]
    with server() as client:
        print(f"## Throughput on one core\n\n{circumstances(client)}", flush=True)
        for plan in plans(options.profile, options.scale, chosen):
            measure(client, plan, options.runs)
            print("\n" + table([*header, "of the floor", "of the echo", "runs"], report(plan)), flush=True)


if __name__ == "__main__":
    main()
