"""All carried state of all series: one contiguous record per series, found by its name.

State is a value: `gather` copies the records of distinct rows into a block of columns, the engine computes new ones,
`scatter` puts them back. Nothing else in the core remembers anything about a series.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core import ensemble_compact, features, features_compact
from foretick.core.block import Block
from foretick.core.columns import FREE, Table, as_slice
from foretick.core.names import Names
from foretick.core.recipe import IntervalRecipe
from foretick.core.scaling import running_means
from foretick.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from foretick.core.recipe import Recipe

Records = np.ndarray[tuple[int], np.dtype[np.void]]  # (n,) of `record_dtype`

NEVER_MS = np.iinfo(np.int64).max  # a free row is not forgotten again, and the last to be looked at
_MARKS = frozenset({"slots", "last_cut"})  # columns that change at cuts, for series that did not tick
_BLOCKS_KEPT = 4  # of different sizes, 1 to 3 MB each at most: making the pages anew costs more than a small round
_FIRST_ROWS = 64  # rows of a new arena; doubles from there


def record_dtype(recipe: Recipe, experts: int) -> np.dtype[np.void]:
    """The carried state of one series.

    Values and times are float64/int64, and so is all that is in the series' own unit; what is in scales is float32.
    """
    H, averages, levels = recipe.layers * recipe.hidden, len(recipe.scaling.average_rates), len(recipe.interval.levels)
    fields: list[tuple[Any, ...]] = [
        ("t", np.int64),  # ticks accepted − 1: number of the newest tick; −1 before the first
        ("ts", np.int64),  # event time of the newest tick, ms
        ("gap", np.int64),  # its spacing from the tick before, ms
        ("y", np.float64),  # its value
        ("yhat", np.float64),  # the standing forecast
        *((name, np.float64) for name in running_means(recipe)),
        ("per_scale", np.float64),  # 1/s; 0 where the series has been constant
        ("deviation", np.float64, (averages,)),  # y − moving average, one per rate
        ("late_run", np.int32),  # late ticks in a row
        ("correction", np.float32, (2 * levels,)),  # q of each bound, in residual sizes
        ("phat", np.float32),  # the standing forecast's change, in scales
        ("expert", np.float32, (experts,)),  # E, the standing expert forecasts, in scales
        ("regret", np.float32, (experts,)),  # R
        ("regret_square", np.float32, (experts,)),  # V
        ("h", np.float32, (H,)),  # hidden state, the top layer's last
        ("c", np.float32, (H,)),  # cell state
    ]
    if recipe.compact:
        fields += ensemble_compact.fields(recipe) + features_compact.fields(recipe.compact)
    else:
        fields += [
            ("season", np.int32, (2,)),  # seasonal lags in ticks; 0 where there is none
            ("linear_x", np.float32, (features.linear_width(recipe),)),  # what the linear forecasts were made from
            ("inputs", np.float32, (features.input_width(recipe),)),  # the LSTM's latest inputs
        ]
    if isinstance(recipe.interval, IntervalRecipe):
        fields += [
            ("residual_size", np.float64),  # v, running mean |y − ŷ|
            ("residuals_seen", np.int64),
            ("bounds", np.float64, (2 * levels,)),  # of the standing forecast: lower sides, then upper
        ]
    fields.sort(key=lambda field: -np.dtype(field[1]).itemsize)  # leaves no holes
    return np.dtype(fields, align=True)


class Arena:
    """Rows of state by series id, in order of first appearance.

    Besides the records, wide or rarely read state stands in columns of `table`.

    Attributes:
        names: which series has which row.
    """

    def __init__(self, recipe: Recipe, experts: int) -> None:
        self.dtype = record_dtype(recipe, experts)
        self._opaque = np.dtype((np.void, self.dtype.itemsize))  # such records copy 5 times faster than fields
        self.table = Table()
        compact = recipe.compact is not None  # differences in scales instead of values, spacings to seven digits
        self.window = Window(self.table.column("window", (recipe.window,), np.float16 if compact else np.float64))
        self.gaps = Window(self.table.column("gaps", (recipe.season.gaps,), np.float32 if compact else np.int64))
        self._bytes = self.table.column("records", (self.dtype.itemsize,), np.uint8)
        self._hashes = self.table.column("hashes", (), np.uint64)
        self._slots = self.table.column("slots", (), np.int32)
        self._last_cut = self.table.column("last_cut", (), np.int64)
        self._touched = self.table.column("touched", (), np.bool_)
        self._name_length = self.table.column("name_length", (), np.int32)
        self._last_ms = self.table.column("last_ms", (), np.int64)
        self.names = Names()
        self.max_series = recipe.max_series  # rows at most; may change at any time
        names = tuple(running_means(recipe))
        self._spans = {
            "means": (names[0], names[-1]),
            "standing": ("y", "yhat"),  # the naive forecast, and ours
            "numbers": ("y", "swing" if compact else "deviation"),  # all in float64: what is to be finite
        }
        if compact:
            self._spans["sizes"] = ("linear_size", "kalman_size")
        self._blocks: dict[int, Block] = {}  # by number of rows
        self._blank = self.blank(1).view(np.uint8)

    def __len__(self) -> int:
        """Rows, free ones included."""
        return len(self.names)

    @property
    def live(self) -> int:
        """Series that have a row."""
        return len(self.names.row_of)

    @property
    def records(self) -> Records:
        """(S,) the records themselves, not copied."""
        return self._bytes.rows[: len(self)].view(self.dtype)[:, 0]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(S,) hash of each series id: samples series whatever their row."""
        return self._hashes.rows[: len(self)]

    @property
    def slots(self) -> NDArray[np.int32]:
        """(S,) recorder slot of each series, −1 for none."""
        return self._slots.rows[: len(self)]

    @property
    def last_cut(self) -> NDArray[np.int64]:
        """(S,) number of the learning cut after which each series last ticked, −1 before its first tick."""
        return self._last_cut.rows[: len(self)]

    @property
    def last_ms(self) -> NDArray[np.int64]:
        """(S,) entry time of each series' newest tick, accepted or not, ms since the epoch; `NEVER_MS` in free rows."""
        return self._last_ms.rows[: len(self)]

    @property
    def touched(self) -> NDArray[np.bool_]:
        """(S,) rows whose state may have changed since somebody cleared this."""
        return self._touched.rows[: len(self)]

    @property
    def rows(self) -> dict[str, NDArray[Any]]:
        """The arrays of which a row changes only when touched, not copied; with `marks` and `names` all state."""
        return {name: array for name, array in self._views().items() if name not in _MARKS}

    @property
    def marks(self) -> dict[str, NDArray[Any]]:
        """The arrays of which any row may change at any time, not copied."""
        return {name: array for name, array in self._views().items() if name in _MARKS}

    def _views(self) -> dict[str, NDArray[Any]]:
        return {name: array for name, array in self.table.views(len(self)).items() if name != "touched"}

    def unknown(self, names: Iterable[bytes]) -> set[bytes]:
        """Those of the series ids that have no row."""
        return set(names).difference(self.names.row_of)

    def find(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        """(n,) the row of each series id, −1 for those without one."""
        return np.fromiter(map(self.names.row_of.get, names, [-1] * len(names)), np.int64, len(names))

    def admit(self, names: Sequence[bytes], ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the row of each series id, making rows for new ones; −1 where `max_series` leaves no room.

        Args:
            names: of the series of ticks in entry order.
            ms: (n,) when each tick came.
        """
        try:
            rows = np.fromiter(map(self.names.row_of.__getitem__, names), np.int64, len(names))
        except KeyError:
            rows = self._admit_new(names)
            has_row = rows >= 0
            self._last_ms.rows[rows[has_row]] = ms[has_row]
        else:
            self._last_ms.rows[rows] = ms  # of equal rows the last one stays
        return rows

    def _admit_new(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        strangers = (name for name in dict.fromkeys(names) if name not in self.names.row_of)
        self._add(list(islice(strangers, max(self.max_series - self.live, 0))))
        return self.find(names)

    def forget(self, horizon_ms: int) -> tuple[NDArray[np.int64], list[bytes]]:
        """Free the rows of all series that last ticked before the horizon.

        Returns:
            (m,) these rows, and who had them; of their state, only the slots are still to be put right.
        """
        rows = np.flatnonzero(self.last_ms < horizon_ms)
        names = self.names.remove(rows.tolist())
        self._name_length.rows[rows] = FREE
        self._last_ms.rows[rows] = NEVER_MS
        self._last_cut.rows[rows] = -1
        self._touched.rows[rows] = True
        return rows, names

    def _add(self, names: list[bytes]) -> None:
        rows = self.names.vacant(len(names))
        while rows and max(rows) >= len(self._bytes.rows):
            self.table.resize(max(_FIRST_ROWS, 2 * len(self._bytes.rows)))
        self.table.clear([row for row in rows if row < len(self)])
        self._name_length.rows[rows] = [len(name) for name in names]
        self._bytes.rows[rows] = self._blank
        self._hashes.rows[rows] = np.array([name_hash(name) for name in names], np.uint64)
        self._slots.rows[rows] = -1
        self._last_cut.rows[rows] = -1
        self._touched.rows[rows] = True
        self.names.add(rows, names)

    def blank(self, n: int) -> Records:
        """(n,) records of series that have seen no tick."""
        records = np.zeros(n, self.dtype)
        records["t"] = -1
        if "bounds" in (self.dtype.names or ()):
            records["bounds"] = np.nan
        return records

    def gather(self, rows: NDArray[np.int64]) -> Block:
        """The records of ascending rows, padded by repeats of the last, as columns; these rows now count as touched.

        The block is used again for as many rows: what is to outlive the round is copied out of it.
        """
        self._touched.rows[rows] = True
        block = self._blocks.get(len(rows))
        if block is None:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            block = self._blocks[len(rows)] = Block(self.dtype, len(rows), self._spans)
        self._bytes.rows.take(rows, axis=0, out=block.records, mode="clip")  # clip: the default copies once more
        block.unfold()
        return block

    def scatter(self, rows: NDArray[np.int64], block: Block) -> None:
        """Put the block's records back into their rows, given without repetition."""
        block.fold()
        records = block.records[: len(rows)].view(self._opaque)[:, 0]
        self._bytes.rows.view(self._opaque)[:, 0][as_slice(rows)] = records

    def restore(
        self, names: Sequence[bytes | None], row_of: Mapping[bytes, int], columns: dict[str, NDArray[Any]]
    ) -> None:
        """Become the arena whose `names`, `rows` and `marks` these are; `row_of` are the names' rows."""
        self.names.restore(names, row_of)
        self.table.resize(len(self))
        self.table.fill(columns)
        self._touched.rows[:] = True


def name_hash(name: bytes) -> int:
    """FNV-1a (Fowler, Noll and Vo), 64 bit: stable across processes, unlike Python's hash()."""
    value = 0xCBF29CE484222325
    for byte in name:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
