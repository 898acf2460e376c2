"""One life of the trainer's process, as the daemon sees it: start, orders, messages, end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

from foretick.ports.embedded import bound_to_parent
from foretick.ports.trainer_child import MESSAGE_BYTES_MAX


class LifeOver(Exception):  # no error: the daemon goes on without it
    """The trainer's process has hung up."""


class Life:
    """One process, from its start to its end.

    Attributes:
        started_at: on the monotonic clock, seconds.
        is_ready: whether it takes orders.
        has_answered: whether it has carried out one.
    """

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.is_ready = False
        self.has_answered = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # No secrets: the trainer needs none. No session of its own: the kernel would weigh it as a group beside the
        # daemon's, and niceness would count for nothing; a process group is enough to keep Ctrl-C away.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FORETICK_")}
        command = [sys.executable, "-P", "-m", "foretick.ports.trainer_child", str(os.getpid())]
        try:
            with theirs:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  our own module
                    bound_to_parent(command),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=environment | {"OMP_NUM_THREADS": "1"},
                    process_group=0,
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        self._socket = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: bytes, descriptor: int) -> bool:
        """Hand over an order; false when there is no room for it, or nobody to take it."""
        try:
            socket.send_fds(self._socket, [message], [descriptor])
        except OSError:
            return False
        return True

    def receive(self, seconds: float) -> list[bytes]:
        """All messages that are there, after waiting for the first."""
        messages: list[bytes] = []
        if self._poll.poll(seconds * 1000):
            with contextlib.suppress(BlockingIOError):
                while message := self._receive_one():
                    messages.append(message)
        return messages

    def _receive_one(self) -> bytes:
        try:
            message = self._socket.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            raise
        except OSError as error:
            raise LifeOver from error
        if not message:
            raise LifeOver
        return message

    def kill(self) -> None:
        """Kill it, whatever it does: it holds nothing worth keeping."""
        self._process.kill()

    def end(self) -> str:
        """Make sure that nothing of it is left; says how it ended."""
        if any(events & select.POLLHUP for _, events in self._poll.poll(0)):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hung up: in an instant it is gone by itself
                self._process.wait(0.5)
        self._process.kill()
        status = self._process.wait()
        self._socket.close()
        return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
