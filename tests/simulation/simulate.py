"""The long form of the simulation: `make simulate SEEDS=10000`; `SEED=…` repeats one and shows its log."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from world import Report, World

from foretick.app.progress import progress

SHOWN_MAX = 10  # failing seeds that are told in full


def live(seed: int) -> Report:
    report = World(seed).run()
    if not report.violations:
        report.lines = []
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with its log")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    asked = parser.parse_args()
    if asked.seed is not None:
        report = World(asked.seed).run()
        print(report.plan, *report.lines, dict(report.faults), sep="\n")
        print(*report.violations or ["no violation"], sep="\n")
        return bool(report.violations)

    begun = time.monotonic()
    seeds = range(asked.first, asked.first + asked.seeds)
    ticks = commands = 0
    faults: Counter[str] = Counter()
    failed: list[Report] = []
    with (
        multiprocessing.get_context("forkserver").Pool(asked.jobs) as pool,
        progress(len(seeds), "simulating", "seeds", plain_seconds=10.0) as advance,
    ):
        for report in pool.imap_unordered(live, seeds, chunksize=4):
            advance(1)
            ticks += report.ticks
            commands += report.commands
            faults += report.faults
            if report.violations:
                failed.append(report)
    for report in sorted(failed, key=lambda one: one.seed)[:SHOWN_MAX]:
        print(
            f"seed {report.seed}: {report.violations}\n   {report.plan}\n   repeat it: make simulate SEED={report.seed}"
        )
    print(f"seeds       {asked.first} to {seeds[-1]}, in {time.monotonic() - begun:.0f} s")
    print(f"ticks       {ticks:,}")
    print(f"commands    {commands:,}")
    print(f"faults      {faults.total():,}: " + ", ".join(f"{name} {n:,}" for name, n in sorted(faults.items())))
    print(f"violations  {len(failed)}" + (f": seeds {sorted(one.seed for one in failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
