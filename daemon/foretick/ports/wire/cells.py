"""Texts of many lengths joined row by row, a column of all rows at a time.

A cell is a text in a place of fixed width. Cells are written where they belong as they are, padding and all, from left
to right: each over the padding of the one before it. What is written is seen through a window, an array that has an
element at every byte, so that a column is one assignment: 7 ns for each cell of whatever width, where joining bytes
objects takes 60.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SIZES_LEAST = 256  # lengths that a table knows at least: numbers, ids and series are shorter


class Cells(NamedTuple):
    """A column of texts.

    Attributes:
        texts: (m,) void: each text in as many bytes; those beyond its size mean nothing.
        sizes: (m,) int64 bytes of each text.
    """

    texts: NDArray[np.void]
    sizes: NDArray[np.int64]

    def at(self, positions: NDArray[np.int64]) -> Cells:
        """The cells at these positions, copied."""
        return Cells(self.texts[positions], self.sizes[positions])


def cells(texts: Sequence[bytes]) -> Cells:
    """Texts as cells."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    width = max(int(sizes.max(initial=0)), 1)
    letters = np.frombuffer(b"".join([*texts, bytes(width)]), np.uint8)
    return Cells(window(letters, width)[sizes.cumsum() - sizes], sizes)


@lru_cache(maxsize=256)
def constant(text: bytes) -> Cells:
    """The same text in every row."""
    return Cells(np.frombuffer(text, f"V{len(text)}").reshape(()), np.array(len(text)))


def sized(before: bytes, column: Cells) -> Iterator[Cells]:
    """Two columns: what stands before each text and the length that it has, as RESP wants it, and the texts.

    Where a text is empty, nothing stands before it either.
    """
    yield heading(before, column.sizes)
    yield column


def heading(before: bytes, sizes: NDArray[np.int64]) -> Cells:
    """What stands before texts of these sizes, and the size."""
    most = int(sizes.max(initial=0))
    return _headings(before, max(SIZES_LEAST, 1 << most.bit_length())).at(sizes)


@lru_cache(maxsize=256)  # a few for each name of a field
def _headings(before: bytes, sizes: int) -> Cells:
    return cells([b"", *(b"%b$%d\r\n" % (before, size) for size in range(1, sizes))])


def rows(m: int, columns: Sequence[Cells]) -> Cells:
    """(m,) what the columns come to, row by row."""
    width = sum(column.texts.itemsize for column in columns)
    paper = np.empty(m * width, np.uint8)
    begin = np.arange(0, m * width, width)
    at = begin.copy()
    for texts, sizes in columns:
        window(paper, texts.itemsize)[at] = texts
        at += sizes
    return Cells(paper.view(f"V{width}"), at - begin)


def pages(column: Cells, counts: Sequence[int]) -> list[memoryview]:
    """The texts joined: of the first `counts[0]` cells, of as many after them as `counts[1]` says, and so on."""
    ends = column.sizes.cumsum()
    width = column.texts.itemsize
    paper = np.empty(int(ends[-1]) + width, np.uint8)
    window(paper, width)[ends - column.sizes] = column.texts
    stops = [0, *ends[np.array(list(accumulate(counts))) - 1].tolist()]
    return [paper[a:b].data for a, b in pairwise(stops)]


def window(paper: NDArray[np.uint8], width: int) -> NDArray[np.void]:
    """(bytes,) at every byte the `width` bytes from there on; they overlap, and assignments are made in order."""
    return np.ndarray(len(paper) - width + 1, f"V{width}", paper, 0, (1,))
