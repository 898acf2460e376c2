"""Somebody who pushes ticks, some of them broken if asked to, beside a test."""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servers import Server

PAUSE_SECONDS = 0.2


class Producer:
    """Twelve noisy waves in each stream, five ticks a second each, until the end of the block.

    `broken` is the share of ticks whose value is no number; it may be changed at any time.
    """

    def __init__(self, server: Server, streams: Sequence[str], broken: float = 0.0) -> None:
        self.broken = broken
        self._client = server.client()
        self._streams = streams
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._produce)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _produce(self) -> None:
        chance, n = random.Random(7), 0
        while not self._over.wait(PAUSE_SECONDS):
            n += 1
            pipe = self._client.pipeline(transaction=False)
            for stream in self._streams:
                for s in range(12):
                    value = 10 * math.sin(n / 5 + s) + chance.gauss(0, 1)
                    shown = "broken" if chance.random() < self.broken else value
                    pipe.xadd(stream, {"series": f"{'boiler' if s % 2 else 'pump'}-{s}", "value": shown})
            pipe.execute()
