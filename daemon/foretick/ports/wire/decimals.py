"""Whole columns of numbers as text: the shortest decimals that read back equal, byte for byte what `repr` writes.

`repr` takes one to three microseconds per float of 17 digits, which for the seven numbers of a forecast was more than
all the rest of a turn. The same digits come out of 64-bit integer arithmetic, which numpy does for all numbers at once.

Schubfach (R. Giulietti, "The Schubfach way to render doubles", 2021; symbols as there):

    v = c·2^q   the number: c its 53-bit significand
    k           ⌊log10 2^q⌋, so that v/10^k has 16 or 17 digits before the point
    g           10^−k scaled to 128 bits, rounded up; g1 and g0 its halves
    vb          4·v/10^k, rounded to odd: exact in all comparisons that follow
    vbl, vbr    the same of the bounds between which every decimal reads back as v
    s           ⌊v/10^k⌋; the answer is s or s + 1, or the multiple of ten beside it where that lies within the bounds
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 400  # numbers: about 150 calls of numpy cost as much as so many calls of `repr`
BLOCK = 4096  # numbers at once: what is computed in between stays in the cache

_DIGITS = 17  # no float64 needs more
_POINT_MIN, _POINT_MAX = -3, 16  # digits before the point for which `repr` writes no exponent
_WIDTH = 24  # a sign, "0.000", 17 digits; and a multiple of 8
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_K_MIN, _K_MAX = -324, 293  # of all finite float64
_FIRST = 7  # where the digits of a number in the making begin, in a row of 32 bytes


def decimals(values: NDArray[np.float64]) -> list[bytes]:
    """(n,) float64 -> the texts, each equal to `repr` of its number."""
    if len(values) <= FEW:
        return repr(values.tolist()).encode()[1:-1].split(b", ") if len(values) else []
    texts: list[bytes] = []
    for start in range(0, len(values), BLOCK):
        texts += _block(np.ascontiguousarray(values[start : start + BLOCK]))
    return texts


def whole(values: NDArray[np.int64]) -> list[bytes]:
    """(n,) int64 -> the texts, each equal to `repr` of its number."""
    n = len(values)
    if n <= FEW or values.min() < _STAMP_MIN or values.max() >= 10 * _STAMP_MIN:
        return repr(values.tolist()).encode()[1:-1].split(b", ") if n else []
    chars = np.empty((n, 4), np.uint32)
    rest = values
    for place in (3, 2, 1):
        above = rest // 10_000
        chars[:, place] = _GROUPS[rest - above * 10_000]
        rest = above
    chars[:, 0] = _GROUPS[rest]
    stamps: list[bytes] = chars.view("S16").ravel().tolist()
    return [stamp[3:] for stamp in stamps]


_STAMP_MIN = 10**12  # ms since the epoch have 13 digits from 2001 to 2286


def _block(values: NDArray[np.float64]) -> list[bytes]:
    bits = values.view(np.uint64)
    exponent = (bits >> np.uint64(52)).astype(np.int64) & 0x7FF
    fraction = bits & np.uint64((1 << 52) - 1)
    is_zero = values == 0
    is_odd_one = (exponent == 0) | (exponent == 0x7FF)  # zero, subnormal, not finite: computed as if it were 1
    if is_odd_one.any():
        exponent[is_odd_one], fraction[is_odd_one] = 1023, 0
    digits, k = _shortest(fraction, exponent - 1075)
    point = k + _DIGITS  # digits before the point; 0 and below: zeros after it
    is_plain = (point >= _POINT_MIN) & (point <= _POINT_MAX)
    is_minus = (bits >> np.uint64(63)).astype(np.int64)
    point[~is_plain | is_zero] = 1
    rows, used = _characters(digits)
    layout = (point - _POINT_MIN) * (_DIGITS + 1) + used
    layout[is_zero] = _ZERO_LAYOUT
    texts: list[bytes] = _laid_out(rows, layout + is_minus * _LAYOUTS).view(f"S{_WIDTH}").ravel().tolist()
    for i in np.flatnonzero((is_odd_one & ~is_zero) | ~is_plain).tolist():
        texts[i] = repr(float(values[i])).encode()
    return texts


def _laid_out(rows: NDArray[np.uint8], layout: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n, 32) digits and (n,) layouts -> (n, 3) the 24 characters of each text."""
    leading = _LEADING[layout]
    found = np.flatnonzero(np.bincount(leading)).tolist()
    if len(found) == 1:
        return _moved(rows, layout, found[0])
    texts = np.empty((len(rows), _WIDTH // 8), np.uint64)
    for one in found:
        at = np.flatnonzero(leading == one)
        texts[at] = _moved(rows[at], layout[at], one)
    return texts


def _moved(rows: NDArray[np.uint8], layout: NDArray[np.int64], leading: int) -> NDArray[np.uint64]:
    """The same where all texts have this many characters before the first digit."""
    begin = _FIRST - leading
    before = rows[:, begin : begin + _WIDTH].copy().view(np.uint64)
    after = rows[:, begin - 1 : begin - 1 + _WIDTH].copy().view(np.uint64)  # the point moves them by one
    before &= _BEFORE.take(layout, axis=0)
    after &= _AFTER.take(layout, axis=0)
    before |= after
    before |= _FIXED.take(layout, axis=0)
    return before


def _shortest(fraction: NDArray[np.uint64], q: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(n,) the shortest decimals as digits·10^k; digits have 17 places, with zeros at their end."""
    is_halved = fraction == 0  # v is a power of two, and the next number below lies half as far
    k = (q * 1262611 - is_halved * 524031) >> 22
    shift = (q + ((-k * 1741647) >> 19) + 1).astype(np.uint64)
    vbl, vb, vbr = _scaled((fraction | np.uint64(1 << 52)) << np.uint64(2), shift, k, is_halved)
    is_odd = fraction & np.uint64(1)  # an even significand owns its bounds
    lower, upper = vbl + is_odd, vbr - is_odd
    s = vb >> np.uint64(2)
    s10 = s // np.uint64(10) * np.uint64(10)
    four = s << np.uint64(2)
    four10 = s10 << np.uint64(2)
    below, above = lower <= four10, four10 + np.uint64(40) <= upper
    near_below, near_above = lower <= four, four + np.uint64(4) <= upper
    is_nearer_above = vb - four + (s & np.uint64(1)) > np.uint64(2)  # on a tie, if s is odd
    is_above = np.where(near_below != near_above, near_above, is_nearer_above)
    digits = np.where(below != above, s10 + above * np.uint64(10), s + is_above)
    is_short = digits < np.uint64(10**16)
    return digits * _TENFOLD[is_short.view(np.uint8)], k - is_short


def _scaled(
    cb: NDArray[np.uint64], shift: NDArray[np.uint64], k: NDArray[np.int64], is_halved: NDArray[np.bool_]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """(n,) vbl, vb, vbr: (cb − 2)·g, cb·g, (cb + 2)·g, all by 2^(shift − 128) and rounded to odd.

    The product of 64 and 128 bits is put together from halves of 32; its 192 bits are kept, so that the bounds are one
    addition away.
    """
    at = _K_MAX - k
    g1, g0, a1, a0, b1, b0 = (table.take(at) for table in _POWERS)
    cp = cb << shift
    high, low = cp >> _HALF, cp & _LOW
    middle = b1 * low + ((b0 * low) >> _HALF)
    p1 = b1 * high + (middle >> _HALF) + ((b0 * high + (middle & _LOW)) >> _HALF)
    middle = a1 * low + ((a0 * low) >> _HALF)
    p2 = a1 * high + (middle >> _HALF) + ((a0 * high + (middle & _LOW)) >> _HALF)
    y0 = g1 * cp
    p1 += y0
    p2 += p1 < y0
    p0 = g0 * cp
    vb = p2 | (p1 > np.uint64(1))
    up = shift + np.uint64(1)
    down = up - is_halved
    d2, d1, d0 = g1 >> (np.uint64(64) - up), (g1 << up) | (g0 >> (np.uint64(64) - up)), g0 << up
    carry = p0 + d0 < d0
    r1 = p1 + d1
    r2 = p2 + d2 + (r1 < d1)
    r1 += carry
    r2 += carry & (r1 == 0)
    vbr = r2 | (r1 > np.uint64(1))
    if is_halved.any():
        d2, d1, d0 = g1 >> (np.uint64(64) - down), (g1 << down) | (g0 >> (np.uint64(64) - down)), g0 << down
    borrow = p0 < d0
    r1 = p1 - d1
    r2 = p2 - d2 - (p1 < d1)
    r2 -= borrow & (r1 == 0)
    r1 -= borrow
    return r2 | (r1 > np.uint64(1)), vb, vbr


def _characters(digits: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 32) rows with the 17 digits, and (n,) how many of them are used."""
    n = len(digits)
    upper = digits // np.uint64(10**8)
    lower = (digits - upper * np.uint64(10**8)).astype(np.int64)
    upper = upper.astype(np.int64)
    first = upper // 10**8
    upper -= first * 10**8
    rows = np.empty((n, 32), np.uint8)
    rows[:, _FIRST] = first + ord("0")
    groups = rows.view(np.uint32)
    used = np.full(n, _DIGITS)
    is_tail = np.ones(n, np.bool_)  # only zeros so far, from the end
    for place, pair in ((4, lower), (2, upper)):
        left = pair // 10_000
        right = pair - left * 10_000
        groups[:, place], groups[:, place + 1] = _GROUPS[left], _GROUPS[right]
        for group in (right, left):
            used -= _TRAILING[group] * is_tail
            is_tail &= group == 0
    return rows, used


def _powers() -> list[NDArray[np.uint64]]:
    """Of every −k, from the largest k down: g1, g0, and both in halves of 32 bits."""
    rows = []
    for exponent in range(-_K_MAX, -_K_MIN + 1):
        bits = (exponent * 1741647 >> 19) + 1 - 128  # g = 10^exponent·2^−bits lies in [2^127, 2^128)
        top, bottom = 10 ** max(exponent, 0) << max(-bits, 0), 10 ** max(-exponent, 0) << max(bits, 0)
        g = -(-top // bottom)
        rows.append([g >> 64, g & (1 << 64) - 1, *(g >> place & 0xFFFFFFFF for place in (96, 64, 32, 0))])
    return list(np.array(rows, np.uint64).T.copy())


def _layout(sign: bytes, point: int, used: int) -> tuple[int, bytes, bytes, bytes]:
    """Of a text: the characters before its first digit, which digits stand before and after the point, and the rest."""
    if point <= 0:
        leading = sign + b"0." + b"0" * -point
        return len(leading), _mask(len(leading), used), b"", leading
    begin, after = len(sign), max(used - point, 1)  # a point is followed by one digit at least
    return begin, _mask(begin, point), _mask(begin + point + 1, after), sign + b"\0" * point + b"."


def _mask(begin: int, n: int) -> bytes:
    return b"\0" * begin + b"\xff" * n


_LAYOUTS_PLAIN = [(point, used) for point in range(_POINT_MIN, _POINT_MAX + 1) for used in range(_DIGITS + 1)]
_ZERO_LAYOUT = len(_LAYOUTS_PLAIN)
_LAYOUTS = _ZERO_LAYOUT + 1  # and as many with a minus sign


def _layouts() -> tuple[NDArray[np.int64], ...]:
    layouts: list[tuple[int, bytes, bytes, bytes]] = []
    for sign in (b"", b"-"):
        layouts += [_layout(sign, point, used) for point, used in _LAYOUTS_PLAIN]
        layouts.append((0, b"", b"", sign + b"0.0"))
    leading, *texts = zip(*layouts, strict=True)
    tables = [np.frombuffer(b"".join(one.ljust(_WIDTH, b"\0") for one in column), np.uint64) for column in texts]
    return np.array(leading), *(table.reshape(-1, _WIDTH // 8) for table in tables)


_LEADING, _BEFORE, _AFTER, _FIXED = _layouts()
_POWERS = _powers()
_TENFOLD = np.array([1, 10], np.uint64)
_GROUPS = np.frombuffer(b"".join(b"%04d" % i for i in range(10_000)), np.uint32)
_TRAILING = np.array([4 if i == 0 else len(str(i)) - len(str(i).rstrip("0")) for i in range(10_000)])
