"""A batch as rounds in which no series appears twice."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from foretick.core.block import ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def rounds(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of ticks, split so that no row appears twice in a round and each row's ticks keep their order."""
    if len(rows) == 1 or (rows[1:] > rows[:-1]).all():
        for first in range(0, len(rows), ROWS_AT_ONCE):
            yield np.arange(first, min(first + ROWS_AT_ONCE, len(rows)))
        return
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    position = np.arange(len(rows))
    begins = np.diff(ordered, prepend=-1) != 0
    rank = position - np.maximum.accumulate(np.where(begins, position, 0))
    by_rank = order[np.argsort(rank, kind="stable")]
    ends = np.cumsum(np.bincount(rank))
    for start, end in pairwise([0, *ends]):
        for first in range(start, end, ROWS_AT_ONCE):
            yield by_rank[first : min(first + ROWS_AT_ONCE, end)]
