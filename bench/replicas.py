"""One daemon and two on the same backlog: ticks/s by the wall and by the time spent on the core, Redis apart.

python bench/replicas.py [--partitions 16] [--ticks 160000] [--series 64] [--profile lean]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from foretick.ports.spreading import SpreadProducer, partition_streams
from foretick.ports.wire import FieldNames, forecasts_key
from servers import DaemonProcess, Server, wait_until

HZ = os.sysconf("SC_CLK_TCK")
FIELDS = FieldNames()


def core_seconds(pid: int) -> float:
    """Processor time of a process and its children."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, stat[11:15])) / HZ


def push(server: Server, options: argparse.Namespace) -> None:
    """The whole backlog: every series once a round."""
    names = [f"s{i}".encode() for i in range(options.series * options.partitions)]
    with SpreadProducer(server.url, "ticks", options.partitions, fields=FIELDS) as producer:
        for number in range(options.ticks // len(names)):
            producer.push_all([(name, (i * 7 + number * 3) % 11 + i / 7, None) for i, name in enumerate(names)])


def measure(daemons: int, options: argparse.Namespace) -> str:
    server = Server("redis")
    made: list[DaemonProcess] = []
    streams = partition_streams("ticks", options.partitions)
    outputs = [forecasts_key(b"foretick", stream.encode()) for stream in streams]
    try:
        server.start()
        client = server.client()
        settings: dict[str, object] = {
            "profile": options.profile,
            "learn__enabled": options.learn,
            "checkpoint__every": "0",
        }
        settings["lease__ttl"] = "600s"  # the daemons stand still while the backlog is made
        for _ in range(daemons):
            made.append(DaemonProcess(server.url, **settings))
            made[-1].start(ready=False)
        for stream in streams:  # the shares are even before there is anything to do
            client.xgroup_create(stream, "foretick", id="0-0", mkstream=True)
        wait_until(lambda: len({client.get(f"foretick:{{{i}}}:lease") for i in range(options.partitions)}) > 1, 120)
        wait_until(lambda: _are_even(client, options.partitions, daemons), 120, "even shares")
        for one in made:
            one.signal(signal.SIGSTOP)
        push(server, options)
        total = sum(client.xlen(stream) for stream in streams)
        answered = sum(client.xlen(output) for output in outputs)
        begun, core, core_redis = time.monotonic(), [core_seconds(one.pid) for one in made], core_seconds(server.pid)
        for one in made:
            one.signal(signal.SIGCONT)
        wait_until(lambda: sum(client.xlen(output) for output in outputs) == total, 1800, "all answers")
        wall = time.monotonic() - begun
        spent = [core_seconds(one.pid) - before for one, before in zip(made, core, strict=True)]
        redis_seconds = core_seconds(server.pid) - core_redis
        ticks = total - answered
        return (
            f"| {daemons} | {ticks:,} | {ticks / wall:,.0f} | {ticks / sum(spent):,.0f} | "
            f"{1e6 * sum(spent) / ticks:.0f} | {1e6 * redis_seconds / ticks:.1f} |"
        )
    finally:
        for one in made:
            one.discard()
        server.discard()


def _are_even(client: object, partitions: int, daemons: int) -> bool:
    tokens = [client.get(f"foretick:{{{i}}}:lease") for i in range(partitions)]  # type: ignore[attr-defined]
    owners = [token.rpartition(b" ")[0] for token in tokens if token]
    return len(owners) == partitions and len(set(owners)) == daemons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--series", type=int, default=64, help="of each partition")
    parser.add_argument("--ticks", type=int, default=160_000)
    parser.add_argument("--profile", default="lean")
    parser.add_argument("--learn", action="store_true")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    print("| daemons | ticks | ticks/s, wall | ticks/s of a daemon's core | core µs per tick | Redis µs per tick |")
    print("|--:|--:|--:|--:|--:|--:|")
    for daemons in (1, 2):
        with contextlib.suppress(KeyboardInterrupt):
            print(measure(daemons, options), flush=True)


if __name__ == "__main__":
    main()
