"""Whole columns of numbers as text: the shortest decimals that read back equal, byte for byte what `repr` writes.

`repr` takes one to three microseconds per float of 17 digits, which for the seven numbers of a forecast was more than
all the rest of a turn. The same digits come out of sums and products of float64, which numpy does for all numbers at
once. The rule is that of R. Giulietti, "The Schubfach way to render doubles" (2021; symbols as there):

    v = c·2^q   the number: c its 53-bit significand
    k           ⌊log10 2^q⌋, so that v/10^k has 16 or 17 digits before the point
    unit        2^q/10^k, from 1 to 10: how far apart floats are at v, in units of 10^k
    d           v/10^k less the nearest whole number
    to_ten      from that number to the nearest multiple of ten; if this reads back as v, it is shorter and the answer

Every decimal less than unit/2 from v/10^k reads back as v. v/10^k is computed as a sum of two float64, the lesser being
what rounding took from the greater (T. J. Dekker, "A floating-point technique for extending the available precision",
1971). That is exact while 10^k is at least 1e-20 and at most 1, which makes v 1e-4 to 4e15; elsewhere it is good
to 1e-14, and a number that lies nearer to a tie than that goes to `repr`.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from foretick.ports.wire.cells import Cells, cells, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 130  # numbers: ninety calls of numpy cost as much as so many calls of `repr`
BLOCK = 8192  # numbers at once: what is computed in between stays in the cache

_DIGITS = 17  # no float64 needs more
_POINT_MIN, _POINT_MAX = -3, 16  # digits before the point for which `repr` writes no exponent
_WIDTH = 40  # bytes for a text in the making: a sign, 16 digits, the point, and 17 more, of which none may count
_ROW = 32  # bytes in which the digits of a number are put down
_FIRST = 7  # there the digits begin, so that the other sixteen are aligned
_ZEROS = np.uint64(0x3030303030303030)  # eight times "0"
_DOUBT = 1e-9  # far beyond the error of v/10^k, and few numbers are so near to a tie
_STAMP_MIN = 10**12  # ms since the epoch have 13 digits from 2001 to 2286


def decimals(values: NDArray[np.float64]) -> Cells:
    """(n,) float64 -> the texts, each equal to `repr` of its number; empty where it is NaN."""
    if len(values) <= FEW:
        return cells([b"" if isnan(value) else repr(value).encode() for value in values.tolist()])
    blocks = [_block(np.ascontiguousarray(values[start : start + BLOCK])) for start in range(0, len(values), BLOCK)]
    return Cells(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def whole(values: NDArray[np.int64]) -> Cells:
    """(n,) int64 -> the texts, each equal to `repr` of its number."""
    n = len(values)
    if not n or values.min() < _STAMP_MIN or values.max() >= 10 * _STAMP_MIN:
        return cells([b"%d" % value for value in values.tolist()])
    chars = np.empty((n, 4), np.uint32)
    rest = values
    for place in (3, 2, 1):
        above = rest // 10_000
        chars[:, place] = _GROUPS.take(rest - above * 10_000)
        rest = above
    chars[:, 0] = _GROUPS.take(rest)
    return Cells(np.ndarray(n, "V13", chars, 3, (16,)), np.full(n, 13))


def _block(values: NDArray[np.float64]) -> Cells:
    digits, point, is_odd = _shortest(values.view(np.uint64))
    is_zero, is_absent = values == 0, np.isnan(values)
    is_odd |= (point < _POINT_MIN) | (point > _POINT_MAX)
    point[is_odd | is_zero] = 1
    digits[is_zero] = 0
    texts, sizes = _laid_out(digits, point, np.signbit(values))
    sizes[is_absent] = 0
    odd = np.flatnonzero(is_odd & ~(is_zero | is_absent))
    if len(odd):
        told = [repr(value).encode() for value in values[odd].tolist()]
        texts[odd] = np.array(told, f"S{_WIDTH}").view(f"V{_WIDTH}")
        sizes[odd] = list(map(len, told))
    return Cells(texts, sizes)


def _shortest(bits: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) 17 digits of the shortest decimals, how many stand before the point, and which numbers are in doubt."""
    fraction = bits & np.uint64((1 << 52) - 1)
    exponent = (bits >> np.uint64(52)).view(np.int64)
    unit, rest, unit1, unit0, doubt = (table.take(exponent) for table in _UNITS)
    c = (fraction | _C_EXPONENT).view(np.float64)
    c1 = (fraction & _UPPER | _C_EXPONENT).view(np.float64)
    c0 = c - c1
    greater = c * unit
    lesser = c0 * unit0 - (greater - c1 * unit1 - c0 * unit1 - c1 * unit0) + c * rest
    nearest = np.rint(lesser)
    d = lesser - nearest
    digits = greater.astype(np.int64) + nearest.astype(np.int64)
    last = (digits - digits // 10 * 10).astype(np.float64)
    to_ten = np.rint((last + d) * 0.1) * 10 - last
    distance = np.abs(to_ten - d)
    half = unit * 0.5
    digits += (to_ten * (distance < half)).astype(np.int64)
    is_odd = (fraction == 0) & (distance != 0)  # a power of two: the next float below is half as far
    if doubt.max() > 0:
        is_odd |= (np.abs(distance - half) < doubt) | (np.abs(np.abs(d) - 0.5) < doubt)
    is_short = digits < 10**16
    return digits * np.where(is_short, 10, 1), _POINTS.take(exponent) - is_short, is_odd


def _laid_out(digits: NDArray[np.int64], point: NDArray[np.int64], is_minus: NDArray[np.bool_]) -> Cells:
    """The digits as texts: with a point behind so many of them, zeros where it lies before the first, and a sign."""
    n = len(digits)
    rows, used = _characters(digits)
    texts = np.empty(n * _WIDTH, np.uint8)
    begin = np.arange(0, n * _WIDTH, _WIDTH)
    at = begin + is_minus
    window(texts, 16)[at] = np.ndarray(n, "V16", rows, _FIRST, (_ROW,))  # as if the point came after them all
    window(texts, 8)[at[point <= 0]] = np.void(b"0.000000")
    before = np.maximum(point, 0)
    stop = at + np.maximum(point, 1)
    at = stop + 1 - np.minimum(point, 0)
    window(texts, _DIGITS)[at] = window(rows, _DIGITS)[np.arange(_FIRST, n * _ROW, _ROW) + before]
    texts[stop] = ord(".")
    texts[begin[is_minus]] = ord("-")
    at += np.maximum(used - before, 1)  # a point is followed by one digit at least
    return Cells(texts.view(f"V{_WIDTH}"), at - begin)


def _characters(digits: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Rows of 32 bytes with the 17 digits, and (n,) how many of them are used."""
    n = len(digits)
    upper = digits // 10**8
    lower = digits - upper * 10**8
    first = upper // 10**8
    upper -= first * 10**8
    rows = np.empty((n + 1, _ROW), np.uint8)  # texts are read from the last row into the one after it
    rows[:n, _FIRST] = first + ord("0")
    groups = rows[:n].view(np.uint32)
    for place, pair in ((2, upper), (4, lower)):
        left = pair // 10_000
        groups[:, place], groups[:, place + 1] = _GROUPS.take(left), _GROUPS.take(pair - left * 10_000)
    words = rows[:n].view(np.uint64)
    used = np.maximum(_last(words[:, 1]) + 1, _last(words[:, 2]) + 9)
    return rows.ravel(), np.maximum(used, 1)


def _last(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(n,) of eight characters the number up to the last that is not a zero; far below 0 where there is none.

    Its byte is the uppermost one that is not empty, so the exponent of the word as a float64 tells.
    """
    return (((words ^ _ZEROS).astype(np.float64).view(np.int64) >> 52) - 1023 >> 3) + 1


def _units() -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """By the twelve bits before the fraction: unit, what it lacks, its two halves, what is too near to a tie; point."""
    unknown = (0.0, 0.0, 0.0, 0.0, 0.0, -(_DIGITS**2))  # zero and subnormal, not finite
    rows = [unknown]
    for q in range(-1074, 972):
        k = q * 1262611 >> 22
        upper, lower = 2 ** max(q, 0) * 10 ** max(-k, 0), 2 ** max(-q, 0) * 10 ** max(k, 0)
        unit = upper / lower  # rounded once
        numerator, denominator = unit.as_integer_ratio()
        rest = (upper * denominator - numerator * lower) / (lower * denominator)
        unit1 = unit * 134217729.0 - (unit * 134217729.0 - unit)  # 2^27 + 1 (Dekker): 26 bits in each half
        doubt = -1 if k >= -20 and q < 0 else _DOUBT
        rows.append((unit, rest, unit1, unit - unit1, doubt, k + _DIGITS))
    *units, points = np.array([*rows, unknown] * 2).T.copy()  # with either sign
    return units, points.astype(np.int64)


_UNITS, _POINTS = _units()
_C_EXPONENT = np.uint64(1075 << 52)  # of a number from 2^52 to 2^53
_UPPER = np.uint64((1 << 52) - (1 << 27))  # the upper half of a fraction
_GROUPS = np.frombuffer(b"".join(b"%04d" % i for i in range(10_000)), np.uint32)
