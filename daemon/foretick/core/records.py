"""The values that pass between the ports, the app and the engine: columns, never one object per tick.

Glossary
    n       ticks in a batch, in entry-id order
    ms      milliseconds part of the entry id: arrival time
    ts      event time, milliseconds since the epoch, UTC
    y       the tick's value
    yhat    ŷ, forecast of the series' next value
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGNITUDE_MAX = 1e30  # largest |value| accepted: its differences still fit float32 (3.4e38)


class Verdict(IntEnum):
    """What became of a tick in the engine: a forecast, or a dead letter with this reason."""

    FORECAST = 0
    LATE = 1
    DUPLICATE = 2
    TOO_MANY_SERIES = 3

    @property
    def reason(self) -> str:
        """The dead letter's `reason` field and metric label."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Ticks:
    """A batch of well-formed ticks in entry-id order.

    Attributes:
        series: (n,) series ids as received, UTF-8 bytes.
        ms: (n,) int64 arrival time, the milliseconds part of the entry id, non-decreasing.
        ts: (n,) int64 event time, milliseconds since the epoch.
        stamped: (n,) bool, true where `ts` came with the entry (only then is a tick judged late or duplicate).
        y: (n,) float64 values, finite, |y| ≤ 1e30.
    """

    series: list[bytes]
    ms: NDArray[np.int64]
    ts: NDArray[np.int64]
    stamped: NDArray[np.bool_]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.series)

    def slice(self, start: int, stop: int) -> Ticks:
        """The ticks at positions start … stop − 1, as views."""
        s = slice(start, stop)
        return Ticks(self.series[s], self.ms[s], self.ts[s], self.stamped[s], self.y[s])


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The engine's answer to `Ticks`, position by position.

    Attributes:
        verdict: (n,) uint8 `Verdict` codes; the other columns are meaningful where it is `FORECAST`.
        yhat: (n,) float64 forecast of the series' next value; NaN where there is none.
        warm: (n,) bool, false while the series has too few ticks and the forecast is the naive one.
        row: (n,) int64 the series' row in the engine's arena; −1 where it has none.
    """

    verdict: NDArray[np.uint8]
    yhat: NDArray[np.float64]
    warm: NDArray[np.bool_]
    row: NDArray[np.int64]

    @staticmethod
    def empty(n: int) -> Forecasts:
        """All NaN, all `FORECAST`, to be filled position by position."""
        return Forecasts(
            verdict=np.zeros(n, np.uint8),
            yhat=np.full(n, np.nan),
            warm=np.zeros(n, np.bool_),
            row=np.full(n, -1, np.int64),
        )
