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

import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Self

from foretick.core.device import CPU
from foretick.ports.trainer_child import READY, Answer
from foretick.ports.trainer_life import Life, LifeOver

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
        self._child: Life | None = None
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

    def seat(
        self, shape: Shape, recipe: LearnRecipe, on_wait: Callable[[], None] = lambda: None, device: str = CPU
    ) -> Seat:
        """A trainer for one engine.

        Args:
            shape: of its network.
            recipe: its constants of learning.
            on_wait: called again and again while a `collect` lasts, on its thread; what it raises ends the wait.
            device: torch's name of where its jobs are computed.
        """
        from foretick.ports.trainer_seat import Seat  # noqa: PLC0415  imports torch, which must not delay the start

        seat = Seat(self, shape, recipe, on_wait, device)
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

    def _take_in(self, child: Life, message: bytes) -> None:
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

    def _begin(self) -> Life | None:
        try:
            child = Life()
        except OSError as error:
            self._give_up(f"no process can be started: {error}")
            return None
        with self._lock:
            if not self.is_over:
                self._child = child
                return child
        child.end()
        return None

    def _listen(self, child: Life) -> str:
        """Take in what the process says until it is gone; otherwise says why it has to go."""
        silence_seconds = 0.0  # counted in waits, not by the clock: where both were frozen, nobody was silent
        while True:
            try:
                messages = child.receive(self.wait_seconds)
            except LifeOver:
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

    def _is_one_too_many(self, child: Life) -> bool:
        """Count a death."""
        is_steady = child.has_answered and time.monotonic() - child.started_at >= STEADY_SECONDS
        self._deaths = 1 if is_steady else self._deaths + 1
        return self._deaths >= DEATHS_MAX

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self.is_over = True
        self._on_give_up(reason)
