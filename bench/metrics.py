"""What metrics cost: the loop, at each turn; and a scrape, which must not hold the loop up.

    python bench/metrics.py [--series 100000] [--scrapes 20]

1. Telemetry: time on the core of all that a turn tells, against a turn of 1 and of 500 ticks.
2. A scrape over HTTP of a daemon's telemetry with an engine of so many series behind it, while a loop beside it turns:
   how long the scrape takes, how long at a stretch the loop waited for the interpreter meanwhile, and how much longer
   its turns were. Time in which the loop was ready and other programs had the core is taken off, as far as the kernel
   tells it: on a busy machine the least and the median say more than the most.
3. What holds the interpreter, in any single call of C, longest: no other thread can take it before that call ends.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from rig import circumstances, server, table

from foretick.app.lifecycle import SWITCH_SECONDS
from foretick.core.engine import Engine
from foretick.core.profiles import lean
from foretick.core.records import Ticks
from foretick.ports.embedded import free_port
from foretick.ports.endpoints import Health, HttpServer
from foretick.ports.telemetry import Telemetry

if TYPE_CHECKING:
    from types import FrameType

BATCH = 4000  # ticks, while the engine gets to know its series
STREAM = b"ticks"
REPEATS = 2000
STEPS = 20  # of a turn: numpy, which lets other threads in, and Python
SUSPICIOUS_SECONDS = 0.0002  # of a step, which takes 30 µs
LETS_GO = frozenset({"copy", "argpartition"})  # numpy's, which need no interpreter while they work on numbers
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
    telemetry.observe_latency(arrived_ms, 1000.0, 0.0)


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
        self.turns: list[float] = []  # seconds
        self.waits: list[float] = []  # seconds, the longest of each turn's steps
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
        with Path("/proc/thread-self/schedstat").open("rb") as schedstat:

            def ready_seconds() -> float:
                """Time that this thread stood ready for a core that others had."""
                return int(os.pread(schedstat.fileno(), 100, 0).split()[1]) / 1e9

            while not self._stop.is_set():
                begun, ready = time.perf_counter(), ready_seconds()
                last, longest, others = begun, 0.0, 0.0
                for _ in range(STEPS):
                    np.tanh(self._numbers).sum()
                    sum(range(300))
                    now = time.perf_counter()
                    if now - last > SUSPICIOUS_SECONDS:
                        others, before = ready_seconds() - ready, others
                        longest = max(longest, now - last - (others - before))
                        now = time.perf_counter()
                    last = now
                time.sleep(0)
                self.turns.append(time.perf_counter() - begun - (ready_seconds() - ready))
                self.waits.append(longest)


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
    begun = time.thread_time()
    telemetry.exposition()
    first = time.thread_time() - begun
    spent, core, size = [], [], 0
    waits: list[tuple[float, float]] = []  # the longest just before, and during
    turns: list[tuple[float, float]] = []
    try:
        with Loop() as loop:
            for _ in range(scrapes):
                time.sleep(0.05)
                before, begun = len(loop.turns), time.perf_counter()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                    size = len(reply.read())
                spent.append(time.perf_counter() - begun)
                time.sleep(0.005)  # the turn that was in progress ends
                n = len(loop.turns) - before
                for found, kept in ((loop.waits, waits), (loop.turns, turns)):
                    kept.append((max(found[before - n : before], default=0.0), max(found[before:], default=0.0)))
        for _ in range(scrapes):
            begun = time.thread_time()
            telemetry.exposition()
            core.append(time.thread_time() - begun)
        seconds, where = longest_call(telemetry)
    finally:
        http.stop()
    rows: list[tuple[str, list[float]]] = [
        (f"scrape of {size / 1e3:.0f} kB, on the core", core),
        ("scrape over HTTP, the loop beside it", spent),
        ("the loop's longest wait, no scrape", [calm for calm, _ in waits]),
        ("the loop's longest wait during a scrape", [during for _, during in waits]),
        ("the loop's longest turn, no scrape", [calm for calm, _ in turns]),
        ("the loop's longest turn during a scrape", [during for _, during in turns]),
        ("the first scrape, which looks through all names, on the core", [first]),
        (f"longest call of C in a scrape: `{where}`", [seconds]),
    ]
    return [[what, *(f"{pick(found) * 1e3:.2f}" for pick in (min, median, max))] for what, found in rows]


def longest_call(telemetry: Telemetry) -> tuple[float, str]:
    """Seconds on the core of the call of C that keeps the interpreter longest, least of five scrapes; its name."""
    least: dict[str, float] = {}
    for _ in range(5):
        most: dict[str, float] = {}
        last = ("", 0.0)

        def listen(frame: FrameType, event: str, function: Any, most: dict[str, float] = most) -> None:
            nonlocal last
            seconds = time.thread_time() - last[1]
            if (last[0], event) == ("c_call", "c_return") and function.__name__ not in LETS_GO:  # and called nobody
                name = f"{function.__qualname__} in {frame.f_code.co_name}"
                most[name] = max(most.get(name, 0.0), seconds)
            last = event, time.thread_time()

        sys.setprofile(listen)
        telemetry.exposition()
        sys.setprofile(None)
        least = {name: min(seconds, least.get(name, seconds)) for name, seconds in most.items()}
    where = max(least, key=lambda name: least[name])
    return least[where], where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_SECONDS)
    telemetry = Telemetry(worst_series=10, named_series=["sensor-00001?"])
    costs = told(telemetry)
    engine = engine_of(options.series)
    telemetry.watch_scores(engine.scores)
    telemetry.watch_series(engine.series)
    scrapes = scraped(telemetry, options.scrapes)
    with server() as client:
        print(f"\n## Metrics, {options.series:,} series\n\n{circumstances(client)}\n")
    print(table(["what", "takes", "of a turn"], costs), end="\n\n")
    print(table(["ms", "least", "median", "most"], scrapes), flush=True)


if __name__ == "__main__":
    main()
