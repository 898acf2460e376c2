"""One tick at a time: from the start of its XADD until a blocked XREAD of another connection holds its forecast.

    python bench/latency.py [--profile lean] [--ticks 2000] [--flat 200000]

All consumers run all the time, each on a stream of its own; they take turns of 50 ticks, the first 5 of each turn
unmeasured, so that a noisy machine troubles them alike. The next tick is sent when the forecast of the last is there.
"core" is the time that the consumer spent on the core per tick (median over the turns), which others hardly disturb.
Then the same daemon early and late in its life, side by side: after 1,000 ticks and after `--flat`.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import redis
from rig import (
    ECHO,
    Kind,
    circumstances,
    consumer,
    cpu_seconds,
    fill,
    floor,
    foretick,
    forget_readers,
    free_trainers,
    off,
    on,
    server,
    table,
    url_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TURN_TICKS = 50
COLD_TICKS = 5  # of a turn: the consumer was idle before it
FLAT_SERIES = 100
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
    with contextlib.ExitStack() as stack:
        for lane in lanes:
            stack.callback(lane.close)
            stack.enter_context(lane.open())
        while len(lanes[0].seconds) < ticks:
            for lane in lanes:
                lane.turn()
    for lane in lanes:
        forget_readers(client, lane.stream)
        client.delete(lane.stream)
    return lanes


def peers(client: redis.Redis, profile: str, n_series: int) -> list[Lane]:
    kinds = [ECHO, *(kind for kind in (floor(n_series),) if kind.command), off(profile), on(profile)]
    return [Lane(client, kind, i, n_series, WARM_ROUNDS * n_series) for i, kind in enumerate(kinds)]


def ages(client: redis.Redis, profile: str, late: int) -> list[Lane]:
    kinds = {n: foretick(f"at tick {n:,}", "--set", "learn.enabled=false", profile=profile) for n in (1_000, late)}
    return [Lane(client, kind, i, FLAT_SERIES, n) for i, (n, kind) in enumerate(kinds.items())]


def report(lanes: list[Lane]) -> list[list[str]]:
    """Rows of a table; the first lane is what the others are compared with."""
    rows = []
    echo = np.percentile(lanes[0].seconds, (50, 99)) * 1e6
    for lane in lanes:
        micros = np.array(lane.seconds) * 1e6
        p50, p90, p99 = np.percentile(micros, (50, 90, 99))
        rows.append(
            [
                f"{lane.n_series:,} series: {lane.kind.name}",
                f"{p50:,.0f}",
                f"{p90:,.0f}",
                f"{p99:,.0f}",
                f"{micros.max():,.0f}",
                f"{p50 / echo[0]:.2f}",
                f"{p99 / echo[1]:.2f}",
                f"{np.median(lane.core_seconds) * 1e6:,.0f}",
                f"{len(micros):,}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean")
    parser.add_argument("--ticks", type=int, default=2000, help="measured ticks of each consumer")
    parser.add_argument("--flat", type=int, default=200_000, help="ticks before the later of two ages; 0: leave it out")
    options = parser.parse_args()
    rows = []
    with server() as client:
        about = circumstances(client)
        for n_series in (1, 10):
            rows += report(measure(client, peers(client, options.profile, n_series), options.ticks))
        if options.flat:
            rows += report(measure(client, ages(client, options.profile, options.flat), options.ticks))
    header = ["consumer", "p50 µs", "p90 µs", "p99 µs", "most µs", "p50 ratio", "p99 ratio", "core µs", "ticks"]
    print(f"\n## Latency of a single tick\n\n{about} Ratios are to the redis-py echo, of ages to the earlier one.\n")
    print(table(header, rows), flush=True)


if __name__ == "__main__":
    main()
