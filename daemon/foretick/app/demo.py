"""`foretick demo`: a server, live ticks, the daemon and the view, on one machine, from one command.

Everything lives in one temporary folder and ends with this process:

    sensors, price ──XADD──▶ embedded Valkey ──XREAD──▶ `foretick run` (a process of its own, as in production)
                                    ▲                          │
    the view ◀──XREAD── forecasts ──┴──────────XADD────────────┘
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, Self

from foretick.app.patience import StopSignal
from foretick.errors import EXIT_BUG, EXIT_CLEAN, UsageError
from foretick.ports.embedded import EmbeddedServer, bound_to_parent, free_port
from foretick.ports.follower import ForecastFollower, SeenForecast
from foretick.ports.producer import TickProducer
from foretick.ports.sensors import HostSensors, SyntheticPrice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from foretick.app.show import Show

STREAM = "ticks"
TICK_SECONDS = 0.1  # ten ticks a second and series
METRICS_PORT = 9464  # the daemon's own default, so that the documented address works
DRAIN_SECONDS = 10.0  # the daemon promises 5 s from SIGTERM to its end
LOG_LINES = 20  # of the daemon's last words, when it fails
PRICE_SEED = 1


class Options(Protocol):
    """What the command line says about the demo."""

    @property
    def seconds(self) -> float | None:
        """End by itself after this time; none runs until Ctrl-C."""

    @property
    def plain(self) -> bool:
        """One line a second instead of the live table; implied when standard output is no terminal."""


def run(options: Options) -> int:
    """Show it until Ctrl-C, the end of `seconds`, or a failure; leaves no process, socket, lock or folder.

    Raises:
        UsageError: an extra is not installed.
    """
    show_class = _show_class()
    sensors = HostSensors()
    price = SyntheticPrice(PRICE_SEED)
    seen: SimpleQueue[list[SeenForecast]] = SimpleQueue()
    with (
        StopSignals() as stop,
        tempfile.TemporaryDirectory(prefix="foretick-demo-", ignore_cleanup_errors=True) as temporary,
        EmbeddedServer(Path(temporary) / "valkey") as server,
        Daemon(server.url, Path(temporary), stop) as daemon,
        TickProducer(server.url, STREAM) as producer,
        ForecastFollower(server.url, STREAM) as follower,
        Beside(lambda: producer.push({"price": price.read()} | sensors.read()), every_seconds=TICK_SECONDS) as pushing,
        Beside(lambda: seen.put(follower.read()), every_seconds=0.0) as following,
    ):
        show = show_class(daemon.metrics_url, server.url, options.seconds, plain=options.plain)
        with contextlib.closing(show.frames(stop.wait)) as frames:  # gives the terminal back before anything is said
            for _ in frames:
                show.board.observe(_drained(seen))
                show.board.count(time.monotonic(), producer.pushed_ticks)
                if daemon.ended_with is not None:
                    break
                pushing.raise_failure()
                following.raise_failure()
        return EXIT_CLEAN if daemon.ended_with is None else daemon.report_end()


def _show_class() -> type[Show]:
    """The view, before anything is started: it imports rich, which only the demo needs."""
    try:
        from foretick.app.show import Show  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise UsageError("the live view needs rich: pip install 'foretick[demo]'") from error
    return Show


def _drained(seen: SimpleQueue[list[SeenForecast]]) -> Iterator[SeenForecast]:
    with contextlib.suppress(Empty):
        while True:
            yield from seen.get_nowait()


class StopSignals:
    """Ctrl-C, SIGTERM and a closed terminal become a wish that can be waited for.

    Attributes:
        count: wishes so far; the second one means at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0
        self._wish = StopSignal()
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in self.SIGNALS:
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        self._wish.close()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the shape of a signal's callee
        self.count += 1
        self._wish.set()

    def wait(self, seconds: float) -> bool:
        """Whether the end is wished for, now or within this time."""
        return self._wish.wait(seconds)


class Beside(threading.Thread):
    """Does one thing again and again beside the main thread, until the block ends or it fails.

    Args:
        act: the thing.
        every_seconds: from one start to the next; a late one does not shift the others. 0: without a pause.
    """

    def __init__(self, act: Callable[[], None], *, every_seconds: float) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._every_seconds = every_seconds
        self._ending = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """The thread's own loop."""
        due = time.monotonic()
        try:
            while not self._ending.is_set():
                self._act()
                due = max(due + self._every_seconds, time.monotonic() - self._every_seconds)
                self._ending.wait(max(due - time.monotonic(), 0.0))
        except BaseException as failure:  # noqa: BLE001  the main thread raises it
            self._failure = failure

    def raise_failure(self) -> None:
        """Raise in the main thread what ended this one."""
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self.join()


class Daemon:
    """`python -m foretick run` on this server, with its log in the folder.

    Attributes:
        metrics_url: its metrics page.
    """

    def __init__(self, url: str, folder: Path, stop: StopSignals) -> None:
        self._stop = stop
        self._log = folder / "daemon.log"
        port = _metrics_port()
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FORETICK_")}
        self._environment = environment | {
            "FORETICK_REDIS__URL": url,
            "FORETICK_STREAMS": STREAM,
            "FORETICK_HTTP__PORT": str(port),
            "TMPDIR": str(folder),  # torch makes a cache there
        }
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self._log.parent / "foretick.toml").touch()  # found first: hides the machine's own in /etc
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(  # noqa: S603  our own interpreter and package
                bound_to_parent([sys.executable, "-m", "foretick", "run"]),
                cwd=self._log.parent,  # where no foretick.toml of the user's lies
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us alone: the daemon drains while the server still runs
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._daemon is not None
        self._daemon.terminate()
        give_up = time.monotonic() + DRAIN_SECONDS
        while self._daemon.poll() is None:
            if self._stop.count > 1 or time.monotonic() > give_up:
                self._daemon.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(0.05)  # so often a second Ctrl-C is heard

    @property
    def ended_with(self) -> int | None:
        """Its exit status; none while it runs."""
        return None if self._daemon is None else self._daemon.poll()

    def report_end(self) -> int:
        """Its last words to standard error, and an exit status for us: an early end is never a success."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        sys.stderr.write("\n  ".join(["the daemon ended:", *lines]) + "\n")
        return self.ended_with or EXIT_BUG


def _metrics_port() -> int:
    """The port asked for in the environment; else the well-known one where it is free, another one otherwise."""
    asked = os.environ.get("FORETICK_HTTP__PORT", "")
    if asked.isdecimal():
        return int(asked) or free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", METRICS_PORT))
        except OSError:
            return free_port()
    return METRICS_PORT
