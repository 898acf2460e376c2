"""Commands as the bytes in which they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hiredis


@dataclass(frozen=True, slots=True)
class Packed:
    """Commands in the form in which Redis reads them.

    Attributes:
        request: their bytes.
        count: how many they are.
        replies: the bytes that EXEC answers for them when all goes well; empty where that is not known beforehand.
    """

    request: bytes | memoryview
    count: int
    replies: bytes = b""

    @property
    def commands(self) -> list[tuple[bytes, ...]]:
        """One by one again: Redis reads and writes in the same form."""
        reader: Any = hiredis.Reader()  # its stub knows no lists
        reader.feed(self.request)
        return [tuple(reader.gets()) for _ in range(self.count)]


@dataclass(frozen=True, slots=True)
class Publication:
    """What one stream is told.

    Attributes:
        forecasts: the XADDs.
        latest: one HSET with the last forecast of each series; none where nobody asked.
        cold: forecasts that are naive, for want of ticks.
        warm: the others.
    """

    forecasts: Packed
    latest: Packed | None
    cold: int
    warm: int
