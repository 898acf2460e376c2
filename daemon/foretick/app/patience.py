"""Waiting, the only way the app does it: interruptible, bounded, with jitter, and one log line per change of state."""

from __future__ import annotations

import os
import random
import select
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from foretick.ports.endpoints import Health

FIRST_WAIT_SECONDS = 0.05  # a restarted Redis is often back within the first tries
LONGEST_WAIT_SECONDS = 1.0  # recovery is noticed within a second
TRY_SECONDS = 15.0  # a try after a wait: connecting to a server that hangs takes five, an exchange with it three

log = structlog.get_logger()


class StopRequested(Exception):  # no error: the end of a wait that a stop signal cut short
    """Leaves every wait once a stop was requested."""


class StopSignal:
    """Set once by a signal; waited on by everybody.

    `threading.Event` will not do: its `set` takes a lock that the interrupted main thread may hold. A flag and a byte
    in a pipe are safe in a signal's handler.

    Args:
        above: a request there is a request here too: a part is stopped with the whole, or alone.
    """

    def __init__(self, above: StopSignal | None = None) -> None:
        self._is_set = False
        self._above = above
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self._is_set or (self._above is not None and self._above.is_set())

    def set(self) -> None:
        """Request the stop."""
        if not self._is_set:
            self._is_set = True
            os.write(self._writing, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait for the request, or for so long; says whether it came."""
        if not self.is_set():
            waiting = select.poll()  # select() knows no descriptor beyond 1023
            for descriptor in self._descriptors():
                waiting.register(descriptor, select.POLLIN)
            waiting.poll(seconds * 1000)
        return self.is_set()

    def _descriptors(self) -> list[int]:
        return [self._reading, *(self._above._descriptors() if self._above else ())]  # noqa: SLF001  its own kind

    def pause(self, seconds: float) -> None:
        """Wait for so long.

        Raises:
            StopRequested: the stop came first.
        """
        if self.wait(seconds):
            raise StopRequested

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._reading)
        os.close(self._writing)


class Patience:
    """Outlasts one kind of trouble at a time: backoff with full jitter, a log line when the trouble changes or ends.

    Args:
        stop: ends every wait.
        health: told what is wrong, and when it is over.
        longest_seconds: no wait is longer; at most a third of the lease's life, so that it can be renewed in time.
    """

    def __init__(self, stop: StopSignal, health: Health, longest_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        self.stop = stop
        self._health = health
        self._longest_seconds = longest_seconds
        self._tries = 0
        self._trouble: tuple[str, str] | None = None  # condition of readiness, what is wrong with it

    def another(self) -> Patience:
        """One that counts its own tries, with the same stop and health."""
        return Patience(self.stop, self._health, self._longest_seconds)

    def bear(self, condition: str, event: str, detail: str) -> None:
        """Note the trouble and wait a little.

        Args:
            condition: of readiness: `redis`, `input`, …
            event: name of the log line.
            detail: what is wrong; a line is logged when its first word changes.

        Raises:
            StopRequested: there is nothing left to wait for.
        """
        kind = (condition, f"{event} {detail.partition(' ')[0]}")
        if kind != self._trouble:
            self._clear()
            self._trouble = kind
            log.warning(event, detail=detail)
        self._health.set(condition, False, detail)
        longest = min(self._longest_seconds, FIRST_WAIT_SECONDS * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        self._health.beat(longest + TRY_SECONDS)
        self.stop.pause(random.uniform(0, longest))  # noqa: S311  jitter is no secret

    def over(self) -> None:
        """The trouble, if there was one, has ended."""
        if self._trouble is not None:
            log.info("recovered", condition=self._trouble[0], tries=self._tries)
            self._clear()

    def _clear(self) -> None:
        if self._trouble is not None:
            self._health.set(self._trouble[0], True, "")
        self._trouble = None
        self._tries = 0
