"""What all measurements stand on: a private Redis and one consumer on one core, the measuring process on another."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import redis

from foretick.ports.connection import RedisConnection
from foretick.ports.embedded import bound_to_parent, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kinds import Kind

HERE = Path(__file__).resolve().parent
SERVED_CORE = max(os.sched_getaffinity(0))  # of server and consumer together: one core's worth of both is the figure
OWN_CORES = os.sched_getaffinity(0) - {SERVED_CORE} or {SERVED_CORE}
SPACING_MS = 60_000  # between two ticks of a series: a day is 1,440 ticks, so the seasonal features are computed too
FILL_TICKS = 5_000  # per request while filling a stream
STAGE = re.compile(r'foretick_turn_seconds_sum\{stage="(\w+)"\} ([0-9.e+-]+)')


def cpu_seconds(pid: int) -> float:
    """Time that all threads of a process have spent on a core. Unlike wall time it hardly grows when others compete."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def free_trainers(pid: int) -> None:
    """Let a consumer's children have the other cores."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # ended
            for child in (task / "children").read_text().split():
                os.sched_setaffinity(int(child), OWN_CORES)


def wait_until(predicate: Callable[[], Any], deadline_seconds: float, what: str) -> None:
    give_up = time.monotonic() + deadline_seconds
    while not predicate():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} did not come true in {deadline_seconds:g} s")
        time.sleep(0.01)


def pinned(command: list[str]) -> list[str]:
    return ["taskset", "-c", str(SERVED_CORE), *bound_to_parent(command)]


@contextlib.contextmanager
def server() -> Iterator[redis.Redis]:
    """A Redis of our own without persistence, on the served core; the measuring process leaves that core."""
    os.sched_setaffinity(0, OWN_CORES)
    port = free_port()
    folder = tempfile.mkdtemp(prefix="foretick-bench-")
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning", "--dir", folder]
    binary = shutil.which("redis-server") or sys.exit("redis-server is missing: apt-get install redis-server")
    process = subprocess.Popen(pinned([binary, "--port", str(port), *options]), stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, protocol=2)
    try:
        wait_until(lambda: answers(client), 10, "redis-server")
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def pid_of(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def url_of(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"


@dataclass(slots=True)
class Consumer:
    """A running consumer."""

    process: subprocess.Popen[bytes]
    http_port: int
    log: Path

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the consumer ended with {self.process.returncode}:\n{self.log.read_text()}")

    def stages(self) -> dict[str, float]:
        """Seconds that foretick has spent in each stage of its turns."""
        return {stage: float(seconds) for stage, seconds in STAGE.findall(self.metrics())}

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as reply:
            return str(reply.read().decode())


@contextlib.contextmanager
def consumer(
    client: redis.Redis, kind: Kind, stream: str, command: list[str] | None = None, end: int = signal.SIGKILL
) -> Iterator[Consumer]:
    """A consumer of the stream in a process of its own on the served core, ended with the block by a signal."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="foretick-bench-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FORETICK_")}
    log = folder / "output"
    command = command or (kind.command(url_of(client), stream, port) if kind.command else None)
    assert command is not None, f"{kind.name} cannot be started"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(command),
            stdout=output,
            stderr=output,
            cwd=folder,  # no foretick.toml here
            env=environment,
        )
    try:
        yield Consumer(process, port, log)
    finally:
        process.send_signal(end)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def fill(client: redis.Redis, stream: str, n_ticks: int, n_series: int) -> int:
    """Push random walks, all series in turn, each round in a millisecond of its own; the last event time, ms.

    Entry ids and event times lie in the past, so that learning cuts fall where they would in life: `XADD *` at full
    speed would put hundreds of rounds into one millisecond, and cuts fall between milliseconds only.
    """
    rounds = -(-n_ticks // n_series)
    first_ms = int(time.time() * 1000) - (rounds + 1) * SPACING_MS
    steps = np.random.default_rng(0).standard_normal((rounds, n_series))
    values = np.round(100 + np.cumsum(steps, axis=0), 3).ravel()[:n_ticks].tolist()
    connection = RedisConnection(url_of(client), timeout_seconds=30)
    connection.open()
    for start in range(0, n_ticks, FILL_TICKS):
        commands = []
        for i in range(start, min(start + FILL_TICKS, n_ticks)):
            ms = first_ms + i // n_series * SPACING_MS
            name = f"sensor-{i % n_series}"
            fields = ("series", name, "value", repr(values[i]), "ts", str(ms))
            commands.append(("XADD", stream, f"{ms}-{i % n_series}", *fields))
        connection.call_all(commands)
    connection.close()
    return first_ms + (rounds - 1) * SPACING_MS


def forget_readers(client: redis.Redis, stream: str) -> None:
    """Remove all that consumers left; the input stays."""
    keys = [*client.scan_iter("foretick:*", count=1000), *client.scan_iter("echo:*", count=1000)]
    if keys:
        client.delete(*keys)
    for group in client.xinfo_groups(stream):
        client.xgroup_destroy(stream, group["name"])


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown; numbers to the right, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(ruler), *map(line, rows)])


def circumstances(client: redis.Redis) -> str:
    """What the figures depend on, in one paragraph; no names of machines."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    facts = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"commit {_commit()}",
        f"{os.cpu_count()} cores, {model}",
        f"Redis {client.info('server')['redis_version']}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("torch", "numpy", "redis", "hiredis")),
        f"load before the run {os.getloadavg()[0]:.1f}",
    ]
    who = "server, consumer and the measuring process" if SERVED_CORE in OWN_CORES else "server and consumer"
    return "; ".join([*facts, f"{who} share one core"]) + "."


def keep(path: Path, bench: str, found: Mapping[str, Any]) -> None:
    """Put what a bench has found into a file of JSON, beside what others left there."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 3))
    path.write_text(json.dumps({**known, bench: rounded}, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../daemon")
        return git("rev-parse", "--short", "HEAD").strip() + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
