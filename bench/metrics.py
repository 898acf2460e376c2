"""What metrics cost: the loop, at each turn; and a scrape, which must not hold the loop up.

    python bench/metrics.py [--series 100000] [--scrapes 20]

1. Telemetry: time on the core of all that a turn tells, against a turn of 1 and of 500 ticks.
2. A scrape over HTTP of a daemon's telemetry with an engine of so many series behind it, while a loop beside it turns:
   how long the scrape takes, and how much longer than usual the longest turn of the loop was while it was answered.
   The loop's time off the core is taken off, so that other programs do not count: what remains is the interpreter lock.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
from rig import circumstances, server, table

from foretick.app.lifecycle import SWITCH_SECONDS
from foretick.core.engine import Engine
from foretick.core.profiles import lean
from foretick.core.records import Ticks
from foretick.ports.embedded import free_port
from foretick.ports.endpoints import Health, HttpServer
from foretick.ports.telemetry import Telemetry

BATCH = 4000  # ticks, while the engine gets to know its series
STREAM = b"ticks"
REPEATS = 2000
TURN_SECONDS = {1: 0.0005, 500: 0.008}  # on the core, of so many ticks; about what throughput.py and latency.py find


def engine_of(n_series: int) -> Engine:
    engine = Engine(replace(lean(), learn=replace(lean().learn, enabled=False)))
    names = [b"ticks\0sensor-%06d" % i for i in range(n_series)]
    rng = np.random.default_rng(0)
    for turn in range(2):
        for start in range(0, n_series, BATCH):
            some = names[start : start + BATCH]
            n = len(some)
            ms = np.full(n, 1_000_000 + turn * 60_000 + start)
            engine.advance(Ticks(some, ms, ms, np.ones(n, np.bool_), rng.standard_normal(n)))
    return engine


def tell(telemetry: Telemetry, arrived_ms: np.ndarray) -> None:
    """All that the loop tells in a turn."""
    telemetry.observe_turn(read=0.001)
    telemetry.observe_turn(decode=0.001, engine=0.001, encode=0.001)
    telemetry.observe_turn(commit=0.001)
    telemetry.count_answers(STREAM, len(arrived_ms), warm=len(arrived_ms))
    telemetry.observe_latency(arrived_ms, 1000.0)


def telling_seconds(telemetry: Telemetry, ticks: int) -> float:
    """Time on the core of one turn's telling; the median of ten."""
    arrived_ms = np.sort(np.random.default_rng(0).integers(0, 1000, ticks))
    found = []
    for _ in range(10):
        begun = time.thread_time()
        for _ in range(REPEATS // 10):
            tell(telemetry, arrived_ms)
        found.append((time.thread_time() - begun) / (REPEATS // 10))
    return median(found)


class Loop:
    """Turns like the daemon's: a few numpy calls, a little Python, a system call that lets other threads in."""

    def __init__(self) -> None:
        self.stalls: list[float] = []  # seconds that each turn waited for the interpreter, at most
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._numbers = np.random.default_rng(0).standard_normal(4000)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun, ready = time.perf_counter(), _ready_seconds()
            for _ in range(20):
                np.tanh(self._numbers).sum()
                sum(range(300))
            time.sleep(0)
            off_core = _ready_seconds() - ready
            self.stalls.append(time.perf_counter() - begun - off_core)


def _ready_seconds() -> float:
    """Time that this thread stood ready for a core that others had."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def told(telemetry: Telemetry) -> list[list[str]]:
    """Rows: what the loop spends on metrics."""
    rows = []
    for ticks, turn_seconds in TURN_SECONDS.items():
        seconds = telling_seconds(telemetry, ticks)
        rows.append([f"telling of a turn of {ticks:,}", f"{seconds * 1e6:.0f} µs", f"{seconds / turn_seconds:.1%}"])
    return rows


def scraped(telemetry: Telemetry, scrapes: int) -> list[list[str]]:
    """Rows: what a scrape takes, and what it does to a loop."""
    port = free_port()
    http = HttpServer("127.0.0.1", port, telemetry.exposition, Health())
    http.start()
    spent, core, stalls, calm = [], [], [], []
    size = 0
    try:
        with Loop() as loop:
            for _ in range(scrapes):
                time.sleep(0.05)
                calm.append(max(loop.stalls[-20:], default=0.0))
                before, begun = len(loop.stalls), time.perf_counter()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                    size = len(reply.read())
                spent.append(time.perf_counter() - begun)
                time.sleep(0.005)  # the turn that was in progress ends
                stalls.append(max(loop.stalls[before:], default=0.0))
        for _ in range(scrapes):
            begun = time.thread_time()
            telemetry.exposition()
            core.append(time.thread_time() - begun)
    finally:
        http.stop()
    most = f"most {max(stalls) * 1e3:.2f}"
    return [
        [f"scrape of {size / 1e3:.0f} kB, on the core", f"{median(core) * 1e3:.1f} ms", ""],
        ["scrape over HTTP, the loop beside it", f"{median(spent) * 1e3:.1f} ms", ""],
        ["longest turn of that loop, no scrape", f"{median(calm) * 1e3:.2f} ms", ""],
        ["longest turn of that loop during a scrape", f"{median(stalls) * 1e3:.2f} ms", most],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_SECONDS)
    telemetry = Telemetry(worst_series=10, named_series=["sensor-00001?"])
    rows = told(telemetry)
    engine = engine_of(options.series)
    telemetry.watch_scores(engine.scores)
    telemetry.watch_series(engine.series)
    rows += scraped(telemetry, options.scrapes)
    with server() as client:
        print(f"\n## Metrics, {options.series:,} series\n\n{circumstances(client)}\n")
    print(table(["what", "takes", "of a turn"], rows), flush=True)


if __name__ == "__main__":
    main()
