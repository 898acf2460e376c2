"""The state of some series as columns: every field with the series last, so that one call works on all of them.

A record of the arena lies in one piece, which is what a cache wants to fetch; a formula wants the same number of many
series side by side. A block is both: the records, and the columns they are turned into and back.

A block holds a multiple of 16 series; what lies behind the n-th repeats it. So no row ever meets the ragged tail of a
vectorised function, and writing a row back twice writes the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROW_BLOCK = 16  # rows; matrices are multiplied by so many, for a product of another shape rounds otherwise
# Rows; more falls out of the second-level cache. Not 1,024: columns 4 KiB apart meet in one place of the cache, and
# turning records into columns takes four times as long.
ROWS_AT_ONCE = 1008
_WIDTHS = (8, 4, 2)  # bytes of a number; fields of a record are sorted by it
_PLACES = np.arange(ROWS_AT_ONCE)


def padded(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """These positions, the last repeated up to a multiple of 16."""
    n = len(positions)
    return positions if n % ROW_BLOCK == 0 else positions.take(_PLACES[: n + -n % ROW_BLOCK], mode="clip")


class Block(dict[str, "NDArray[Any]"]):
    """n records as columns by name: (n,) or (k, n), views of one memory each.

    Args:
        dtype: of a record; its fields are sorted by the width of their numbers.
        n: how many.
        spans: names for stretches of fields that lie side by side, first and last included.

    Attributes:
        records: (n, bytes) the records, as they are stored.
        youngest: the smallest t of the block.
        all_move: whether every series has a scale.
    """

    def __init__(self, dtype: np.dtype[np.void], n: int, spans: dict[str, tuple[str, str]]) -> None:
        super().__init__()
        self.records = np.zeros((n, dtype.itemsize), np.uint8)
        self.youngest = -1
        self.all_move = False
        self._turned: list[tuple[NDArray[Any], NDArray[Any]]] = []
        fields = [(name, dtype[name].base, dtype[name].shape) for name in dtype.names or ()]
        places: dict[str, tuple[NDArray[Any], int, int]] = {}
        start = 0
        for width in _WIDTHS:
            own = [field for field in fields if field[1].itemsize == width]
            count = sum(shape[0] if shape else 1 for _, _, shape in own)
            columns = np.zeros((count, n), f"u{width}")
            stored = self.records[:, start : start + count * width].view(f"u{width}")
            self._turned.append((columns, stored.T))
            start += count * width
            at = 0
            for name, kind, shape in own:
                k = shape[0] if shape else 1
                piece = columns[at : at + k].view(kind)
                self[name] = piece if shape else piece[0]
                places[name] = columns, at, at + k
                at += k
        for span, (first, last) in spans.items():
            columns, begin, _ = places[first]
            self[span] = columns[begin : places[last][2]].view(self[first].dtype)

    def unfold(self) -> None:
        """Records into columns."""
        for columns, stored in self._turned:
            np.copyto(columns, stored)
        self.youngest = int(np.minimum.reduce(self["t"]))
        per_scale = self["per_scale"]
        self.all_move = np.count_nonzero(per_scale) == len(per_scale)

    def fold(self) -> None:
        """Columns back into records."""
        for columns, stored in self._turned:
            np.copyto(stored, columns)
