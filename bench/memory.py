"""What the whole daemon keeps in memory: alone, with many series, and while it writes checkpoints.

    python bench/memory.py [--profile lean] [--series 100000] [--ticks 3]

`foretick run` drains so many ticks of each series, learning; then the resident memory of the loop's process is read,
its peak, and what its trainer holds beside it. Three daemons: of one series, of all of them without checkpoints, and
with checkpoints into a folder.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinds import on
from rig import circumstances, consumer, fill, forget_readers, server, table, wait_until

from foretick.ports.checkpoints.folder_store import SUFFIX

if TYPE_CHECKING:
    import redis

STREAM = "{bench}ticks"
EVERY_SECONDS = 10
DRAIN_SECONDS = 300
CHECKPOINT_SECONDS = 120
SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """Resident megabytes of one daemon."""

    what: str
    loop: float
    trainer: float
    peak: float

    def row(self, alone: Found, n_series: int) -> list[str]:
        each = (self.loop - alone.loop) * 1e6 / n_series
        return [
            self.what,
            *(f"{mb:,.0f}" for mb in (self.loop, self.trainer, self.peak)),
            f"{each:,.0f}" if each else "–",
        ]


def megabytes(pid: int, word: str, file: str) -> float:
    found = re.search(rf"^{word}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def measured(client: redis.Redis, what: str, profile: str, n_ticks: int, checkpoints: Path | None) -> Found:
    """One daemon, until it has answered all ticks, and written its checkpoints."""
    forget_readers(client, STREAM)
    every = EVERY_SECONDS if checkpoints else 0
    chosen = ["--set", f"checkpoint.every={every}s", "--set", f"checkpoint.store={checkpoints or 'redis'}"]
    kind = on(profile, *chosen)
    with consumer(client, kind, STREAM) as daemon:

        def is_drained() -> bool:
            daemon.check()
            return client.xlen(kind.output_of(STREAM)) >= n_ticks

        wait_until(is_drained, DRAIN_SECONDS, "the last forecast")
        if checkpoints:
            since = time.time()
            client.xadd(STREAM, {"series": "sensor-0", "value": "1"})  # a position that no checkpoint has seen
            files = f"*/*{SUFFIX}"
            wait_until(
                lambda: any(file.stat().st_mtime > since for file in checkpoints.glob(files)), CHECKPOINT_SECONDS, files
            )
        time.sleep(SETTLE_SECONDS)
        pid = daemon.process.pid
        trainer = sum(megabytes(child, "Private_Dirty", "smaps_rollup") for child in children(pid))
        return Found(what, megabytes(pid, "VmRSS", "status"), trainer, megabytes(pid, "VmHWM", "status"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="lean")
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=3, help="of each series")
    options = parser.parse_args()
    n_ticks = options.series * options.ticks
    with server() as client, tempfile.TemporaryDirectory() as folder:
        about = circumstances(client)
        fill(client, STREAM, options.ticks, 1)
        alone = measured(client, "one series", options.profile, options.ticks, None)
        client.flushall()
        fill(client, STREAM, n_ticks, options.series)
        many = f"{options.series:,} series"
        found = [alone, measured(client, f"{many}, no checkpoints", options.profile, n_ticks, None)]
        found.append(measured(client, f"{many}, a checkpoint in a while", options.profile, n_ticks, Path(folder)))
    print(f"\n## Memory, profile {options.profile}\n\n{about}\n")
    header = ["resident MB", "loop", "trainer's own", "peak of the loop", "bytes per series beyond one"]
    print(table(header, [one.row(alone, options.series) for one in found]), flush=True)


if __name__ == "__main__":
    main()
