"""Ticks per second on one core: a stream that is full already is read to its end, Redis' own time included.

    python bench/throughput.py [--runs 3] [--scale 1.0] [--long]

Timed from the first forecast to the last, so starting and importing do not count. All kinds take turns, so that a
noisy machine troubles them alike. Besides wall time, the time that server and consumer spent on the core is taken: both
share one core and it is never idle, so on a quiet machine the two agree, and on a busy one the latter still holds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rig import ECHO, OFF, ON, Kind, circumstances, consumer, cpu_seconds, fill, forget_readers, pid_of, server, table

if TYPE_CHECKING:
    import redis

POLL_SECONDS = 0.02  # each poll costs the server about 20 µs: 0.1%
DEADLINE_SECONDS = 300.0  # of one run
EARLY_TICKS = 600  # per series: until then a learning job is cut every 2 ticks per series, later every 8


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind on one stream.

    Attributes:
        kind: the consumer.
        ticks: how many it has to answer.
        settled: tick from which learning has its later, slower pace; timed apart from what comes before.
        runs: how often, at most.
    """

    kind: Kind
    ticks: int
    settled: int = 0
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


def plans(scale: float, *, long: bool) -> list[Plan]:
    def ticks(n: int) -> int:
        return max(int(n * scale), 2_000)

    settled = 1000 * EARLY_TICKS
    many_on = Trial(ON, settled + 200_000, settled, runs=1) if long else Trial(ON, ticks(60_000), settled)
    return [
        Plan(10, [Trial(ECHO, ticks(100_000)), Trial(OFF, ticks(30_000)), Trial(ON, ticks(12_000), EARLY_TICKS * 10)]),
        Plan(1000, [Trial(ECHO, ticks(100_000)), Trial(OFF, ticks(100_000)), many_on]),
    ]


def run_once(client: redis.Redis, trial: Trial, stream: str) -> list[Sample]:
    """Samples from the first forecast to the last."""
    samples: list[Sample] = []
    output = trial.kind.output_of(stream)
    server_pid = pid_of(client)
    forget_readers(client, stream)
    with consumer(client, trial.kind, stream) as running:
        give_up = time.perf_counter() + DEADLINE_SECONDS
        while not samples or samples[-1].forecasts < trial.ticks:
            n = client.xlen(output)
            now = time.perf_counter()
            if n:
                samples.append(Sample(n, now, cpu_seconds(server_pid), cpu_seconds(running.process.pid)))
            if now > give_up:
                raise TimeoutError(f"{trial.kind.name}: {n} of {trial.ticks} ticks after {DEADLINE_SECONDS:g} s")
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
    fill(client, stream, max(trial.ticks for trial in plan.trials), plan.n_series)
    for number in range(runs):
        for trial in plan.trials:
            if number >= trial.runs:
                continue
            samples = run_once(client, trial, stream)
            name = trial.kind.name
            if trial.settled:
                early = f"{name}, first {EARLY_TICKS} ticks of each"
                plan.costs.setdefault(early, []).append(cost(samples, 0, min(trial.settled, trial.ticks)))
                name += ", later"
            if trial.settled < trial.ticks:
                plan.costs.setdefault(name, []).append(cost(samples, trial.settled, trial.ticks))
    client.delete(stream)


def report(all_plans: list[Plan]) -> str:
    rows = []
    for plan in all_plans:
        echo = plan.costs[ECHO.name]
        for name, costs in plan.costs.items():
            pairs = list(zip(costs, echo, strict=False))  # of the same round
            core = [cost.core for cost in costs]
            rows.append(
                [
                    f"{plan.n_series:,} series: {name}",
                    f"{1e6 / median(cost.wall for cost in costs):,.0f}",
                    f"{1e6 / median(core):,.0f}",
                    f"{median(core):.1f} ({min(core):.1f}–{max(core):.1f})",
                    f"{median(cost.server for cost in costs):.1f}",
                    f"{median(peer.core / own.core for own, peer in pairs):.2f}",
                    f"{median(peer.wall / own.wall for own, peer in pairs):.2f}",
                    str(len(costs)),
                ]
            )
    header = ["consumer", "ticks/s, wall", "ticks/s, core", "core µs per tick", "of it Redis"]
    return table([*header, "ratio to echo, core", "ratio, wall", "runs"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of ticks")
    parser.add_argument("--long", action="store_true", help="1,000 series far enough for the later pace of learning")
    options = parser.parse_args()
    with server() as client:
        about = circumstances(client)
        all_plans = plans(options.scale, long=options.long)
        for plan in all_plans:
            measure(client, plan, options.runs)
    print(f"## Throughput on one core\n\n{about}\n\n{report(all_plans)}\n", flush=True)


if __name__ == "__main__":
    main()
