"""What each part of a turn costs alone: time on the core, least of several, of a turn of a tick of every series.

    python bench/parts.py [--profile lean] [--series 1000] [--turns 25] [--json FILE]

The parts are those in which foretick computes, in the order of a turn; what they are given is what the part before
made. No Redis is needed. Beside it the same of a turn of one tick.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
import numpy as np
import torch
from rig import SPACING_MS, keep, table

from foretick.core.engine import Engine
from foretick.core.profiles import PROFILES
from foretick.ports import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARM_TURNS = 45  # intervals are calibrated, seasons looked for
LONE_TURNS = 300  # of one tick
STREAM = b"{parts}:ticks"
PLACES = {STREAM: (b"foretick:{parts}:ticks:forecasts", b"foretick:{parts}:ticks:latest")}
FIRST_MS = 1_763_712_000_000
PARTS = ("reply to objects", "entries to columns", "engine", "text and requests")


def reply(turn: int, series: Sequence[int]) -> bytes:
    """What Redis answers to the XREAD of a turn."""
    ms = FIRST_MS + turn * SPACING_MS
    values = np.round(100 + 3 * np.random.default_rng(turn).standard_normal(len(series)), 3).tolist()
    ticks = [_array(b"%d-%d" % (ms, i), [b"series", b"sensor-%d" % i, b"value", repr(y).encode(), b"ts", b"%d" % ms])
             for i, y in zip(series, values, strict=True)]  # fmt: skip
    return b"*1\r\n*2\r\n%b*%d\r\n%b" % (_word(STREAM), len(ticks), b"".join(ticks))


def _array(entry_id: bytes, words: list[bytes]) -> bytes:
    return b"*2\r\n%b*%d\r\n%b" % (_word(entry_id), len(words), b"".join(map(_word, words)))


def _word(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


class Turns:
    """One engine, and the time on the core of each part of its turns."""

    def __init__(self, profile: str) -> None:
        recipe = PROFILES[profile]()
        self._engine = Engine(replace(recipe, learn=replace(recipe.learn, enabled=False)))
        self._fields = wire.FieldNames()
        self.seconds: list[list[float]] = []

    def take(self, answer: bytes) -> None:
        self.seconds.append([])
        entries = self._timed(_parsed, answer)[0][1]
        decoded = self._timed(wire.decode, entries, [STREAM] * len(entries), self._fields)
        forecasts = self._timed(self._engine.advance, decoded.ticks)
        self._timed(wire.publications, decoded, forecasts, PLACES)

    def _timed(self, act: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.thread_time()
        made = act(*arguments)
        self.seconds[-1].append(time.thread_time() - begun)
        return made


def _parsed(answer: bytes) -> Any:
    reader: Any = hiredis.Reader()
    reader.feed(answer)
    return reader.gets()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean", choices=PROFILES)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--json", type=Path, help="what was found goes here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    turns = Turns(options.profile)
    for turn in range(WARM_TURNS):
        turns.take(reply(turn, range(options.series)))
    gc.freeze()
    gc.disable()  # as the daemon does
    turns.seconds.clear()
    for turn in range(WARM_TURNS, WARM_TURNS + options.turns):
        turns.take(reply(turn, range(options.series)))
    many = 1e6 * np.array(turns.seconds) / options.series
    turns.seconds.clear()
    for turn in range(WARM_TURNS + options.turns, WARM_TURNS + options.turns + LONE_TURNS):
        turns.take(reply(turn, [turn % options.series]))
    one = 1e6 * np.array(turns.seconds)
    rows = []
    for name, *columns in (*zip(PARTS, many.T, one.T, strict=True), ("sum", many.sum(axis=1), one.sum(axis=1))):
        rows.append([name, *(cell for x in columns for cell in (f"{x.min():.2f}", f"{np.median(x):.2f}"))])
    header = [f"{options.profile}, µs on the core", f"{options.series:,} ticks: least", "median", "a tick alone: least"]
    print(table([*header, "median "], rows))
    if options.json:
        found = {
            row[0]: dict(zip(("least", "median", "alone_least", "alone"), map(float, row[1:]), strict=True))
            for row in rows
        }
        keep(options.json, "parts", found)


if __name__ == "__main__":
    main()
