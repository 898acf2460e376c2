"""When series are forgotten: at fixed points of the stream, so that every batching and every restart forgets alike.

The entry ids' time is divided into eras of ttl/16. Where the group's first tick of an era comes, series that have not
ticked in the ttl before the era's beginning are forgotten: an era after the ttl at the latest, measured by the stream's
own clock. What was forgotten at an era's beginning stays so however often that beginning is met again, so nothing about
eras has to be stored.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ERAS = 16  # a ttl: a series outlives its ttl by 6% at most, and looking for those that do costs little


class Life:
    """The eras of one group.

    Args:
        ttl_ms: how long a series is remembered without a tick; for ever if absent.
    """

    def __init__(self, ttl_ms: int | None) -> None:
        self._ttl_ms = ttl_ms or 0
        self._era_ms = max(self._ttl_ms // ERAS, 1)
        self._era = -1

    def eras(self, ms: NDArray[np.int64]) -> Iterator[tuple[int, int, int | None]]:
        """Split a batch into parts that lie in one era each.

        Args:
            ms: (n,) milliseconds parts of the entry ids, in entry order.

        Yields:
            Start and stop of a part; where an era begins with it, the time in milliseconds since the epoch before which
            a series must have ticked last to be forgotten now.
        """
        if not self._ttl_ms:
            yield 0, len(ms), None
            return
        era = ms // self._era_ms
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(era)) + 1).tolist(), len(ms)]):
            if start == stop:
                return
            now, before = int(era[start]), self._era
            self._era = now
            yield start, stop, (now * self._era_ms - self._ttl_ms if now != before else None)
