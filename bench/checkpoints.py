"""How long a checkpoint holds the loop up, and what it costs beside it.

    python bench/checkpoints.py [--series 100000] [--rate 20000]

An engine of many series of the profile `lean`, without learning, takes
ticks in batches, as the loop does, at a steady rate. Compared are three ways to copy its state at one position: into
fresh memory, into memory that is kept, and the daemon's own way, ahead of the cut by a side thread. "pause" is the time
that the loop stands still at the cut; "turn" the time of a batch through the engine while the copy, the packing and the
writing go on beside it, against the same without.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.app.states import Identity, Mark, State, pack_state, unpack_state
from foretick.core.engine import Engine
from foretick.core.profiles import lean
from foretick.core.records import Ticks
from foretick.core.snapshots import Room
from foretick.ports.checkpoints import FolderStore, RedisStore, unpack
from foretick.ports.connection import RedisConnection

if TYPE_CHECKING:
    from collections.abc import Callable

LEAN = replace(lean(), learn=replace(lean().learn, enabled=False))
BATCH = 500  # ticks, as the daemon reads at once
REPEATS = 9


class Load:
    """An engine with all its series, and ticks for them, evenly spread, at a steady rate."""

    def __init__(self, series: int, rate: float) -> None:
        self.engine = Engine(LEAN)
        self.names = [b"sensor-%06d" % i for i in range(series)]
        self.rng = np.random.default_rng(0)
        self.rate = rate
        self.sent = 0
        for _ in range(3 * series // BATCH):
            self.batch()

    def batch(self) -> float:
        """One batch; the seconds that it took."""
        at = (np.arange(BATCH) + self.sent) * 7919 % len(self.names)
        ms = np.arange(BATCH) + self.sent
        ticks = Ticks([self.names[i] for i in at], ms, ms, np.zeros(BATCH, np.bool_), self.rng.standard_normal(BATCH))
        begun = time.perf_counter()
        self.engine.advance(ticks)
        self.sent += BATCH
        return time.perf_counter() - begun

    def while_running(self, act: Callable[[], Any]) -> list[float]:
        """Turns, at the rate, until a side thread has done this."""
        side = threading.Thread(target=act)
        side.start()
        turns = []
        due = time.perf_counter()
        while side.is_alive():
            turns.append(self.batch())
            due += BATCH / self.rate
            time.sleep(max(due - time.perf_counter(), 0.0))
        side.join()
        return turns


def copied_ahead(load: Load, room: Room, turns: list[float]) -> float:
    """The daemon's way; the pause at the cut."""
    while True:
        begun = time.perf_counter()
        load.engine.begin_snapshot(room)
        begin_seconds = time.perf_counter() - begun
        turns += load.while_running(room.copy_ahead)
        if load.engine.is_close(room):
            break
    begun = time.perf_counter()
    load.engine.snapshot(room)
    return max(time.perf_counter() - begun, begin_seconds)


def told(label: str, seconds: list[float]) -> str:
    """A row of the table."""
    ms = np.sort(np.array(seconds)) * 1e3
    return f"| {label} | {ms[0]:.1f} | {np.median(ms):.1f} | {np.quantile(ms, 0.99):.1f} | {ms[-1]:.1f} |"


def pauses(load: Load) -> Room:
    """Measure the three ways in turn, so that a noisy machine troubles them alike."""
    at_once, kept, ahead, turns, plain = Room(), [], [], [], []
    fresh: list[float] = []
    room = Room()
    passes = []
    for _ in range(REPEATS):
        for act, into in ((load.engine.snapshot, fresh), (lambda: load.engine.snapshot(at_once), kept)):
            begun = time.perf_counter()
            act()
            into.append(time.perf_counter() - begun)
        ahead.append(copied_ahead(load, room, turns))
        passes.append(room.passes)
        plain += load.while_running(lambda: time.sleep(0.2))
    print("| ms | least | median | p99 | most |\n|---|---|---|---|---|")
    print(told("pause, fresh memory", fresh[1:]))
    print(told("pause, kept memory", kept[1:]))
    print(told("**pause, copied ahead** (the daemon)", ahead[1:]))
    print(told(f"turn of {BATCH} ticks", plain))
    print(told("turn while copying ahead", turns))
    return room


def writing(load: Load, room: Room, server_url: str | None) -> None:
    """Measure what the side thread does after the cut, and what it does to the turns meanwhile."""
    identity = Identity("bench", "none", {"default": load.engine.layout})
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, Any] = {"folder": FolderStore(Path(folder), b"foretick", b"bench")}
        if server_url:
            stores["Redis"] = RedisStore(RedisConnection(server_url, timeout_seconds=10), b"bench", 1 << 40)
        for name, store in stores.items():
            snapshots = {"default": load.engine.snapshot(room)}
            state = State(identity, {b"ticks": Mark(b"ticks", b"1-0", 1)}, 0, snapshots)
            spent: list[float] = []

            def write(state: State = state, store: Any = store, spent: list[float] = spent) -> None:
                begun = time.perf_counter()
                store.generations()
                spent.append(time.perf_counter())
                store.switch(store.write(pack_state(state), time.sleep))
                spent[0] = time.perf_counter() - begun

            turns = load.while_running(write)
            begun = time.perf_counter()
            generation = store._kept[0]  # noqa: SLF001  a bench looks inside
            contents = unpack(store.read(generation, lambda: None))
            engine = Engine(LEAN)
            engine.restore(unpack_state(contents).snapshots["default"])
            restore_seconds = time.perf_counter() - begun
            print(told(f"turn while writing to {name}", turns))
            print(
                f"\n{name}: {generation.size_bytes / 1e6:.0f} MB written in {spent[0]:.2f} s, "
                f"read and restored in {restore_seconds:.2f} s\n"
            )
            store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=20_000, help="ticks a second")
    parser.add_argument("--redis-url", help="an empty Redis to write to; several hundred MB are left there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = Load(options.series, options.rate)
    size = sum(array.nbytes for array in load.engine.snapshot().arrays.values())
    print(f"{options.series} series, {size / 1e6:.0f} MB of state, {options.rate:.0f} ticks a second\n")
    writing(load, pauses(load), options.redis_url)


if __name__ == "__main__":
    main()
