"""`foretick …` as people run it: in a process of its own, off a terminal or on one of 80 columns and 24 lines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

from servers import daemon_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The first process on the terminal has to claim it, so that Ctrl-C becomes a signal.
_LEADER = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def foretick(*arguments: str, folder: Path, given: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """Runs a verb to its end, with this standard input."""
    return subprocess.run(
        [sys.executable, "-m", "foretick", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=daemon_environment(**settings) | {"HOME": str(folder), "COLUMNS": "80"},
        input=given,
    )


@contextlib.contextmanager
def started(*arguments: str, folder: Path, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A verb whose standard input, output and error are pipes; gone at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "foretick", *arguments],
        cwd=folder,
        env=daemon_environment(**settings) | {"HOME": str(folder), "COLUMNS": "80"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Terminal:
    """A verb on a terminal of its own."""

    def __init__(self, *arguments: str, folder: Path, **settings: Any) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = daemon_environment(**settings) | {"HOME": str(folder), "TERM": "xterm-256color"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LEADER, sys.executable, "-m", "foretick", *arguments],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._text = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux says EIO when the last process on the terminal has gone
            while part := os.read(self._ours, 65536):
                self._text += part

    @property
    def text(self) -> str:
        """All that was ever written, with the terminal's control sequences."""
        return self._text.decode(errors="replace")

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        os.close(self._ours)
