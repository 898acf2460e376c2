"""What people who look at the live page cost the loop: one tick at a time, with no viewer and with twenty, in turns.

    python bench/viewers.py [--viewers 20] [--phases 6] [--seconds 5]

One daemon, learning off, 100 series at up to 200 ticks a second; every viewer watches a series of its own. In each
phase: from XADD to the forecast in a blocked XREAD, p50 and p99; the time of the loop's own thread on the core per
tick, and of all threads of the daemon per second. The phases take turns, so that a noisy machine troubles both alike;
medians are told.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import selectors
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import redis
from kinds import OFF
from rig import circumstances, consumer, fill, server, table, url_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = "{viewers}:ticks"
N_SERIES = 100
WARM_ROUNDS = 100
PERIOD_SECONDS = 0.005  # from tick to tick


def thread_seconds(pid: int) -> dict[str, float]:
    """Time on a core of each thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # one that has just ended
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


class Crowd:
    """Viewers that read all they are sent."""

    def __init__(self, port: int, viewers: int) -> None:
        self.received_bytes = 0
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        for i in range(viewers):
            series_id = base64.urlsafe_b64encode(f"{STREAM}\0sensor-{i}".encode()).decode().rstrip("=")
            viewer = socket.create_connection(("127.0.0.1", port))
            viewer.sendall(f"GET /events?series={series_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self._selector.register(viewer, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ending.is_set():
            for key, _ in self._selector.select(0.1):
                self.received_bytes += len(key.fileobj.recv(1 << 16))  # type: ignore[union-attr]

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


@contextlib.contextmanager
def crowd(port: int, viewers: int) -> Iterator[Crowd | None]:
    made = Crowd(port, viewers) if viewers else None
    try:
        yield made
    finally:
        if made:
            made.close()


class Load:
    """Ticks at a steady pace, each waited for."""

    def __init__(self, client: redis.Redis, ts: int) -> None:
        self._producer, self._reader = (redis.Redis.from_url(url_of(client), protocol=2) for _ in range(2))
        self._ts = ts
        self._n = 0

    def run(self, seconds: float) -> list[float]:
        """Latencies."""
        found = []
        end = time.perf_counter() + seconds
        due = time.perf_counter()
        while time.perf_counter() < end:
            self._n += 1
            self._ts += 60_000 if self._n % N_SERIES == 0 else 0
            fields = {"series": f"sensor-{self._n % N_SERIES}", "value": self._n % 17 / 3, "ts": self._ts + 60_000}
            last = self._reader.xinfo_stream(OFF.output_of(STREAM))["last-generated-id"]
            begun = time.perf_counter()
            self._producer.xadd(STREAM, fields)
            self._reader.xread({OFF.output_of(STREAM): last}, block=5000)
            found.append(time.perf_counter() - begun)
            due = max(due + PERIOD_SECONDS, time.perf_counter())
            time.sleep(max(due - time.perf_counter(), 0))
        return found


def measure(pid: int, port: int, load: Load, viewers: int, seconds: float, loop: str) -> list[float]:
    """p50, p99, the loop's core time per tick, all of the daemon's per second; and bytes a second and viewer."""
    with crowd(port, viewers) as watching:
        load.run(1.5)  # they come, and read the past
        before, received = thread_seconds(pid), watching.received_bytes if watching else 0
        begun = time.perf_counter()
        latencies = load.run(seconds)
        wall = time.perf_counter() - begun
        after = thread_seconds(pid)
        rate = ((watching.received_bytes if watching else 0) - received) / wall / max(viewers, 1)
    spent = {thread: after[thread] - before.get(thread, 0.0) for thread in after}
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    return [p50 * 1e3, p99 * 1e3, spent[loop] / len(latencies) * 1e6, sum(spent.values()) / wall * 1e3, rate / 1e3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--phases", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with server() as client:
        ts = fill(client, STREAM, WARM_ROUNDS * N_SERIES, N_SERIES)
        with consumer(client, OFF, STREAM) as daemon:
            output = OFF.output_of(STREAM)
            wait_until(lambda: daemon.check() or client.xlen(output) == WARM_ROUNDS * N_SERIES, 300, "the history")
            pid, load = daemon.process.pid, Load(client, ts)
            before = thread_seconds(pid)
            load.run(2.0)
            after = thread_seconds(pid)
            loop = max(after, key=lambda thread: after[thread] - before.get(thread, 0.0))
            rows: dict[int, list[list[float]]] = {0: [], options.viewers: []}
            for _ in range(options.phases):
                for viewers, found in rows.items():
                    found.append(measure(pid, daemon.http_port, load, viewers, options.seconds, loop))
        head = ["viewers", "p50 ms", "p99 ms", "loop µs/tick", "daemon ms/s", "kB/s a viewer"]
        print(circumstances(client))
        print(table(head, [[str(n), *(f"{v:.3g}" for v in np.median(rows[n], axis=0))] for n in rows]))


if __name__ == "__main__":
    main()
