"""Recorded ticks: from files as CSV with a header, plain or gzipped, as Parquet, and from lines of JSON.

Both are held to what the wire takes (`ports.wire.entry`), so that a row is refused here, by its file and line, and does
not become a dead letter there.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from foretick.core.records import MAGNITUDE_MAX, Ticks
from foretick.errors import UsageError
from foretick.ports.recordings_parquet import SUFFIXES, parquet_rows
from foretick.ports.wire.entry import DECIMAL, VALUE_MAX_BYTES, series_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value: TypeAlias = float | Sequence[float]  # of several features each, NaN where one is absent
Tick: TypeAlias = tuple[bytes | None, Value, int | None]  # series id or the stream's own, value, event time in ms

FAULTS_NAMED = 5  # a column of the wrong unit is wrong in every row: five show it
TS_MAX_MS = 1 << 53  # beyond it milliseconds are neither times nor exact as float64
_SHOWN_CHARACTERS = 40  # of a wrong text, so that a message stays a line


class UnusableRow(Exception):  # no error of the program: the row is counted, and the reading goes on
    """A row that is no tick; the message says why."""


@dataclass(slots=True)
class Faults:
    """The rows that were no ticks.

    Attributes:
        count: how many.
        named: the first of them, as `file:line: why`.
    """

    strict: bool = False
    count: int = 0
    named: list[str] = field(default_factory=list)

    def note(self, where: str, why: object) -> str | None:
        """Count one; returns its line while lines are still named.

        Raises:
            UsageError: no row may be wrong (`strict`).
        """
        line = f"{where}: {why}"
        if self.strict:
            raise UsageError(line)
        self.count += 1
        if self.count > FAULTS_NAMED:
            return None
        self.named.append(line)
        return line


@dataclass(frozen=True, slots=True)
class Recording:
    """Ticks in order of event time, as one stream would have carried them.

    Attributes:
        ticks: n ticks; arrival time is event time.
        source_of: the source each series came from; empty where the files name none.
        faults: rows that were left out, because they are no ticks.
        stream: key of the stream that held them; none for files.
        dead: entries of a stream that were left out, by reason.
    """

    ticks: Ticks
    source_of: dict[bytes, str]
    faults: Faults
    stream: bytes | None = None
    dead: dict[str, int] = field(default_factory=dict)

    @property
    def unusable(self) -> int:
        """Rows that were left out."""
        return self.faults.count


class _Columns:
    """The rows of all files: 24 bytes each, whatever their names' lengths."""

    def __init__(self) -> None:
        self.of = array("q")  # which (source, series) the row belongs to
        self.ts = array("q")
        self.y = array("d")  # feature by feature, row by row
        self.numbers: dict[tuple[str, str], int] = {}  # of each (source, series), in order of appearance

    def add(self, source: str, series: str, ts: str, *values: str) -> None:
        number = self.numbers.get((source, series))
        if number is None:
            _check_series(series)
        stamp, y = read_stamp(ts), _read_values(values)
        if number is None:
            number = self.numbers[source, series] = len(self.numbers)
        self.of.append(number)
        self.ts.append(stamp)
        self.y.extend(y)

    def names(self) -> list[bytes]:
        """The series id of each number; ids that several sources use are told apart as `source/series`."""
        sources: dict[str, set[str]] = {}
        for source, series in self.numbers:
            sources.setdefault(series, set()).add(source)
        return [
            (series if len(sources[series]) == 1 else f"{source}/{series}").encode() for source, series in self.numbers
        ]


def read_recordings(paths: Sequence[Path], features: Sequence[str] = ("value",), *, strict: bool = False) -> Recording:
    """All ticks of the files, merged by event time.

    Files that end with `.parquet` are Parquet, others CSV. Columns are found by name: `series`, `ts` (integer Unix
    milliseconds), those of the features, and optionally `source`. Others are ignored. Where two sources use one series
    id, the ids are told apart as `source/series`.

    Args:
        paths: the files.
        features: names of the columns with numbers. Of several, some of a row's cells may be empty.
        strict: the first row that is no tick is an error.

    Raises:
        UsageError: a file cannot be read, or lacks a column; the message names both.
    """
    columns, faults = _Columns(), Faults(strict=strict)
    for path in paths:
        read = parquet_rows if path.suffix.lower() in SUFFIXES else _rows
        for line, row in read(path, features):
            try:
                columns.add(*row)
            except UnusableRow as why:
                faults.note(f"{path}:{line}", why)
    names = columns.names()
    ts = np.array(columns.ts, np.int64)
    order = np.argsort(ts, kind="stable")
    y = np.array(columns.y, np.float64)
    y = y.reshape(-1, len(features)) if len(features) > 1 else y
    ts, y, of = ts[order], y[order], np.array(columns.of, np.int64)[order]
    series = [names[number] for number in of.tolist()]
    ticks = Ticks(series=series, ms=ts, ts=ts, stamped=np.ones(len(ts), np.bool_), y=y)
    return Recording(ticks, {name: source for name, (source, _) in zip(names, columns.numbers, strict=True)}, faults)


def _read_values(texts: Sequence[str]) -> list[float]:
    if len(texts) == 1:
        return [read_value(texts[0])]
    values = [read_value(text) if text.strip() else math.nan for text in texts]
    if all(map(math.isnan, values)):
        raise UnusableRow("it holds no number")
    return values


def read_json_line(line: bytes, features: Sequence[str] = ("value",)) -> Tick | None:
    """The tick that a line describes: `{"series": "a", "value": 1.5, "ts": 1700000000000}`; none if it is blank.

    Of several features each is a key of its own, absent or null where there is none.

    Raises:
        UnusableRow: it describes none.
    """
    if not line.strip():
        return None
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise UnusableRow(f"no JSON: {_shown(line.decode(errors='replace'))}") from None
    if not isinstance(row, dict) or not any(name in row for name in features):
        raise UnusableRow(f'no object with a "{features[0]}"')
    series, ts = row.get("series"), row.get("ts")
    if series is not None:
        if not isinstance(series, str):
            raise UnusableRow(f"series is no text: {_shown(series)}")
        _check_series(series)
    blank = "" if len(features) > 1 else None
    told = [row.get(name) for name in features]
    values = _read_values([_number_text(blank if value is None else value) for value in told])
    return (
        None if series is None else series.encode(),
        values if len(values) > 1 else values[0],
        None if ts is None else read_stamp(str(ts)),
    )


def _number_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnusableRow(f"value is no number: {_shown(value)}")
    return value if isinstance(value, str) else repr(value)


def read_value(text: str) -> float:
    """A decimal number that the wire takes.

    Raises:
        UnusableRow: it is none.
    """
    raw = text.strip().encode(errors="replace")
    if len(raw) > VALUE_MAX_BYTES or not DECIMAL.fullmatch(raw):
        raise UnusableRow(f"value is no decimal number: {_shown(text)}")
    y = float(raw)
    if abs(y) > MAGNITUDE_MAX:
        raise UnusableRow(f"value exceeds {MAGNITUDE_MAX:g}: {_shown(text)}")
    return y


def read_stamp(text: str) -> int:
    """Unix milliseconds.

    Raises:
        UnusableRow: it is no time.
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16) or int(digits) >= TS_MAX_MS:
        raise UnusableRow(f"ts is no integer of Unix milliseconds: {_shown(text)}")
    return int(digits)


def _check_series(series: str) -> None:
    try:
        fault = series_fault(series.encode())
    except UnicodeEncodeError:  # JSON can name half a character
        fault = "the series id is no text"
    if fault:
        raise UnusableRow(fault)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _rows(path: Path, features: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and (source, series, ts, value, …) of each row of a file; what the row lacks is empty."""
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]  # Excel begins with a mark
            missing = [name for name in ("series", "ts", *features) if name not in header]
            if missing:
                needed = f"series, ts, {', '.join(features)} and optionally source"
                raise UsageError(f"{path}: no column {missing[0]!r} in its first line; the columns are {needed}")
            ats = [header.index(name) for name in ("series", "ts", *features)]
            source_at = header.index("source") if "source" in header else None
            width = len(header)
            for fields in reader:
                if not fields:
                    continue
                cells = fields + [""] * (width - len(fields))
                source = "" if source_at is None else cells[source_at]
                yield reader.line_num, (source, *(cells[at] for at in ats))
    except (OSError, UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
