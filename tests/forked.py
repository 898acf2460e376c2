"""Whole daemons in milliseconds: each is forked from a process that has imported everything already.

They are processes of their own, with their own signals, port and output, like those of `servers.DaemonProcess`; only
their start, which takes seconds of torch's, is left out.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from servers import DaemonProcess, daemon_environment

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

PR_SET_PDEATHSIG = 1


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["foretick.app.assembly", "foretick.app.lifecycle", "foretick.cli"])
    return context


def _live(folder: Path, environment: dict[str, str], constants: dict[str, Any]) -> None:
    """In the child: the daemon."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()  # as a service has: what it leaves behind is found by it
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    from foretick.cli import main

    os._exit(main(["run"]))


class _Forked:
    """What `DaemonProcess` asks of a `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("foretick", timeout or 0)
        return self._process.exitcode


class ForkedDaemon(DaemonProcess):
    """`foretick run` on this server, started at once. Learning is off unless asked for: few tests here are about it.

    `constants` are values for module constants, by dotted name: a test need not wait as long as a user.
    """

    def __init__(self, url: str, constants: dict[str, Any] | None = None, **settings: Any) -> None:
        self._constants = constants or {}
        super().__init__(url, **{"learn__enabled": False, "model__hidden": 8, **settings})

    def start(self, *, ready: bool = True, deadline_seconds: float = 60.0) -> ForkedDaemon:
        process = _context().Process(
            target=_live, args=(self.folder, daemon_environment(**self.settings), self._constants), daemon=True
        )
        process.start()
        self._daemon = _Forked(process)
        if ready:
            self.wait_ready(deadline_seconds)
        return self
