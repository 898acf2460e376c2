"""Which series has which row."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_STRETCH_ROWS = 1024  # whose ids are joined at once, in 20 µs, where one came or went


class Names:
    """Series ids by row and rows by series id; the row of a series that is gone serves the next one that comes.

    Attributes:
        by_row: series id of each row, none where it is free; another thread may look at it at any time.
        row_of: row of each series id.
    """

    def __init__(self) -> None:
        self.by_row: list[bytes | None] = []
        self.row_of: dict[bytes, int] = {}
        self._free: list[int] = []  # a heap, so that the first is taken first
        self._pieces: list[bytes] = []  # the ids of each stretch of rows, joined
        self._joined = np.zeros(0, np.uint8)
        self._changed: set[int] = set()  # stretches that are to be joined anew

    def __len__(self) -> int:
        """Rows, free ones included."""
        return len(self.by_row)

    @property
    def vacant(self) -> int:
        """The row that the next new series will have: the first free one, or one behind all others."""
        return self._free[0] if self._free else len(self.by_row)

    def add(self, name: bytes) -> None:
        """Give the vacant row to a new series."""
        row = self.vacant
        if self._free:
            heapq.heappop(self._free)
            self.by_row[row] = name
        else:
            self.by_row.append(name)
        self.row_of[name] = row
        self._changed.add(row // _STRETCH_ROWS)

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
            self._changed.add(row // _STRETCH_ROWS)
        return names

    def joined(self) -> NDArray[np.uint8]:
        """All series ids one after another, by row; a million are not joined anew while the loop waits."""
        if self._changed:
            self._pieces += [b""] * (max(self._changed) + 1 - len(self._pieces))
            for stretch in self._changed:
                names = self.by_row[stretch * _STRETCH_ROWS : (stretch + 1) * _STRETCH_ROWS]
                self._pieces[stretch] = b"".join(filter(None, names))
            self._joined = np.frombuffer(b"".join(self._pieces), np.uint8)
            self._changed = set()
        return self._joined

    def restore(self, by_row: Sequence[bytes | None], row_of: Mapping[bytes, int]) -> None:
        """Become the names that are these, both ways."""
        self.by_row, self.row_of = list(by_row), dict(row_of)
        self._free = [row for row, name in enumerate(by_row) if name is None]  # ascending: a heap
        self._pieces = []
        self._changed = set(range(-(-len(by_row) // _STRETCH_ROWS)))
        self.joined()
