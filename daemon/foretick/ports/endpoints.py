"""The daemon's one HTTP port: `/metrics`, `/livez`, `/readyz`, and the page for people.

It answers probes from memory and asks nobody, so a probe tells of this process and never of Redis.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from foretick import __version__
from foretick.errors import UsageError
from foretick.ports.web import POLL_SECONDS, Answer, BoundedServer, Request

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_ALLOWANCE_SECONDS = 60.0  # until the loop first beats: importing torch on a slow machine takes tens of seconds
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # the one text format that every Prometheus reads
PAGE_TYPE = "text/html; charset=utf-8"

PAGE: Final = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>foretick</title>
<style>body {{ font: 1rem/1.6 system-ui, sans-serif; margin: 3rem; color-scheme: light dark }}</style>
<h1>foretick {__version__}</h1>
<ul>
<li><a href="metrics">/metrics</a>: for Prometheus
<li><a href="readyz?verbose">/readyz?verbose</a>: is it serving, and if not, why
<li><a href="livez">/livez</a>: does the loop turn
</ul>
</html>
"""


class Health:
    """Whether the loop turns, and what keeps the daemon from serving. Told by the loop, read by any thread.

    Loops beside each other have a part each (`part`): the whole lives and is ready when all of them are, and a part's
    conditions are listed under its name, as in `default/lease`.

    Attributes:
        is_standby: whether all partitions are owned by others, so that there is nothing to serve and nothing wrong.
        on_beat: called by the loop that beats, each time that it does.
    """

    def __init__(self) -> None:
        self.is_standby = False
        self.on_beat: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._checks: dict[str, tuple[bool, str]] = {}
        self._parts: dict[str, Health] = {}
        self.beat(FIRST_ALLOWANCE_SECONDS)

    def part(self, name: str) -> Health:
        """A new part of the whole, in the place of an earlier one of that name."""
        made = Health()
        with self._lock:
            self._parts[name] = made
        return made

    def forget(self, name: str) -> None:
        """The part is no more."""
        with self._lock:
            self._parts.pop(name, None)

    def beat(self, allowance_seconds: float) -> None:
        """Tell that the loop turns, and for how long its next wait or work may last."""
        now = time.monotonic()
        self._beat = now, now + allowance_seconds  # one assignment: a reader sees both or neither
        self.on_beat()

    def live(self) -> bool:
        """Whether every loop has kept its last promise."""
        return not self.silence()

    def set(self, name: str, ok: bool, detail: str = "") -> None:  # noqa: FBT001  set("redis", True) reads well
        """Tell a condition of readiness; `detail` says why it does not hold, or what there is to know of it."""
        with self._lock:
            self._checks[name] = ok, detail

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Every condition of readiness with its detail; `loop`, that all loops turn, comes first."""
        told = self._told()
        return {"loop": (self.live(), self.silence()), **(told or {"start": (False, "not begun")})}

    def ready(self) -> bool:
        """Whether every condition holds."""
        return all(ok for ok, _ in self.checks().values())

    def silence(self) -> str:
        """How long a loop has said nothing, in words; empty while all keep their promises."""
        last, deadline = self._beat
        now = time.monotonic()
        if now > deadline:
            return f"silent for {now - last:.1f} s, {deadline - last:.1f} s were allowed"
        with self._lock:
            parts = dict(self._parts)
        return "; ".join(f"{name} {silence}" for name, part in parts.items() if (silence := part.silence()))

    def _told(self) -> dict[str, tuple[bool, str]]:
        with self._lock:
            told, parts = dict(self._checks), dict(self._parts)
        for name, part in parts.items():
            told |= {f"{name}/{check}": state for check, state in part._told().items()}  # noqa: SLF001  its own kind
        return told


class Page(Protocol):
    """What people see, on threads of ours."""

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request; none where there is no such path."""

    def close(self) -> None:
        """End every stream that goes on."""


class HttpServer:
    """Answers HTTP beside the loop, from `start` to `stop`.

    Args:
        host: address or name to listen on.
        port: port to listen on; 0 takes any free one.
        metrics: makes the answer to `/metrics`, on a thread of ours.
        health: what the probes tell.

    Attributes:
        page: all paths that are neither metrics nor probes; to be set before `start`.
    """

    def __init__(self, host: str, port: int, metrics: Callable[[], bytes], health: Health) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self.page: Page | None = None
        self._server: BoundedServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on; before `start`, the one asked for."""
        return self._port

    def start(self) -> None:
        """Listen and answer.

        Raises:
            UsageError: the address cannot be had.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._server = BoundedServer(family, address, self._answer)
        except OSError as error:
            raise UsageError(_advice(error, self._host, self._port)) from error
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection; no thread is left. Harmless when not started."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        if self.page is not None:
            self.page.close()
        self._server.server_close()
        self._server = self._thread = None

    def _answer(self, request: Request) -> Answer:
        match request.path:
            case "/metrics":
                return Answer(self._metrics(), METRICS_TYPE)
            case "/livez":
                return Answer(b"ok\n") if self._health.live() else _unavailable(f"loop {self._health.silence()}\n")
            case "/readyz":
                asked = request.query.split("&")
                return self._readiness(verbose="verbose" in asked, standby="standby" in asked)
            case "/" if self.page is None:
                return Answer(PAGE.encode(), PAGE_TYPE)
        return (self.page and self.page.answer(request)) or Answer(b"404 Not Found\n", status=HTTPStatus.NOT_FOUND)

    def _readiness(self, *, verbose: bool, standby: bool) -> Answer:
        """As Kubernetes' own `/readyz`: `ok`, or every check with its outcome when asked for or when one fails.

        A standby is not ready, except to whoever asks for `standby`: a rollout would wait for it for ever.
        """
        checks = self._health.checks()
        excused = "partitions" if standby and self._health.is_standby else None
        ready = all(ok for name, (ok, _) in checks.items() if name != excused)
        if ready and not verbose:
            return Answer(b"ok\n")
        lines = [_check_line(name, _one_line(detail), ok=ok) for name, (ok, detail) in checks.items()]
        text = "\n".join([*lines, "readyz check passed" if ready else "readyz check failed", ""])
        return Answer(text.encode()) if ready else _unavailable(text)


def _unavailable(text: str) -> Answer:
    return Answer(text.encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)


def _check_line(name: str, detail: str, *, ok: bool) -> str:
    if not ok:
        return f"[-]{name}: {detail}"
    return f"[+]{name} ok: {detail}" if detail else f"[+]{name} ok"


def _one_line(detail: str) -> str:
    return " ".join(detail.split())


def _advice(error: OSError, host: str, port: int) -> str:
    setting = "`http.host` (FORETICK_HTTP__HOST)"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{host}:{port} is taken by another program: set `http.port` (FORETICK_HTTP__PORT) to a free port, "
            "or to 0 for any free one"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"listening on {host}:{port} is not permitted: set `http.port` (FORETICK_HTTP__PORT) to 1024 or above"
    return f"cannot listen on {host}:{port} ({error.strerror or error}): set {setting} to an address of this machine"
