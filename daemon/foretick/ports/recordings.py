"""Recorded ticks from files: CSV with a header, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from foretick.core.records import MAGNITUDE_MAX, Ticks
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recording:
    """Ticks in order of event time, as one stream would have carried them.

    Attributes:
        ticks: n ticks; arrival time is event time.
        source_of: the source each series came from; empty where the files name none.
        unusable: rows that were left out, because a number in them is none or too large.
    """

    ticks: Ticks
    source_of: dict[bytes, str]
    unusable: int


@dataclass(frozen=True, slots=True)
class _Row:
    series: bytes
    source: str
    ts: int
    y: float


def read_recordings(paths: Sequence[Path]) -> Recording:
    """All ticks of the files, merged by event time.

    Columns are found by name: `series`, `ts` (integer Unix milliseconds), `value`, and optionally `source`. Others are
    ignored. Where two sources use one series id, the ids are told apart as `source/series`.

    Raises:
        UsageError: a file cannot be read, or lacks a column; the message names both.
    """
    rows: list[_Row] = []
    unusable = 0
    for path in paths:
        for row in _rows(path):
            if row is None:
                unusable += 1
            else:
                rows.append(row)
    rows.sort(key=lambda row: row.ts)
    sources: dict[bytes, set[str]] = {}
    for row in rows:
        sources.setdefault(row.series, set()).add(row.source)
    names = [row.series if len(sources[row.series]) == 1 else f"{row.source}/".encode() + row.series for row in rows]
    ts = np.array([row.ts for row in rows], np.int64)
    y = np.array([row.y for row in rows], np.float64)
    ticks = Ticks(series=names, ms=ts, ts=ts, stamped=np.ones(len(rows), np.bool_), y=y)
    return Recording(ticks, {name: row.source for name, row in zip(names, rows, strict=True)}, unusable)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _rows(path: Path) -> Iterator[_Row | None]:
    """Each row of one file; None for an unusable one."""
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in ("series", "ts", "value") if name not in header]
            if missing:
                needed = "series, ts, value and optionally source"
                raise UsageError(f"{path}: no column {missing[0]!r} in its first line; the columns are {needed}")
            at = [header.index(name) for name in ("series", "ts", "value")]
            source_at = header.index("source") if "source" in header else None
            for fields in reader:
                yield _row(fields, at, source_at)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _row(fields: list[str], at: list[int], source_at: int | None) -> _Row | None:
    try:
        series, ts, y = (fields[i] for i in at)
        row = _Row(series.encode(), fields[source_at] if source_at is not None else "", int(ts), float(y))
    except (ValueError, IndexError):
        return None
    sound = math.isfinite(row.y) and abs(row.y) <= MAGNITUDE_MAX and 0 <= row.ts < 2**53 and bool(row.series)
    return row if sound else None
