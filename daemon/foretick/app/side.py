"""One thread beside a loop, for what must not hold the loop up."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SideThread:
    """Does one thing after another. It never keeps the process from ending.

    Args:
        name: of the thread, for whoever looks at the process.
    """

    def __init__(self, name: str) -> None:
        self._acts: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self, act: Callable[[], T]) -> Future[T]:
        """Have something done; the future holds its result or its error."""
        if not self._thread.is_alive():
            self._thread.start()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(act())
            except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
                future.set_exception(error)

        self._acts.put(run)
        return future

    def end(self) -> None:
        """End the thread after what it has begun."""
        self._acts.put(None)

    def _run(self) -> None:
        while (act := self._acts.get()) is not None:
            act()
