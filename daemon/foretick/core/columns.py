"""Arrays with one row per series that grow together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

Columns = Mapping[str, "NDArray[Any]"]  # arrays of n series by name, the series last: (n,) or (k, n)

FREE = -1  # length of the id in a row that is free


class Column:
    """An array of shape (S, …); zero where nothing was stored.

    Untouched pages cost no memory: a wide row that was never written occupies none.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.rows: NDArray[Any] = np.zeros((0, *shape), dtype)

    def resize(self, rows: int) -> None:
        """Make room for `rows` rows; those that exist keep their content."""
        grown = np.zeros((rows, *self.rows.shape[1:]), self.rows.dtype)
        grown[: len(self.rows)] = self.rows
        self.rows = grown


class Table:
    """Columns by name, resized and copied as one."""

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def column(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Column:
        """A new column."""
        self._columns[name] = Column(shape, dtype)
        return self._columns[name]

    def resize(self, rows: int) -> None:
        """Resize every column."""
        for column in self._columns.values():
            column.resize(rows)

    def clear(self, rows: Sequence[int]) -> None:
        """Zero some rows of every column."""
        if rows:
            for column in self._columns.values():
                column.rows[rows] = 0

    def views(self, rows: int) -> dict[str, NDArray[Any]]:
        """The first `rows` rows of every column, not copied."""
        return {name: column.rows[:rows] for name, column in self._columns.items()}

    def fill(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Put back what `views` showed, by name; every column must have that many rows."""
        for name, array in arrays.items():
            self._columns[name].rows[:] = array


def as_slice(rows: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Ascending distinct rows as a slice where they have no gap, so that indexing gives a view and copies nothing."""
    n = len(rows)
    if n and int(rows[-1]) - int(rows[0]) == n - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def runs(rows: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Ascending distinct rows as stretches without a gap: the place of each among them, and its rows."""
    if isinstance(whole := as_slice(rows), slice):
        yield slice(None), whole
        return
    ends = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    for begin, end in pairwise(ends):
        yield slice(begin, end), slice(int(rows[begin]), int(rows[end - 1]) + 1)
