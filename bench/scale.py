"""How the cost of a tick, memory and checkpoints grow from ten series to a million, and with the window.

    python bench/scale.py [--profile lean] [--most 1000000] [--out docs/scale.png]

For each number of series, in a process of its own: the engine without learning takes ticks in batches of 1,000, spread
over all series. "First" is the cost of a tick that begins a series, "steady" that of later ones, both on the core.
"Resident" is what the process grew by since it was empty: state, name index, buffers; "with checkpoints" what it grew
by once one was copied. Of 100,000 series and more also how long a checkpoint holds the loop up, and how long one takes
from its file into an engine, both on the core. Of the largest number, where its bytes go.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from rig import circumstances, server, table

from foretick.app.backtest.plot import new_figure, save
from foretick.app.marks import Mark
from foretick.app.states import Identity, State, check_fit, pack_state, unpack_state
from foretick.core.engine import Engine
from foretick.core.profiles import PROFILES
from foretick.core.records import Ticks
from foretick.core.snapshots import Room
from foretick.ports.checkpoints import FolderStore, unpack

if TYPE_CHECKING:
    from foretick.core.recipe import Recipe

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
WINDOWS = (64, 256, 1_024, 4_096)  # ticks
WINDOW_SERIES = 1_000
BATCH = 1_000  # ticks, as the daemon reads at once
PARTS, PART_TICKS = 8, 5_000  # that are timed; the median counts
COLD_ROUNDS = 40  # ticks of each series until it has all that it will have
COLD_TICKS = 1_000_000  # spent on that at most: of many series each gets one or two
LARGE = 100_000  # series: from here on checkpoints are timed
SPACING_MS = 60_000


@dataclass(frozen=True, slots=True)
class Found:
    """What one number of series came to: µs per tick, bytes per series, ms and s on the core."""

    series: int
    first: float
    steady: float
    resident: float
    copied: float | None = None
    pause_ms: float | None = None
    restore_seconds: float | None = None
    parts: dict[str, float] = field(default_factory=dict)


class Load:
    """An engine and ticks for it."""

    def __init__(self, recipe: Recipe, n_series: int) -> None:
        self.engine = Engine(recipe)
        self._names = [b"ticks\0sensor-%07d" % i for i in range(n_series)]  # the engine keeps these very objects
        # Of few series some tick several times in a batch, of many each batch lies somewhere else.
        self._stride = 7_919 if n_series > BATCH else 1
        self._rng = np.random.default_rng(0)
        self._sent = 0

    def batches(self, ticks: int) -> float:
        """So many ticks; µs on the core for each."""
        spent, n, turns = 0.0, len(self._names), max(ticks // BATCH, 1)
        for _ in range(turns):
            number = np.arange(BATCH) + self._sent
            ms = 1_600_000_000_000 + number // n * SPACING_MS
            names = [self._names[i] for i in (number * self._stride % n).tolist()]
            batch = Ticks(names, ms, ms, np.ones(BATCH, np.bool_), self._rng.standard_normal(BATCH))
            self._sent += BATCH
            begun = time.thread_time()
            self.engine.advance(batch)
            spent += time.thread_time() - begun
        return spent / turns / BATCH * 1e6


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(recipe: Recipe, n_series: int) -> Found:
    """All figures of one number of series."""
    Load(recipe, 10).batches(10 * BATCH)  # what is made once
    before = resident_bytes()
    load = Load(recipe, n_series)
    first = load.batches(n_series)
    load.batches(max(n_series, min(COLD_ROUNDS * n_series, COLD_TICKS)))
    steady = median(load.batches(PART_TICKS) for _ in range(PARTS))
    found = Found(n_series, first, steady, (resident_bytes() - before) / n_series)
    if n_series < LARGE:
        return found
    room = Room()
    pause_ms = median(_pause_ms(load, room) for _ in range(3))
    copied = (resident_bytes() - before) / n_series
    seconds = _restore_seconds(load, room, recipe)
    return replace(found, copied=copied, pause_ms=pause_ms, restore_seconds=seconds, parts=_parts(load.engine))


def _pause_ms(load: Load, room: Room) -> float:
    """How long the loop stands still for one checkpoint, copied ahead while ticks come in."""
    room.reset()
    longest = 0.0
    while True:
        begun = time.thread_time()
        load.engine.begin_snapshot(room)
        longest = max(longest, time.thread_time() - begun)
        room.copy_ahead()
        load.batches(BATCH)
        if load.engine.is_close(room):
            break
    begun = time.thread_time()
    load.engine.snapshot(room)
    return max(longest, time.thread_time() - begun) * 1000


def _restore_seconds(load: Load, room: Room, recipe: Recipe) -> float:
    """From the file of a checkpoint to an engine that could go on."""
    identity = Identity("bench", "none", {"default": load.engine.layout})
    state = State(identity, {b"ticks": Mark(b"ticks", b"1-0", 1)}, 0, {"default": load.engine.snapshot(room)})
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder), b"foretick", b"bench")
        store.generations()
        generation = store.write(pack_state(state), lambda _seconds: None)
        store.switch(generation)
        engine = Engine(recipe)
        begun = time.thread_time()
        snapshot = unpack_state(unpack(store.read(generation, lambda: None))).snapshots["default"]
        check_fit(engine, snapshot)
        engine.restore(snapshot)
        seconds = time.thread_time() - begun
        store.close()
    return seconds


def _parts(engine: Engine) -> dict[str, float]:
    """Bytes per series by what they are for; the objects of Python as it gives them out, in steps of 16."""
    arena = engine._arena  # noqa: SLF001  a bench looks inside
    names, n = arena.names, len(arena)
    found: dict[str, float] = {name: array[:1].nbytes for name, array in arena.table.views(n).items()}
    found["ids, objects"] = sum(-(-sys.getsizeof(name) // 16) * 16 for name in names.by_row) / n
    found["rows, objects"] = 32.0
    found["ids by row, list"] = sys.getsizeof(names.by_row) / n
    found["rows by id, dict"] = sys.getsizeof(names.row_of) / n
    found["ids joined"] = names.joined().nbytes / n
    return found


def apart(profile: str, n_series: int, window: int | None = None) -> Found:
    """The same in a process of its own, so that nothing is resident but what belongs to it."""
    words = [sys.executable, __file__, "--profile", profile, "--one", str(n_series)]
    done = subprocess.run([*words, *(["--window", str(window)] if window else [])], stdout=subprocess.PIPE, check=True)
    return Found(**json.loads(done.stdout))


def draw(found: list[Found], windows: list[tuple[int, Found]], out: Path) -> None:
    """Cost over series, bytes over series, cost over the window; logarithmic across."""
    figure = new_figure((9.0, 3.2))
    axes = figure.subplots(1, 3)
    sizes = [one.series for one in found]
    panels = (
        (sizes, [one.steady for one in found], "series", "µs per tick, steady"),
        (sizes[3:], [one.resident for one in found[3:]], "series", "bytes per series, resident"),
        ([w for w, _ in windows], [one.steady for _, one in windows], "ticks of window", "µs per tick, 1,000 series"),
    )
    for axis, (across, up, of, what) in zip(axes, panels, strict=True):
        axis.semilogx(across, up, marker="o", color="#1f6feb")
        if max(up) > 10 * min(up):
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, 1.15 * max(up))
        axis.set_xlabel(of)
        axis.set_title(what, fontsize=10)
        axis.grid(visible=True, alpha=0.3)
    save(figure, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean", choices=sorted(PROFILES))
    parser.add_argument("--most", type=int, default=SIZES[-1], help="series")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "docs" / "scale.png")
    parser.add_argument("--one", type=int, help="only this number of series, as JSON, in this process")
    parser.add_argument("--window", type=int, help="ticks, of --one")
    options = parser.parse_args()
    recipe = PROFILES[options.profile]()
    recipe = replace(recipe, window=options.window or recipe.window, learn=replace(recipe.learn, enabled=False))
    if options.one:
        torch.set_num_threads(1)
        print(json.dumps(asdict(measured(recipe, options.one))))
        return
    with server() as client:
        about = circumstances(client)
    found = [apart(options.profile, size) for size in SIZES if size <= options.most]
    windows = [(window, apart(options.profile, WINDOW_SERIES, window)) for window in WINDOWS]
    rows = [
        [
            f"{one.series:,}",
            f"{one.first:.1f}",
            f"{one.steady:.1f}",
            f"{one.resident:,.0f}" if one.series >= 10_000 else "–",
            f"{one.copied:,.0f}" if one.copied else "–",
            f"{one.pause_ms:.1f}" if one.pause_ms else "–",
            f"{one.restore_seconds:.2f}" if one.restore_seconds else "–",
        ]
        for one in found
    ]
    header = ["series", "first tick, µs", "steady, µs", "bytes per series", "with checkpoints"]
    header += ["checkpoint pause, ms", "restore, s"]
    print(f"\n## Scale, profile {options.profile}\n\n{about}\n\n{table(header, rows)}\n")
    parts = sorted(found[-1].parts.items(), key=lambda part: -part[1])
    print(table(["part", "bytes per series"], [[name, f"{size:,.1f}"] for name, size in parts if size]), end="\n\n")
    print(table(["window, ticks", "steady, µs"], [[f"{w:,}", f"{one.steady:.1f}"] for w, one in windows]), flush=True)
    draw(found, windows, options.out)


if __name__ == "__main__":
    main()
