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

from foretick.core.outputs import YHAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAGNITUDE_MAX = 1e30  # largest |value| accepted: its differences still fit float32 (3.4e38)


class Verdict(IntEnum):
    """What became of a tick in the engine: a forecast, or a dead letter with this reason."""

    FORECAST = 0
    LATE = 1
    DUPLICATE = 2
    TOO_MANY_SERIES = 3
    MISSING_FIELD = 4

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
        y: (n,) float64 values, finite, |y| ≤ 1e30; (n, F) where series have several features. Of these some may be
            NaN, where not all groups of series have the same features.
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

    def at(self, positions: NDArray[np.int64]) -> Ticks:
        """The ticks at these positions, copied."""
        series = [self.series[i] for i in positions.tolist()]
        return Ticks(series, self.ms[positions], self.ts[positions], self.stamped[positions], self.y[positions])


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The engine's answer to `Ticks`, position by position.

    Attributes:
        verdict: (n,) uint8 `Verdict` codes; the other columns are meaningful where it is `FORECAST`.
        warm: (n,) bool, false while the series has too few ticks and the forecast is the naive one.
        names: of the C columns of `values`.
        values: (n, C) float64, NaN where the tick has no such number.
    """

    verdict: NDArray[np.uint8]
    warm: NDArray[np.bool_]
    names: tuple[str, ...]
    values: NDArray[np.float64]

    @property
    def yhat(self) -> NDArray[np.float64]:
        """(n,) forecast of the series' next value, of its first target; a view."""
        return self.values[:, next(i for i, name in enumerate(self.names) if name.startswith(YHAT))]

    def slice(self, start: int, stop: int) -> Forecasts:
        """The answers to the ticks at positions start … stop − 1, as views to be filled."""
        s = slice(start, stop)
        return Forecasts(self.verdict[s], self.warm[s], self.names, self.values[s])

    def column(self, name: str) -> NDArray[np.float64]:
        """(n,) the column of this name, a view."""
        return self.values[:, self.names.index(name)]

    @staticmethod
    def empty(n: int, names: tuple[str, ...] = (YHAT,)) -> Forecasts:
        """All NaN, all `FORECAST`, to be filled position by position."""
        values = np.empty((n, len(names)))
        values.fill(np.nan)  # np.full takes twice as long, which a single tick would notice
        return Forecasts(np.zeros(n, np.uint8), np.zeros(n, np.bool_), names, values)

    @staticmethod
    def joined(parts: Sequence[Forecasts]) -> Forecasts:
        """The answers to consecutive batches, as one."""
        columns = ([getattr(part, name) for part in parts] for name in ("verdict", "warm", "values"))
        verdict, warm, values = map(np.concatenate, columns)
        return Forecasts(verdict, warm, parts[0].names, values)
