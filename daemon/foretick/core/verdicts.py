"""Which ticks are taken: in the order of each series' own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.records import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.block import Block

FORECAST = int(Verdict.FORECAST)  # comparing an array with the enum itself takes ten times as long


def in_order(block: Block, ts: NDArray[np.int64], stamped: NDArray[np.bool_]) -> bool:
    """Whether all ticks come after their series' last one, as nearly always."""
    behind = ts <= block["ts"]
    behind &= stamped
    return not np.logical_or.reduce(behind)


def judge(
    arena: Arena, row: NDArray[np.int64], ts: NDArray[np.int64], stamped: NDArray[np.bool_], late_run: int
) -> NDArray[np.uint8]:
    """(n,) verdicts on ticks of distinct rows, whose records count those that are late.

    A series whose clock was set back begins anew after `late_run` late ticks in a row.
    """
    records = arena.records
    last, run = records["ts"][row], records["late_run"][row]
    known = stamped & (records["t"][row] >= 0)
    late = known & (ts < last)
    verdict = np.zeros(len(row), np.uint8)
    verdict[known & (ts == last)] = Verdict.DUPLICATE
    anew = late & (run >= late_run)
    records[row[anew]] = arena.blank(int(anew.sum()))
    late &= ~anew
    verdict[late] = Verdict.LATE
    records["late_run"][row[late]] += 1
    return verdict
