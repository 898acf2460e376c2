"""Looks after an embedded server while the daemon runs: one that died is started again, on its own port and file.

The producers know the port and the daemon keeps trying to reach it, so nobody needs to be told. Tries go on as long as
the daemon does, at ever longer intervals: a full disk is a reason to wait, not to give up what is in the file.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from foretick.errors import ForetickError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from foretick.ports.embedded import EmbeddedServer

LOOK_SECONDS = 0.25  # between two looks: asks the kernel, 2 µs
FIRST_WAIT_SECONDS = 0.1  # before the first new start
LONGEST_WAIT_SECONDS = 30.0  # between two tries: a server that cannot start costs next to nothing
STEADY_SECONDS = 60.0  # a server that lived so long is started at once when it dies


class EmbeddedKeeper:
    """Keeps a started server alive while the `with` block lasts.

    The kernel ends the server with the thread that started it. Ours lives as long as the block, and whoever leaves the
    block stops the server next.

    Args:
        server: started.
        died: told why, in the server's own last words; once until it is up again.
        revived: told when it is.
    """

    def __init__(self, server: EmbeddedServer, died: Callable[[str], None], revived: Callable[[], None]) -> None:
        self._server = server
        self._died = died
        self._revived = revived
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="embedded server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        wait_seconds, began = FIRST_WAIT_SECONDS, time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            if self._server.alive():
                continue
            if time.monotonic() - began > STEADY_SECONDS:
                wait_seconds = FIRST_WAIT_SECONDS
            self._died(self._server.last_words())
            wait_seconds = self._revive(wait_seconds)
            began = time.monotonic()

    def _revive(self, wait_seconds: float) -> float:
        """Try until the server is up or nobody wants it; the wait before the next first try."""
        while not self._stop.wait(wait_seconds):
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
            try:
                is_up = self._server.start_again(is_wanted=lambda: not self._stop.is_set())
            except (ForetickError, OSError):  # its own log says why, and the next try may fare better
                continue
            if is_up:
                self._revived()
                break
        return wait_seconds
