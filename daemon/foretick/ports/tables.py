"""Recorded rows of several numbers: columns of CSV files by name, series by series, in order of time."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from foretick.errors import UsageError
from foretick.ports.recordings import UnusableRow, read_stamp, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of all files.

    Attributes:
        rows: by series, (n, C) values of the columns asked for, in order of ts where there is one, else as they stand.
        unusable: rows that were left out, because a number or a time in them is none.
    """

    rows: dict[str, NDArray[np.float64]]
    unusable: int


def read_tables(paths: Sequence[Path], columns: Sequence[str]) -> Tables:
    """The columns of all files.

    A column `series` tells series apart, and `source` where two use one name; without one a file is one series, by its
    own name. A column `ts` (integer Unix milliseconds) gives the order.

    Raises:
        UsageError: a file cannot be read, or lacks a column; the message names both.
    """
    found: dict[tuple[str, str], list[tuple[int, list[float]]]] = {}
    unusable = 0
    for path in paths:
        for place, (series, ts, cells) in enumerate(_rows(path, columns)):
            try:
                row = read_stamp(ts) if ts is not None else place, [read_value(cell) for cell in cells]
            except UnusableRow:
                unusable += 1
            else:
                found.setdefault(series, []).append(row)
    twice = Counter(series for _, series in found)
    rows = {
        (series if twice[series] == 1 else f"{source}/{series}"): np.array(
            [values for _, values in sorted(of_series, key=lambda row: row[0])]
        )
        for (source, series), of_series in found.items()
    }
    return Tables(rows, unusable)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[tuple[str, str], str | None, list[str]]]:
    """Source and series, ts, and cells of each row."""
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]  # Excel begins with a mark
            if missing := [name for name in columns if name not in header]:
                there = ", ".join(header) or "no columns at all"
                raise UsageError(f"{path}: no column {missing[0]!r} in its first line, which has {there}")
            wanted = [header.index(name) for name in columns]
            source_at, series_at = (header.index(name) if name in header else None for name in ("source", "series"))
            ts_at = header.index("ts") if "ts" in header else None
            for fields in reader:
                if not fields:
                    continue
                cells = fields + [""] * (len(header) - len(fields))
                source = "" if source_at is None else cells[source_at]
                series = path.name.partition(".")[0] if series_at is None else cells[series_at]
                yield (source, series), None if ts_at is None else cells[ts_at], [cells[at] for at in wanted]
    except (OSError, UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
