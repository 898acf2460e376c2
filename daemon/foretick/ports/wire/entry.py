"""One entry in, one tick out, or what is wrong with it: the definition that `columns` has to agree with.

Of a field that occurs twice in an entry the first counts. Numbers are decimals as Redis writes them: no blanks, no
underscores, no other digits than 0 to 9, all of which Python's own float() and int() would take.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from foretick.core.records import MAGNITUDE_MAX

Row: TypeAlias = list[bytes]  # an entry's fields and values in turn

SERIES_MAX_BYTES = 200
VALUE_MAX_BYTES = 400  # no float64 needs more: 309 digits before the point, 17 significant ones after leading zeros
STAMP_MAX_BYTES = 20  # a sign and the 19 digits of the largest int64
AHEAD_MAX_MS = 86_400_000  # one day: more than any time zone mistaken for UTC, far less than a wrong unit
ID_MAX_MS = 1 << 53  # the year 287,396: beyond it milliseconds are neither times nor exact as float64
DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
DECIMAL_BYTES = b"0123456789+-.eE"  # of these float() reads decimals and nothing else
_SPELLED = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_INTEGER = re.compile(rb"[+-]?[0-9]+")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # C0, DEL, C1
PRINTABLE = bytes(range(0x20, 0x7F))
UNIT_TO_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}  # unit: times, then floor-divided by


class Reason(StrEnum):
    """Why an entry is no tick; the engine's own reasons are in `Verdict`."""

    MISSING_FIELD = "missing_field"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    BAD_SERIES = "bad_series"
    BAD_TS = "bad_ts"
    TOO_LARGE = "too_large"
    ENGINE_ERROR = "engine_error"


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the producers call the fields of a tick (settings `fields.*`).

    Attributes:
        series: name of the field with the series id.
        value: name of the field with the value, the first feature.
        ts: name of the field with the event time.
        ts_unit: unit of the event time.
        more: names of the fields with further features.
        partial: whether some features may be absent, because not every group of series needs all of them.
    """

    series: str = "series"
    value: str = "value"
    ts: str = "ts"
    ts_unit: Literal["s", "ms", "us", "ns"] = "ms"
    more: tuple[str, ...] = ()
    partial: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the fields with numbers, in the order of the columns of `Ticks.y`."""
        return (self.value, *self.more)


class UnusableError(Exception):
    """Leaves `read_entry` at the first fault; never leaves this module."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_entry(
    row: Row, ms: int, stream: bytes, fields: FieldNames
) -> tuple[bytes, int, bool, float | tuple[float, ...]]:
    """The series id, event time, whether it came with the entry, and the value or the values of one entry."""
    if ms > ID_MAX_MS:
        raise UnusableError(Reason.BAD_TS, "the entry id is no time in milliseconds")
    series = _field(row, fields.series)
    if series is None:
        series = stream
    if fault := series_fault(series):
        raise UnusableError(Reason.BAD_SERIES, fault)
    y = tuple(_feature(row, name, fields) for name in fields.features)
    if fields.partial and all(map(math.isnan, y)):
        raise UnusableError(Reason.MISSING_FIELD, f"none of the fields {', '.join(fields.features)}")
    value = y if fields.more else y[0]
    stamp = _field(row, fields.ts)
    if stamp is None:
        return series, ms, False, value
    return series, _time(stamp, ms, fields), True, value


def _feature(row: Row, name: str, fields: FieldNames) -> float:
    """The number under a name; NaN where it may be absent and is."""
    text = _field(row, name)
    if text is not None:
        return _value(text, name)
    if fields.partial:
        return math.nan
    raise UnusableError(Reason.MISSING_FIELD, f"no field `{name}`")


def _field(row: Row, name: str) -> bytes | None:
    """The first value under a name."""
    names = row[::2]
    raw = name.encode()
    return row[2 * names.index(raw) + 1] if raw in names else None


def series_fault(series: bytes) -> str | None:
    """What keeps these bytes from being a series id."""
    if not series:
        return "the series id is empty"
    if len(series) > SERIES_MAX_BYTES:
        return f"the series id has {len(series)} bytes, more than {SERIES_MAX_BYTES}"
    try:
        text = series.decode()
    except UnicodeDecodeError as error:
        return f"the series id is not UTF-8 at byte {error.start}"
    control = CONTROL.search(text)
    return f"the series id holds the control character U+{ord(control[0]):04X}" if control else None


def _value(text: bytes, name: str) -> float:
    """The number that a text says."""
    if len(text) > VALUE_MAX_BYTES:
        raise UnusableError(Reason.TOO_LARGE, f"`{name}` has {len(text)} bytes, more than {VALUE_MAX_BYTES}")
    if not DECIMAL.fullmatch(text):
        if _SPELLED.fullmatch(text):
            raise UnusableError(Reason.OUT_OF_RANGE, f"`{name}` is not finite: {_shown(text)}")
        raise UnusableError(Reason.NOT_A_NUMBER, f"`{name}` is no decimal number: {_shown(text)}")
    y = float(text)
    if abs(y) > MAGNITUDE_MAX:
        raise UnusableError(Reason.OUT_OF_RANGE, f"`{name}` exceeds {MAGNITUDE_MAX:g}: {_shown(text)}")
    return y


def _time(text: bytes, ms: int, fields: FieldNames) -> int:
    """The event time that a text says, in milliseconds."""
    if len(text) > STAMP_MAX_BYTES or not _INTEGER.fullmatch(text):
        raise UnusableError(Reason.BAD_TS, f"`{fields.ts}` is no integer: {_shown(text)}")
    times, divisor = UNIT_TO_MS[fields.ts_unit]
    ts = int(text) * times // divisor
    if ts < 0:
        raise UnusableError(Reason.BAD_TS, f"`{fields.ts}` is negative: {_shown(text)}")
    if ts > ms + AHEAD_MAX_MS:
        raise UnusableError(
            Reason.BAD_TS, f"`{fields.ts}` (unit {fields.ts_unit}) is more than a day ahead of arrival: {_shown(text)}"
        )
    return ts


def _shown(text: bytes) -> str:
    """The text as a person can read it in a message, cut to 60 bytes."""
    return repr(text[:60])[1:] + ("…" if len(text) > 60 else "")
