"""Which series has which row."""

from __future__ import annotations

import heapq
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

STRETCH_ROWS = 1024  # looked through, or joined in 20 µs, where a series among them came or went


class Names:
    """Series ids by row and rows by series id; the row of a series that is gone serves the next one that comes.

    Attributes:
        by_row: series id of each row, none where it is free; another thread may look at it at any time.
        row_of: row of each series id.
        changes: how many series came or went so far, of each stretch of `STRETCH_ROWS` rows.
    """

    def __init__(self) -> None:
        self.by_row: list[bytes | None] = []
        self.row_of: dict[bytes, int] = {}
        self.changes: list[int] = []
        self._free: list[int] = []  # a heap, so that the first is taken first
        self._joined = b""  # all ids, by row
        self._pieces: list[bytes | memoryview] = []  # the parts of that, by stretch
        self._changes_joined: list[int] = []

    def __len__(self) -> int:
        """Rows, free ones included."""
        return len(self.by_row)

    def vacant(self, n: int) -> list[int]:
        """Rows for n new series, which `add` has to be given: the first free ones, then some behind all others."""
        free = [heapq.heappop(self._free) for _ in range(min(n, len(self._free)))]
        end = len(self.by_row)
        return [*free, *range(end, end + n - len(free))]

    def add(self, rows: Sequence[int], names: Sequence[bytes]) -> None:
        """Give the vacant rows to new series."""
        for row, name in zip(rows, names, strict=True):
            if row < len(self.by_row):
                self.by_row[row] = name
            else:
                self.by_row.append(name)
            self.row_of[name] = row
            self._note(row)

    def remove(self, rows: Sequence[int]) -> list[bytes]:
        """Free these rows, and tell who had them."""
        names: list[bytes] = []
        for row in rows:
            name = self.by_row[row]
            assert name is not None
            names.append(name)
            del self.row_of[name]
            self.by_row[row] = None
            heapq.heappush(self._free, row)
            self._note(row)
        return names

    def _note(self, row: int) -> None:
        """Count a change, after it was made."""
        stretch = row // STRETCH_ROWS
        if stretch == len(self.changes):
            self.changes.append(0)
        self.changes[stretch] += 1

    def joined(self) -> NDArray[np.uint8]:
        """All series ids one after another, by row; a million are not joined anew while the loop waits."""
        if self._changes_joined != self.changes:
            self._pieces += [b""] * (len(self.changes) - len(self._pieces))
            for stretch in changed(self._changes_joined, self.changes):
                names = self.by_row[stretch * STRETCH_ROWS : (stretch + 1) * STRETCH_ROWS]
                self._pieces[stretch] = b"".join(filter(None, names))
            self._joined = b"".join(self._pieces)
            self._changes_joined = self.changes.copy()
            ends = accumulate(map(len, self._pieces), initial=0)
            self._pieces = [memoryview(self._joined)[begin:end] for begin, end in pairwise(ends)]
        return np.frombuffer(self._joined, np.uint8)

    def restore(self, by_row: Sequence[bytes | None], row_of: Mapping[bytes, int]) -> None:
        """Become the names that are these, both ways."""
        self.by_row, self.row_of = list(by_row), dict(row_of)
        self._free = [row for row, name in enumerate(by_row) if name is None]  # ascending: a heap
        self.changes = [1] * -(-len(by_row) // STRETCH_ROWS)
        self._changes_joined, self._pieces = [], []
        self.joined()


def changed(before: Sequence[int], now: Sequence[int]) -> list[int]:
    """The stretches whose `changes` were others before, or that were not there."""
    new = range(len(before), len(now))
    return [*(stretch for stretch, (one, other) in enumerate(zip(before, now, strict=False)) if one != other), *new]
