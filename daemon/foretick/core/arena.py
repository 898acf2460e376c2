"""All carried state of all series: one contiguous record per series, found by its name.

State is a value: `gather` copies the records of distinct rows into a block, the engine computes a new block, `scatter`
puts it back. Nothing else in the core remembers anything about a series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from foretick.core.recipe import Recipe

Block = np.ndarray[tuple[int], np.dtype[np.void]]  # (n,) records of `record_dtype`

_FIRST_ROWS = 64  # rows of a new arena; doubles from there


def record_dtype(recipe: Recipe, experts: int) -> np.dtype[np.void]:
    """The carried state of one series.

    Values and times are float64/int64, and so is all that is in the series' own unit; what is in scales is float32.
    """
    H, averages = recipe.hidden, len(recipe.scaling.average_rates)
    fields: list[tuple[Any, ...]] = [
        ("t", np.int64),  # ticks accepted − 1: number of the newest tick; −1 before the first
        ("ts", np.int64),  # event time of the newest tick, ms
        ("gap", np.int64),  # its spacing from the tick before, ms
        ("y", np.float64),  # its value
        ("yhat", np.float64),  # the standing forecast
        ("scale", np.float64),  # s, running mean absolute first difference
        ("fast", np.float64),  # the same with a short memory
        ("move", np.float64),  # the same without a bound on outliers: the unit of the live scores
        ("deviation", np.float64, (averages,)),  # y − moving average, one per rate
        ("season", np.int32, (2,)),  # seasonal lags in ticks; 0 where there is none
        ("late_run", np.int32),  # late ticks in a row
        ("phat", np.float32),  # the standing forecast's change, in scales
        ("mix_loss", np.float32),  # ℓ, running |z − p|
        ("expert", np.float32, (experts,)),  # E, the standing expert forecasts, in scales
        ("regret", np.float32, (experts,)),  # R
        ("regret_square", np.float32, (experts,)),  # V
        ("h", np.float32, (H,)),  # hidden state
        ("c", np.float32, (H,)),  # cell state
    ]
    return np.dtype(fields, align=True)


class Arena:
    """Rows of state by series id, in order of first appearance."""

    def __init__(self, recipe: Recipe, experts: int) -> None:
        self.dtype = record_dtype(recipe, experts)
        self.window = Window(recipe.window)
        self.gaps = Window(recipe.season.gaps, np.int64)
        self.hashes = np.zeros(0, np.uint64)  # (S,) of the series id: samples series whatever their row
        self.slots = np.zeros(0, np.int32)  # (S,) recorder slot, −1 for none
        self.last_cut = np.zeros(0, np.int64)  # (S,) number of the learning cut after which the series last ticked
        self._max_series = recipe.max_series
        self._row_of: dict[bytes, int] = {}
        self._records = np.zeros(0, self.dtype)
        self._bytes = self._records.view(np.uint8).reshape(0, self.dtype.itemsize)

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def names(self) -> list[bytes]:
        """Series ids, by row."""
        return list(self._row_of)

    @property
    def records(self) -> Block:
        """(S,) the records themselves."""
        return self._records[: len(self._row_of)]

    def admit(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        """(n,) the row of each series id, making rows for new ones; −1 where `max_series` leaves no room."""
        rows = np.fromiter(map(self._row_of.get, names, [-1] * len(names)), np.int64, len(names))
        for i in np.flatnonzero(rows < 0).tolist():
            rows[i] = self._row_of.get(names[i], -1)
            if rows[i] < 0 and len(self._row_of) < self._max_series:
                rows[i] = self._add(names[i])
        return rows

    def _add(self, name: bytes) -> int:
        row = len(self._row_of)
        if row == len(self._records):
            self.reserve(max(_FIRST_ROWS, 2 * row))
        self._row_of[name] = row
        self._records[row] = self.blank(1)[0]
        self.hashes[row] = name_hash(name)
        self.slots[row] = -1
        self.last_cut[row] = -1
        return row

    def reserve(self, rows: int) -> None:
        """Make room for `rows` series."""
        grown = np.zeros(rows, self.dtype)
        grown[: len(self._records)] = self._records
        self._records = grown
        self._bytes = grown.view(np.uint8).reshape(rows, self.dtype.itemsize)
        self.window.resize(rows)
        self.gaps.resize(rows)
        self.hashes, self.slots, self.last_cut = (
            np.concatenate([column, np.zeros(rows - len(column), column.dtype)])
            for column in (self.hashes, self.slots, self.last_cut)
        )

    def blank(self, n: int) -> Block:
        """(n,) records of series that have seen no tick."""
        block = np.zeros(n, self.dtype)
        block["t"] = -1
        return block

    def gather(self, rows: NDArray[np.int64]) -> Block:
        """(n,) a copy of the records of distinct rows. Bytes copy 5 times faster than fields."""
        return self._bytes.take(rows, axis=0).view(self.dtype)[:, 0]

    def scatter(self, rows: NDArray[np.int64], block: Block) -> None:
        """Put records back."""
        width = f"V{self.dtype.itemsize}"
        self._records.view(width)[rows] = block.view(width)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of all that `restore` needs besides `names`."""
        S = len(self)
        columns = {
            "records": self._bytes,
            "window": self.window.rings,
            "gaps": self.gaps.rings,
            "hashes": self.hashes,
            "slots": self.slots,
            "last_cut": self.last_cut,
        }
        return {name: column[:S].copy() for name, column in columns.items()}

    def restore(self, names: Iterable[bytes], columns: dict[str, NDArray[Any]]) -> None:
        """Become the arena whose `names` and `snapshot` these are."""
        self._row_of = {name: row for row, name in enumerate(names)}
        self.reserve(len(self._row_of))
        self._bytes[:] = columns["records"]
        self.window.rings[:] = columns["window"]
        self.gaps.rings[:] = columns["gaps"]
        self.hashes[:] = columns["hashes"]
        self.slots[:] = columns["slots"]
        self.last_cut[:] = columns["last_cut"]


def name_hash(name: bytes) -> np.uint64:
    """FNV-1a (Fowler, Noll and Vo), 64 bit: stable across processes, unlike Python's hash()."""
    value = 0xCBF29CE484222325
    for byte in name:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(value)
