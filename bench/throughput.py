"""Ticks per second on one core: a stream that is full already is read to its end, Redis' own time included.

    python bench/throughput.py [--runs 5] [--scale 1.0] [--only lean:1000,accurate:100] [--warm 650] [--json FILE]

Timed from where all series are warm (or, of 100,000, all known) to the last forecast, so starting and importing do not
count. All consumers take turns, run by run, so that a noisy machine troubles them alike. Besides wall time, the time
that server and consumer spent on the core is taken: both share one core and it is never idle, so on a quiet machine the
two agree, and on a busy one the latter still holds. The trainer has the other core, and is not counted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from kinds import ECHO, LARGEST_READ_TICKS, Kind, deep_river, floor, off, on
from rig import (
    Consumer,
    circumstances,
    consumer,
    cpu_seconds,
    fill,
    forget_readers,
    free_trainers,
    keep,
    pid_of,
    server,
    table,
)

from foretick.app.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

POLL_SECONDS = 0.005  # each poll costs the server about 20 µs: 0.4%
DEADLINE_SECONDS = 300.0  # of one run
PLAIN_SECONDS = 30.0  # between two lines of progress where nobody looks
TICKS = 500_000  # timed on a stream, at full scale
LEAST_ROUNDS = 2  # ticks of each series that are timed at any scale
WARM_ROUNDS = 32  # ticks of a series: from then on its forecasts have intervals
CALM_ROUNDS = 650  # from then on a learning job comes after every 8 ticks of a series, in the first 600 after every 2
PEER_TICKS = 50_000  # of the quick ones, at least: 0.2 s and 0.8 s
DEEP_TICKS = 400  # they take milliseconds each
DEEP_READ = 50


class Size(NamedTuple):
    """A stream that is read."""

    profile: str
    n_series: int
    share: float = 1.0  # of the ticks: where a round is of few series a tick is dear
    warm_rounds: int = WARM_ROUNDS  # ticks of each series before the clock runs

    def __str__(self) -> str:
        return f"{self.profile}:{self.n_series}"


SIZES = (
    Size("lean", 10, 0.1, CALM_ROUNDS),
    Size("lean", 1_000),
    Size("lean", 10_000),
    Size("lean", 100_000, warm_rounds=1),  # more would take minutes: its forecasts are cold
    Size("balanced", 1_000, 0.4),
    Size("accurate", 100, 0.1),
)
STAGES = ("decode", "engine", "encode")  # of a turn of foretick: those in which it computes


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind on one stream: timed from its `begin`th tick to its `end`th."""

    kind: Kind
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Where a run stood at one moment."""

    forecasts: int
    wall_seconds: float
    server_seconds: float
    consumer_seconds: float
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """Per tick, µs: by the wall clock; on the core, of server and consumer; by the wall, the stages of foretick."""

    wall: float
    server: float
    consumer: float
    stages: dict[str, float]

    @property
    def core(self) -> float:
        return self.server + self.consumer


@dataclass(slots=True)
class Plan:
    """All trials on one stream, and which ticks of each series are timed."""

    size: Size
    rounds: str
    trials: list[Trial]
    costs: dict[str, list[Cost]] = field(default_factory=dict)


def plans(scale: float, chosen: list[Size]) -> list[Plan]:
    made = []
    for size in chosen:
        n_series = size.n_series
        begin = size.warm_rounds * n_series
        end = begin + max(int(TICKS * scale * size.share), LEAST_ROUNDS * n_series)
        trials = [
            Trial(floor(n_series), begin, max(end, begin + PEER_TICKS)),
            Trial(ECHO, 1, max(int(TICKS * scale / 5), PEER_TICKS)),  # its ticks are all alike, so fewer will do
            Trial(off(size.profile), begin, end),
            Trial(on(size.profile), begin, end),
        ]
        if str(size) == str(SIZES[0]):
            trials.append(Trial(deep_river(DEEP_READ), DEEP_READ, DEEP_TICKS))
        for missing in (trial.kind.name for trial in trials if trial.kind.command is None):
            print(f"left out: {missing}", flush=True)
        told = f"ticks {begin // n_series:,} to {end // n_series:,} of each"
        made.append(Plan(size, told, [trial for trial in trials if trial.kind.command]))
    return made


def run_once(client: redis.Redis, trial: Trial, stream: str) -> Cost:
    """What a tick costs between the `begin`th forecast and the `end`th."""
    forget_readers(client, stream)
    server_pid, output = pid_of(client), trial.kind.output_of(stream)
    with consumer(client, trial.kind, stream) as running:

        def sample(stages: dict[str, float]) -> Sample:
            pid = running.process.pid
            return Sample(client.xlen(output), time.perf_counter(), cpu_seconds(server_pid), cpu_seconds(pid), stages)

        reach(lambda: client.xlen(output), trial.begin, running)
        begun = sample(running.stages() if trial.kind.tells_stages else {})  # first asked, then timed
        reach(lambda: client.xlen(output), trial.end, running)
        ended = sample({})
        stages = running.stages() if trial.kind.tells_stages else {}
    per_tick = 1e6 / max(ended.forecasts - begun.forecasts, 1)
    return Cost(
        (ended.wall_seconds - begun.wall_seconds) * per_tick,
        (ended.server_seconds - begun.server_seconds) * per_tick,
        (ended.consumer_seconds - begun.consumer_seconds) * per_tick,
        {stage: (seconds - begun.stages.get(stage, 0.0)) * per_tick for stage, seconds in stages.items()},
    )


def reach(count: Callable[[], int], target: int, running: Consumer) -> None:
    give_up = time.perf_counter() + DEADLINE_SECONDS
    while (n := count()) < target:
        if not n:
            free_trainers(running.process.pid)  # they are started before the first forecast
        if time.perf_counter() > give_up:
            raise TimeoutError(f"{n} of {target} ticks after {DEADLINE_SECONDS:g} s")
        running.check()
        time.sleep(POLL_SECONDS)


def measure(client: redis.Redis, plan: Plan, runs: int) -> None:
    n_series = plan.size.n_series
    stream = f"{{s{n_series}}}:ticks"
    fill(client, stream, max(trial.end for trial in plan.trials), n_series)
    with progress(runs * len(plan.trials), str(plan.size), "runs", plain_seconds=PLAIN_SECONDS) as advance:
        for _ in range(runs):
            for trial in plan.trials:
                plan.costs.setdefault(trial.kind.name, []).append(run_once(client, trial, stream))
                advance(1)
    forget_readers(client, stream)
    client.delete(stream)


def found(plan: Plan, name: str) -> dict[str, Any]:
    """One consumer's medians, for JSON and the table."""
    costs = plan.costs[name]
    core = [cost.core for cost in costs]
    return {
        "series": plan.size.n_series,
        "profile": plan.size.profile,
        "rounds": plan.rounds,
        "consumer": name,
        "core_us": median(core),
        "least_us": min(core),
        "most_us": max(core),
        "wall_us": median(cost.wall for cost in costs),
        "server_us": median(cost.server for cost in costs),
        **{f"{stage}_us": median(cost.stages[stage] for cost in costs) for stage in STAGES if costs[0].stages},
        "of_floor": ratio(costs, plan.costs.get("C floor")),
        "of_echo": ratio(costs, plan.costs.get(ECHO.name)),
        "runs_us": core,
    }


def ratio(costs: list[Cost], peer: list[Cost] | None) -> float | None:
    """Ticks per second of the core against a peer's, each run against that of the same round."""
    return median(b.core / a.core for a, b in zip(costs, peer, strict=False)) if peer else None


HEADER = ("consumer", "ticks/s, wall", "ticks/s, core", "core µs per tick", "of it Redis", "decode", "engine", "text")


def report(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            f"{row['series']:,} series: {row['consumer']}",
            f"{1e6 / row['wall_us']:,.0f}",
            f"{1e6 / row['core_us']:,.0f}",
            f"{row['core_us']:.1f} ({row['least_us']:.1f}–{row['most_us']:.1f})",
            f"{row['server_us']:.1f}",
            *(f"{row[f'{stage}_us']:.1f}" if f"{stage}_us" in row else "–" for stage in STAGES),
            *(f"{row[of]:.2f}" if row[of] else "–" for of in ("of_floor", "of_echo")),
        ]
        for row in rows
    ]
    return table([*HEADER, "of the floor", "of the echo"], cells)


def aims(rows: list[dict[str, Any]]) -> str:
    """What learning costs the loop, and how deep-river compares, in sentences."""
    core = {(row["profile"], row["series"], row["consumer"]): row["core_us"] for row in rows}
    told = []
    for profile, n_series in dict.fromkeys((row["profile"], row["series"]) for row in rows):
        still, learns = (core[profile, n_series, kind(profile).name] for kind in (off, on))
        told.append(f"{profile}, {n_series:,} series: learning costs the loop {learns / still - 1:+.0%}.")
    deep = [row for row in rows if row["consumer"].startswith("deep-river")]
    ours = core.get(("lean", 1_000, off("lean").name))
    if deep and ours:
        told.append(f"deep-river takes {deep[0]['core_us'] / ours:,.0f} times as long as lean at 1,000 series.")
    return "\n".join(f"- {line}" for line in told)


def parsed(text: str) -> list[Size]:
    known = {str(size): size for size in SIZES}
    if unknown := set(text.split(",")) - set(known):
        raise argparse.ArgumentTypeError(f"{unknown.pop()} is none of {', '.join(known)}")
    return [known[word] for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of 500,000 ticks")
    parser.add_argument("--only", type=parsed, default=[*SIZES], help="some of the sizes: lean:1000,accurate:100")
    parser.add_argument(
        "--warm", type=int, help=f"ticks of each series before the clock runs; {CALM_ROUNDS}: it learns calmly"
    )
    parser.add_argument("--json", type=Path, help="all that was found goes here as well")
    options = parser.parse_args()
    chosen = [size._replace(warm_rounds=options.warm or size.warm_rounds) for size in options.only]
    with server() as client:
        about = circumstances(client)
        shape = (
            f"Scale {options.scale:g}; medians of {options.runs} runs; reads of {LARGEST_READ_TICKS:,} ticks at most."
        )
        print(f"## Throughput on one core\n\n{about} {shape}", flush=True)
        rows = []
        for plan in plans(options.scale, chosen):
            measure(client, plan, options.runs)
            here = [found(plan, name) for name in plan.costs]
            print(f"\n{plan.size}, {plan.rounds}:\n\n{report(here)}", flush=True)
            rows += here
    print(f"\n{aims(rows)}", flush=True)
    if options.json:
        keep(options.json, "throughput", {"about": about, "scale": options.scale, "rows": rows})


if __name__ == "__main__":
    main()
