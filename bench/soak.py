"""Whether anything grows: a daemon under steady load for as long as you like.

    make soak MINUTES=30        python bench/soak.py [--minutes 30] [--rate 200] [--series 20] [--out soak]

A producer pushes random walks at a steady rate, one tick in a hundred bad, and a reader waits for the forecasts. Every
few seconds memory, descriptors and threads of the daemon (its trainer included), Redis' memory and the latency since
the last sample go into OUT.csv. What Redis keeps is bounded by small maxlens that are full before the warm-up ends, and
so are the daemon's windows. Over the time after the warm-up (the first third) each quantity is averaged in blocks; a
line through the blocks gives a slope and its standard error. A quantity fails when its slope is more than three
standard errors from zero *and* its drift over the measured time more than its allowance. OUT.png shows all of it. Under
ten minutes nothing is full yet, and things grow.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rig
from kinds import foretick

from foretick.app.progress import progress

if TYPE_CHECKING:
    import redis

STREAM = "{soak}:ticks"  # a tag, as rig expects
KEPT = 20_000  # ticks and forecasts: full after 100 s at the usual rate
BAD_EVERY = 100
BATCH_SECONDS = 0.05  # the producer sends so often
SAMPLE_SECONDS = 5.0
BLOCKS = 12  # of the measured time: long enough to be nearly independent of each other
SIGNIFICANT = 3.0  # standard errors
ALLOWANCES = {  # drift over the measured time, as a share of the level, that is no growth worth the name
    "daemon_rss_mb": 0.02,
    "daemon_descriptors": 0.01,  # less than one
    "daemon_threads": 0.01,
    "redis_used_mb": 0.02,
    "redis_rss_mb": 0.05,  # the allocator's business as well
    "latency_p50_ms": 0.25,
    "latency_p99_ms": 0.50,  # of a machine that has other things to do
    "lag_ticks": 1.0,
}
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Load:
    """Pushes ticks and waits for their forecasts; times are of one clock, in one process."""

    url_port: int
    rate: float
    series: int
    is_over: threading.Event = field(default_factory=threading.Event)
    sent_at: dict[bytes, float] = field(default_factory=dict)
    seen_at: dict[bytes, float] = field(default_factory=dict)
    latencies_ms: deque[float] = field(default_factory=deque)
    ticks: int = 0
    error: BaseException | None = None

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._guarded, args=(act,), daemon=True) for act in (self._push, self._read)]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, act: Any) -> None:
        try:
            act(rig.redis.Redis(port=self.url_port, protocol=2))
        except BaseException as error:  # noqa: BLE001  told by the main thread
            self.error = error

    def _push(self, client: redis.Redis) -> None:
        rng = np.random.default_rng(0)
        values = np.full(self.series, 100.0)
        due = time.perf_counter()
        debt = 0.0
        while not self.is_over.wait(max(due - time.perf_counter(), 0.0)):
            due += BATCH_SECONDS
            debt += self.rate * BATCH_SECONDS
            n, debt = int(debt), debt % 1
            pipe = client.pipeline(transaction=False)
            good = []
            for i in range(self.ticks, self.ticks + n):
                at = i % self.series
                values[at] += rng.standard_normal()
                is_bad = i % BAD_EVERY == BAD_EVERY - 1
                value = "bad" if is_bad else repr(float(values[at]))
                good.append(not is_bad)
                pipe.xadd(STREAM, {"series": f"sensor-{at}", "value": value}, maxlen=KEPT)
            begun = time.perf_counter()
            for entry_id, is_good in zip(pipe.execute(), good, strict=True):
                if is_good:
                    self._meet(entry_id, begun, self.sent_at, self.seen_at)
            self.ticks += n

    def _read(self, client: redis.Redis) -> None:
        last = b"$"
        key = f"foretick:{STREAM}:forecasts"
        while not self.is_over.is_set():
            for _, entries in client.xread({key: last}, count=1000, block=1000) or ():
                now = time.perf_counter()
                for entry_id, _ in entries:
                    self._meet(entry_id, now, self.seen_at, self.sent_at)
                last = entries[-1][0]

    def _meet(self, entry_id: bytes, now: float, ours: dict[bytes, float], theirs: dict[bytes, float]) -> None:
        """Whoever comes second knows both times; each dict is written by one thread and popped by both."""
        ours[entry_id] = now
        other = theirs.pop(entry_id, None)
        if other is not None and ours.pop(entry_id, None) is not None:
            self.latencies_ms.append(abs(now - other) * 1000)


def family(pid: int) -> list[int]:
    """The process and its children, of which the trainer is one."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, or one that has just ended
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(entry.name))
    return found


def sample(client: redis.Redis, load: Load, consumer: rig.Consumer, begun: float) -> dict[str, float]:
    pids = family(consumer.process.pid)
    rss = threads = descriptors = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
    latencies = [load.latencies_ms.popleft() for _ in range(len(load.latencies_ms))] or [float("nan")]
    memory = client.info("memory")
    groups = client.xinfo_groups(STREAM)
    return {
        "seconds": round(time.monotonic() - begun, 2),
        "ticks": load.ticks,
        "daemon_rss_mb": rss * PAGE_MB,
        "daemon_descriptors": descriptors,
        "daemon_threads": threads,
        "redis_used_mb": memory["used_memory"] / 1e6,
        "redis_rss_mb": memory["used_memory_rss"] / 1e6,
        "latency_p50_ms": float(np.percentile(latencies, 50)),
        "latency_p99_ms": float(np.percentile(latencies, 99)),
        "lag_ticks": float(groups[0]["lag"] or 0) if groups else 0.0,
    }


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through block means: level, slope an hour and its standard error, and the drift over the time measured."""

    level: float
    an_hour: float
    error: float
    drift: float

    def is_growth(self, allowance: float) -> bool:
        significant = abs(self.an_hour) > SIGNIFICANT * self.error
        return significant and self.drift > allowance * max(abs(self.level), 1.0)


def slope_of(seconds: np.ndarray, values: np.ndarray) -> Slope:
    """Least squares over the means of blocks, since neighbouring samples know of each other."""
    known = np.isfinite(values)
    blocks = [b for b in np.array_split(np.flatnonzero(known), BLOCKS) if len(b)]
    hours = np.array([seconds[b].mean() for b in blocks]) / 3600
    means = np.array([values[b].mean() for b in blocks])
    centred = hours - hours.mean()
    an_hour = float(centred @ means / (centred @ centred))
    rest = means - means.mean() - an_hour * centred
    error = float(np.sqrt(rest @ rest / max(len(blocks) - 2, 1) / (centred @ centred)))
    return Slope(float(means.mean()), an_hour, error, an_hour * float(seconds[-1] - seconds[0]) / 3600)


def draw(rows: list[dict[str, float]], slopes: dict[str, Slope], warm_seconds: float, path: Path) -> None:
    """All quantities over time, the measured part with its line."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  a plot is all that is missing without it
    except ImportError:
        print(f"no {path}: pip install 'foretick[plot]'")
        return
    minutes = np.array([row["seconds"] for row in rows]) / 60
    figure = Figure(figsize=(11, 2.1 * len(slopes)), layout="constrained")
    for axes, (name, slope) in zip(figure.subplots(len(slopes), 1, sharex=True), slopes.items(), strict=True):
        axes.plot(minutes, [row[name] for row in rows], linewidth=0.8)
        measured = minutes[minutes * 60 >= warm_seconds]
        line = slope.level + slope.an_hour * (measured - measured.mean()) / 60
        axes.plot(measured, line, linewidth=2, label=f"{slope.an_hour:+.3g} ± {slope.error:.2g} an hour")
        axes.axvspan(0, warm_seconds / 60, alpha=0.08, color="grey")
        axes.set_ylabel(name.replace("_", " "))
        axes.set_ylim(0, 1.25 * np.nanmax([row[name] for row in rows if row["seconds"] >= warm_seconds]) or 1)
        axes.legend(loc="lower right")
    axes.set_xlabel("minutes; grey is the warm-up")
    figure.savefig(path, dpi=110)


def verdict(rows: list[dict[str, float]], warm_seconds: float) -> tuple[dict[str, Slope], list[str]]:
    measured = [row for row in rows if row["seconds"] >= warm_seconds]
    seconds = np.array([row["seconds"] for row in measured])
    slopes = {name: slope_of(seconds, np.array([row[name] for row in measured])) for name in ALLOWANCES}
    return slopes, [name for name, slope in slopes.items() if slope.is_growth(ALLOWANCES[name])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="ticks a second")
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("soak"), help="OUT.csv and OUT.png are written")
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    settings = {"forecasts.maxlen": KEPT, "dead.maxlen": 500, "checkpoint.every": "15s", "learn.enabled": "true"}
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    kind = foretick("soak", *chosen, profile="accurate")
    rows: list[dict[str, float]] = []
    with rig.server() as client, rig.consumer(client, kind, STREAM, end=signal.SIGTERM) as consumer:
        told = rig.circumstances(client)
        load = Load(client.connection_pool.connection_kwargs["port"], asked.rate, asked.series)
        threads = load.start()
        begun = time.monotonic()
        with progress(int(seconds), "soaking", "s", plain_seconds=60.0) as advance:
            while (now := time.monotonic() - begun) < seconds and load.error is None:
                time.sleep(min(SAMPLE_SECONDS, max(seconds - now, 0.1)))
                consumer.check()
                rows.append(sample(client, load, consumer, begun))
                advance(int(SAMPLE_SECONDS))
        load.is_over.set()
        for thread in threads:
            thread.join(5)
        unanswered = len(load.sent_at)
    if load.error is not None:
        raise load.error
    with asked.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    slopes, failed = verdict(rows, seconds / 3)
    draw(rows, slopes, seconds / 3, asked.out.with_suffix(".png"))
    print(f"{told}\n{asked.minutes:g} minutes, {load.ticks:,} ticks, {unanswered} on their way at the end\n")
    cells = [
        [
            n,
            f"{s.level:.4g}",
            f"{s.an_hour:+.3g}",
            f"{s.error:.2g}",
            f"{s.drift:+.3g}",
            "GROWS" if n in failed else "ok",
        ]
        for n, s in slopes.items()
    ]
    print(rig.table(["quantity", "level", "slope an hour", "± s.e.", "drift", "verdict"], cells))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
