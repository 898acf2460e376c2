"""One tick at a time: from the start of its XADD until a blocked XREAD of another connection holds its forecast.

    python bench/latency.py [--profile lean] [--ticks 2000] [--flat 1000000] [--json FILE]

All consumers run all the time, each on a stream of its own; they take turns of 50 ticks, the first 5 of each turn
unmeasured, so that a noisy machine troubles them alike. The next tick is sent when the forecast of the last is there.
The measured time is divided into five parts: each quantile and each ratio is the median of the parts', so that one
hiccup of the machine does not make a p99. "core" is the time that the consumer spent on the core per tick (median over
the turns), which others hardly disturb. Then the same daemon early and late in its life, side by side: 100 series,
each after 1,000 ticks of its own, and after `--flat` ticks in all (of a million, 10,000 of each).
"""

from __future__ import annotations

import argparse
import contextlib
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import redis
from kinds import ECHO, Kind, floor, foretick, off, on
from rig import (
    circumstances,
    consumer,
    cpu_seconds,
    fill,
    forget_readers,
    free_trainers,
    keep,
    server,
    table,
    url_of,
    wait_until,
)

from foretick.app.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

TURN_TICKS = 50
COLD_TICKS = 5  # of a turn: the consumer was idle before it
PARTS = 5  # of the measured time
FLAT_SERIES = 100
EARLY_TICKS = 100_000  # 1,000 of each: warm, and past the search for seasons, so that both do the same work
PLAIN_SECONDS = 30.0  # between two lines of progress where nobody looks
WARM_ROUNDS = 650  # ticks of each series before: past the hasty learning of the first 600


class Lane:
    """One consumer, its stream, and the two connections that measure it."""

    def __init__(self, client: redis.Redis, kind: Kind, number: int, n_series: int, warm_ticks: int) -> None:
        self.kind = kind
        self.n_series = n_series
        self.stream = f"{{lane{number}}}:ticks"
        self.output = kind.output_of(self.stream)
        self.warm_ticks = warm_ticks
        self.last_ts = fill(client, self.stream, warm_ticks, n_series)
        self.seconds: list[float] = []
        self.core_seconds: list[float] = []  # of the consumer, per tick, by turn
        self._client = client
        self._n = 0
        self._pid = 0
        self._connections = [redis.Redis.from_url(url_of(client), protocol=2) for _ in range(2)]
        self._producer: Any  # redis-py's Connection, of which nothing is annotated
        self._reader: Any
        self._producer, self._reader = (made.connection_pool.get_connection() for made in self._connections)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Start the consumer and wait until it has caught up."""
        with consumer(self._client, self.kind, self.stream) as running:

            def has_caught_up() -> bool:
                running.check()
                return bool(self._client.xlen(self.output) >= self.warm_ticks)

            wait_until(has_caught_up, 240, f"the warm-up of {self.kind.name}")
            self._pid = running.process.pid
            free_trainers(self._pid)
            yield

    def close(self) -> None:
        for made in self._connections:
            made.close()

    def turn(self) -> None:
        before = cpu_seconds(self._pid)
        seconds = [self._tick() for _ in range(TURN_TICKS)]
        self.core_seconds.append((cpu_seconds(self._pid) - before) / TURN_TICKS)
        self.seconds += seconds[COLD_TICKS:]

    def _tick(self) -> float:
        self._n += 1
        self.last_ts = max(self.last_ts + 1, int(time.time() * 1000))  # two ticks of a series may share no millisecond
        series = f"sensor-{self._n % self.n_series}"
        value = f"{100 + np.sin(self._n / 50):.3f}"
        self._reader.send_command("XREAD", "BLOCK", 30_000, "STREAMS", self.output, "$")
        # The reader must be in place first: a round trip on the other connection makes sure of it.
        self._client.ping()
        begun = time.perf_counter()
        self._producer.send_command("XADD", self.stream, "*", "series", series, "value", value, "ts", self.last_ts)
        self._producer.read_response()
        reply = self._reader.read_response()
        seconds = time.perf_counter() - begun
        assert reply, f"no forecast from {self.kind.name}"
        return seconds


def measure(client: redis.Redis, lanes: list[Lane], ticks: int) -> list[Lane]:
    turns = -(-ticks // (TURN_TICKS - COLD_TICKS))
    title, total = f"{lanes[0].n_series} series", turns * (TURN_TICKS - COLD_TICKS) * len(lanes)
    with contextlib.ExitStack() as stack:
        for lane in lanes:
            stack.callback(lane.close)
            stack.enter_context(lane.open())
        advance = stack.enter_context(progress(total, title, "ticks", plain_seconds=PLAIN_SECONDS))
        for _ in range(turns):
            for lane in lanes:
                lane.turn()
                advance(TURN_TICKS - COLD_TICKS)
    for lane in lanes:
        forget_readers(client, lane.stream)
        client.delete(lane.stream)
    return lanes


def peer_kinds(profile: str, n_series: int) -> list[Kind]:
    return [kind for kind in (ECHO, floor(n_series), off(profile), on(profile)) if kind.command]


def peers(client: redis.Redis, profile: str, n_series: int) -> list[Lane]:
    kinds = peer_kinds(profile, n_series)
    return [Lane(client, kind, i, n_series, WARM_ROUNDS * n_series) for i, kind in enumerate(kinds)]


def ages(client: redis.Redis, profile: str, late: int) -> list[Lane]:
    """The same daemon at two ages; the first is what the other is compared with."""
    kinds = {
        n: foretick(f"after {n // FLAT_SERIES:,} ticks of each", "--set", "learn.enabled=false", profile=profile)
        for n in (EARLY_TICKS, late)
    }
    return [Lane(client, kind, i, FLAT_SERIES, n) for i, (n, kind) in enumerate(kinds.items())]


def found(lanes: list[Lane]) -> list[dict[str, Any]]:
    """Rows for JSON and the table; the first lane is what the others are compared with."""
    rows = []
    peer = quantiles(lanes[0])
    for lane in lanes:
        mine = quantiles(lane)
        p50, p90, p99 = np.median(mine, axis=0)
        ratios = np.median(mine / peer, axis=0)
        rows.append(
            {
                "series": lane.n_series,
                "consumer": lane.kind.name,
                "p50_us": p50,
                "p90_us": p90,
                "p99_us": p99,
                "most_us": 1e6 * max(lane.seconds),
                "p50_ratio": ratios[0],
                "p99_ratio": ratios[2],
                "core_us": 1e6 * float(np.median(lane.core_seconds)),
                "ticks": len(lane.seconds),
            }
        )
    return rows


def quantiles(lane: Lane) -> Any:
    """(PARTS, 3) p50, p90, p99 in µs, of each part of the time."""
    parts = np.array_split(np.array(lane.seconds), PARTS)
    return 1e6 * np.array([np.percentile(part, (50, 90, 99)) for part in parts])


def report(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            f"{row['series']:,} series: {row['consumer']}",
            *(f"{row[f'{of}_us']:,.0f}" for of in ("p50", "p90", "p99", "most")),
            f"{row['p50_ratio']:.2f}",
            f"{row['p99_ratio']:.2f}",
            f"{row['core_us']:,.0f}",
        ]
        for row in rows
    ]
    return table(["consumer", "p50 µs", "p90 µs", "p99 µs", "most µs", "p50 ratio", "p99 ratio", "core µs"], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean")
    parser.add_argument("--ticks", type=int, default=2000, help="measured ticks of each consumer")
    parser.add_argument("--series", default="1,10,100", help="numbers of series")
    parser.add_argument(
        "--flat", type=int, default=1_000_000, help="ticks before the later of two ages; 0: leave it out"
    )
    parser.add_argument("--json", type=Path, help="all that was found goes here as well")
    options = parser.parse_args()
    sizes = [int(text) for text in options.series.split(",") if text]
    rows: list[dict[str, Any]] = []
    with server() as client:
        about = circumstances(client)
        print(f"\n## Latency of a single tick, profile {options.profile}\n\n{about} {options.ticks:,} ticks of each.")
        lanes_of = [partial(peers, client, options.profile, n) for n in sizes]
        if options.flat:
            lanes_of.append(partial(ages, client, options.profile, options.flat))
        for make_lanes in lanes_of:
            here = found(measure(client, make_lanes(), options.ticks))
            print(f"\n{report(here)}", flush=True)
            rows += here
    print("\nRatios are to the redis-py echo, of ages to the earlier one.", flush=True)
    if options.json:
        keep(options.json, "latency", {"about": about, "ticks": options.ticks, "rows": rows})


if __name__ == "__main__":
    main()
