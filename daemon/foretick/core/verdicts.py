"""Which ticks are taken: in the order of each series' own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.records import Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena, Block

FORECAST = int(Verdict.FORECAST)  # comparing an array with the enum itself takes ten times as long


def judge(
    arena: Arena, block: Block, ts: NDArray[np.int64], stamped: NDArray[np.bool_], late_run: int
) -> NDArray[np.uint8]:
    """(n,) verdicts; a series whose clock was set back begins anew after `late_run` late ticks in a row."""
    known = stamped & (block["t"] >= 0)
    late = known & (ts < block["ts"])
    verdict = np.zeros(len(block), np.uint8)
    verdict[known & (ts == block["ts"])] = Verdict.DUPLICATE
    if late.any():
        anew = late & (block["late_run"] >= late_run)
        block[anew] = arena.blank(int(anew.sum()))
        late &= ~anew
        verdict[late] = Verdict.LATE
        block["late_run"][late] += 1
    block["late_run"][verdict == FORECAST] = 0
    return verdict
