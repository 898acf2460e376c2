"""The garbage collector, kept out of the turns: left to itself it takes 35–45% of the cost of reading."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECT_IDLE_SECONDS = 5.0  # an idle turn has time for it, but not each of them
COLLECT_BUSY_TURNS = 5000  # under constant load: seconds between two collections of a few milliseconds


class GarbageRounds:
    """Collects by hand, for all loops of the process together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collected_at = time.monotonic()
        self._turns = 0

    def between_turns(self, *, idle: bool) -> None:
        """Collect if it is time; called by every loop after every turn."""
        self._turns += 1  # two loops may count one turn for two: nothing hangs on the number
        waited = time.monotonic() - self._collected_at
        if not ((idle and waited >= COLLECT_IDLE_SECONDS) or self._turns >= COLLECT_BUSY_TURNS):
            return
        if self._lock.acquire(blocking=False):
            try:
                gc.collect()
                self._collected_at, self._turns = time.monotonic(), 0
            finally:
                self._lock.release()


@contextlib.contextmanager
def collector_by_hand() -> Iterator[None]:
    """Leave the collecting to `GarbageRounds`, and what exists already out of it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
