"""The trainer: a second process that computes learning jobs beside the loop, with the same bits as the loop itself.

    start      before the daemon imports torch, so that both imports overlap; `ready` says that orders are computed now
    a job      is copied into shared memory (`trainer_seat`) and ordered by a message on a socket (`trainer_wire`)
    death      a new process takes its place and gets the same jobs
    silence    a process that says nothing for a minute while it has jobs is killed: a death like another
    five deaths in a row    no more processes: every job is computed by whoever collects it

A job that is collected while no process is at it (not ready yet, or just died) is computed by its collector at once,
instead of waiting until torch is imported. Where a job is computed changes none of its bits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Self

from foretick.ports.embedded import bound_to_parent
from foretick.ports.trainer_child import MESSAGE_BYTES_MAX, READY, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe
    from foretick.ports.trainer_seat import Seat

WAIT_SECONDS = 1.0  # of every single wait
SILENCE_SECONDS = 60.0  # a job takes 0.04–0.2 s on a core of its own; at nice 19 on a busy one, a hundred times that
READY_SECONDS = 120.0  # importing torch on a slow machine takes tens of seconds
STEADY_SECONDS = 60.0  # a process that answered and lived for so long is a good one: its death is the first again
DEATHS_MAX = 5  # in a row


class _ChildGone(Exception):  # no error: the daemon goes on without it
    """The trainer's process has hung up."""


class _Child:
    """One life of the trainer's process."""

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
            raise _ChildGone from error
        if not message:
            raise _ChildGone
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


class TrainerProcess:
    """Keeps one trainer process for all engines of a daemon. Safe from any thread; each seat belongs to one.

    A thread of ours attends to the process: the kernel ends the process with the thread that started it, and the
    loops' threads come and go.

    Args:
        on_restart: told why, each time a new process is to take the place of a dead one; on our thread.
        on_give_up: told why, when there will be no more of them; on our thread.
        wait_seconds: between two calls of a seat's `on_wait`.
        silence_seconds: after so long without a message a process that has jobs is replaced.
    """

    def __init__(
        self,
        on_restart: Callable[[str], None],
        on_give_up: Callable[[str], None],
        *,
        wait_seconds: float = WAIT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.wait_seconds = wait_seconds
        self.is_over = False  # closed or given up: nobody will take another order
        self._on_restart = on_restart
        self._on_give_up = on_give_up
        self._silence_seconds = silence_seconds
        self._attendant = threading.Thread(target=self._attend, name="trainer", daemon=True)
        self._deaths = 0  # in a row
        self._lock = threading.Lock()  # over all that follows
        self._child: _Child | None = None
        self._orders = 0
        self._seats: weakref.WeakSet[Seat] = weakref.WeakSet()
        self._held: weakref.WeakSet[Seat] = weakref.WeakSet()  # their job was given to no process
        self._sent: weakref.WeakValueDictionary[int, Seat] = weakref.WeakValueDictionary()  # theirs was, by order id

    @staticmethod
    def is_supported() -> bool:
        """Whether this system has what it takes: memory without a name, and packets with descriptors. Linux has."""
        return sys.platform == "linux" and hasattr(os, "memfd_create")

    @property
    def pid(self) -> int | None:
        """Process id; none while there is no process."""
        child = self._child
        return None if child is None else child.pid

    @property
    def is_ready(self) -> bool:
        """Whether orders are computed at this moment."""
        child = self._child
        return child is not None and child.is_ready

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        self._attendant.start()

    def close(self) -> None:
        """End the process, and give all memory back. Jobs not collected yet are computed by whoever collects them."""
        with self._lock:
            self.is_over = True
            if self._child is not None:
                self._child.kill()
        if self._attendant.ident is not None:
            self._attendant.join()
        with self._lock:
            for seat in self._seats:
                seat.leave()

    def seat(self, shape: Shape, recipe: LearnRecipe, on_wait: Callable[[], None] = lambda: None) -> Seat:
        """A trainer for one engine.

        Args:
            shape: of its network.
            recipe: its constants of learning.
            on_wait: called again and again while a `collect` lasts, on its thread; what it raises ends the wait.
        """
        from foretick.ports.trainer_seat import Seat  # noqa: PLC0415  imports torch, which must not delay the start

        seat = Seat(self, shape, recipe, on_wait)
        with self._lock:
            self._seats.add(seat)
        return seat

    # For seats.

    def take(self, seat: Seat) -> None:
        """Have this seat's job computed."""
        with self._lock:
            self._held.add(seat)
            self._send_held()

    def drop(self, seat: Seat) -> bool:
        """Think no more of this seat's job; true if a process may be at it."""
        with self._lock:
            self._held.discard(seat)
            return self._sent.pop(seat.order_id, None) is not None

    def wait_for(self, seat: Seat, on_wait: Callable[[], None]) -> None:
        """Wait as long as a process is at this seat's job; afterwards none is, nor will be."""
        while True:
            with self._lock:
                if seat.order_id not in self._sent:
                    self._held.discard(seat)
                    return
            if not seat.news.wait(self.wait_seconds):
                on_wait()

    # With the lock.

    def _send_held(self) -> None:
        if self._child is None or not self._child.is_ready:
            return
        for seat in list(self._held):
            self._orders += 1
            message = seat.pack_order(self._orders)
            self._sent[self._orders] = seat
            if not self._child.send(message, seat.descriptor):
                del self._sent[self._orders]
                return
            self._held.discard(seat)

    def _take_in(self, child: _Child, message: bytes) -> None:
        child.is_ready = True
        if message == READY:
            return
        child.has_answered = True
        answer = Answer.unpack(message)
        seat = self._sent.pop(answer.id, None)  # none: its engine was given up meanwhile
        if seat is not None:
            seat.note_answer(answer)

    def _take_back(self) -> None:
        """What was sent to a process that is gone was not sent."""
        for seat in list(self._sent.values()):
            self._held.add(seat)
            seat.news.set()
        self._sent.clear()

    # On the attendant's thread.

    def _attend(self) -> None:
        """Keep a process until there shall be none any more."""
        while (child := self._begin()) is not None:
            reason = self._listen(child)
            how = child.end()
            with self._lock:
                self._child = None
                self._take_back()
                if self.is_over:
                    return
            if self._is_one_too_many(child):
                self._give_up(f"{self._deaths} processes in a row were of no use; of the last: {reason or how}")
                return
            self._on_restart(reason or how)

    def _begin(self) -> _Child | None:
        try:
            child = _Child()
        except OSError as error:
            self._give_up(f"no process can be started: {error}")
            return None
        with self._lock:
            if not self.is_over:
                self._child = child
                return child
        child.end()
        return None

    def _listen(self, child: _Child) -> str:
        """Take in what the process says until it is gone; otherwise says why it has to go."""
        silence_seconds = 0.0  # counted in waits, not by the clock: where both were frozen, nobody was silent
        while True:
            try:
                messages = child.receive(self.wait_seconds)
            except _ChildGone:
                return ""
            with self._lock:
                for message in messages:
                    self._take_in(child, message)
                self._send_held()
                silence_seconds = 0.0 if messages or not self._sent else silence_seconds + self.wait_seconds
            if silence_seconds >= self._silence_seconds:
                return f"it did not answer for {silence_seconds:.3g} s"
            if not child.is_ready and time.monotonic() - child.started_at > READY_SECONDS:
                return f"it was not ready after {READY_SECONDS:g} s"

    def _is_one_too_many(self, child: _Child) -> bool:
        """Count a death."""
        is_steady = child.has_answered and time.monotonic() - child.started_at >= STEADY_SECONDS
        self._deaths = 1 if is_steady else self._deaths + 1
        return self._deaths >= DEATHS_MAX

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self.is_over = True
        self._on_give_up(reason)
