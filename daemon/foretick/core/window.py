"""The rolling window of each series: its last W values, and the values at any offset back.

Glossary
    W       length of the window, ticks
    t       number of the newest tick of a series, from 0
    offset  ticks back from the newest: 0 is the newest itself
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Window:
    """A ring of W numbers per row. The tick number t lives with the series' other state, not here.

    Untouched pages cost no memory: a row that has seen few ticks occupies few pages.
    """

    def __init__(self, length: int, dtype: type = np.float64) -> None:
        self.length = length
        self._rings: NDArray[Any] = np.zeros((0, length), dtype)

    @property
    def rings(self) -> NDArray[Any]:
        """(S, W) the rings themselves, for snapshots."""
        return self._rings

    def resize(self, rows: int) -> None:
        """Make room for `rows` rows; those that exist keep their content."""
        grown = np.zeros((rows, self.length), self._rings.dtype)
        grown[: len(self._rings)] = self._rings
        self._rings = grown

    def push(self, row: NDArray[np.int64], t: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Store each row's tick number t."""
        self._rings[row, t % self.length] = values

    def at(self, row: NDArray[np.int64], t: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[Any]:
        """Values `offset` ticks before tick t.

        Args:
            row: (n,) rows.
            t: (n,) newest tick numbers.
            offset: (n, k) or (1, k) offsets, 0 ≤ offset < W.

        Returns:
            (n, k), a copy. Where offset > t it is 0 or a value of a former life: the caller masks it.
        """
        flat = (t[:, None] - offset) % self.length
        flat += (row * self.length)[:, None]
        return self._rings.reshape(-1).take(flat)

    def latest(self, row: NDArray[np.int64]) -> NDArray[Any]:
        """(n, W) whole rings, in ring order."""
        return self._rings[row]
