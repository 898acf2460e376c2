"""The forecasts of a turn as ready requests: the bytes that `forecast_fields` and `hiredis.pack_command` would come to.

They are written for all ticks at once, column by column (`cells.py`); of a few ticks one by one (`few.py`).
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np

from foretick.core.records import Verdict
from foretick.ports.wire.cells import Cells, cells, constant, heading, pages, rows, sized
from foretick.ports.wire.decimals import decimals, whole
from foretick.ports.wire.entry import PRINTABLE
from foretick.ports.wire.few import FEW_TICKS, publications_of_few
from foretick.ports.wire.packed import Packed, Publication
from foretick.ports.wire.publish import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from foretick.core.records import Forecasts
    from foretick.ports.wire.decoded import Decoded

T = TypeVar("T")
Places: TypeAlias = "Mapping[bytes, tuple[bytes, bytes | None]]"

_NEEDS_NO_ESCAPE = bytes(byte for byte in PRINTABLE if byte not in b'"\\')
_FIXED_WORDS = 9  # of an XADD: its name, key and id, and the fields series, ts and stage
_LINE_END = constant(b"\r\n")
_STAGES = cells([b"\r\n$5\r\nstage\r\n$4\r\n%b\r\n" % stage for stage in (b"cold", b"warm")])
_STAGES_IN_JSON = cells([b',"stage":"%b"}' % stage for stage in (b"cold", b"warm")])


class _Told(NamedTuple):
    """(m,) columns of the forecasts, those of one stream together; a number that there is not is an empty text."""

    ids: Cells
    names: Sequence[bytes]
    series: Cells
    ts: Cells
    numbers: dict[bytes, Cells]
    warm: NDArray[np.int64]

    def at(self, positions: list[int]) -> _Told:
        """Those at these positions, each of which occurs once."""
        if len(positions) == len(self.names):  # and then they are in order
            return self
        at = np.array(positions)
        ids, series, ts = (column.at(at) for column in (self.ids, self.series, self.ts))
        numbers = {name: column.at(at) for name, column in self.numbers.items()}
        return _Told(ids, _picked(self.names, at), series, ts, numbers, self.warm[at])


def publications(decoded: Decoded, forecasts: Forecasts, places: Places) -> dict[bytes, Publication]:
    """What every stream is told, by its key; those that are told nothing are left out.

    Args:
        decoded: the ticks.
        forecasts: the engine's answer to them.
        places: by stream, the key that takes its forecasts, and that of the hash of last ones, if it is wanted.
    """
    if len(decoded.ids) <= FEW_TICKS:
        return publications_of_few(decoded, forecasts, places)
    at = np.flatnonzero(forecasts.verdict == Verdict.FORECAST.value)
    if not len(at):
        return {}
    ordered, counts = _by_stream(decoded.streams, at)
    told = _told(decoded, forecasts, ordered)
    stops = np.cumsum(list(counts.values()))
    warm = np.diff(told.warm.cumsum()[stops - 1], prepend=0).tolist()
    xadds = _xadds(told, {places[stream][0]: n for stream, n in counts.items()})
    latest = _hsets(told, {stream: (n, places[stream][1]) for stream, n in counts.items()})
    return {
        stream: Publication(packed, latest.get(stream), packed.count - n_warm, n_warm)
        for stream, packed, n_warm in zip(counts, xadds, warm, strict=True)
    }


def _by_stream(streams: list[bytes], at: NDArray[np.int64]) -> tuple[NDArray[np.int64] | slice, dict[bytes, int]]:
    """The positions, those of one stream after those of another, and how many each stream has."""
    if streams.count(streams[0]) == len(streams):
        return slice(None) if len(at) == len(streams) else at, {streams[0]: len(at)}
    picked = _picked(streams, at)
    numbers = {stream: i for i, stream in enumerate(dict.fromkeys(picked))}
    which = np.fromiter(map(numbers.__getitem__, picked), np.int64, len(picked))
    return at[np.argsort(which, kind="stable")], dict(zip(numbers, np.bincount(which).tolist(), strict=True))


def _picked(items: Sequence[bytes], at: NDArray[np.int64] | slice) -> Sequence[bytes]:
    """The items at these positions."""
    if isinstance(at, slice):
        return items[at]
    return itemgetter(*at.tolist())(items) if len(at) > 1 else [items[i] for i in at.tolist()]


def _told(decoded: Decoded, forecasts: Forecasts, at: NDArray[np.int64] | slice) -> _Told:
    ticks, values = decoded.ticks, forecasts.values[at].T
    names = [name.encode() for name in forecasts.names]
    if ticks.y.ndim == 1:  # else the engine tells which features are forecast
        values, names = np.vstack((ticks.y[at], values)), [b"y", *names]
    texts, sizes = (column.reshape(values.shape) for column in decimals(values.ravel()))
    numbers = dict(zip(names, map(Cells, texts, sizes), strict=True))
    series = _picked(ticks.series, at)
    warm = forecasts.warm[at].astype(np.int64)
    return _Told(cells(_picked(decoded.ids, at)), series, cells(series), whole(ticks.ts[at]), numbers, warm)


def _xadds(told: _Told, counts: Mapping[bytes, int]) -> list[Packed]:
    """The XADDs to each key, which has so many of the forecasts."""
    m = len(told.names)
    words = _FIXED_WORDS + 2 * np.count_nonzero([cells.sizes for cells in told.numbers.values()], axis=0)
    keys = cells([b"$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(key), key) for key in counts])
    ids = rows(m, [*sized(b"", told.ids), _LINE_END])
    columns = [
        _lengths(len(told.numbers)).at(words),
        keys.at(np.repeat(np.arange(len(counts)), list(counts.values()))),
        ids,
        *sized(b"$6\r\nseries\r\n", told.series),
        *sized(b"\r\n$2\r\nts\r\n", told.ts),
    ]
    for name, texts in told.numbers.items():
        columns += sized(b"\r\n$%d\r\n%b\r\n" % (len(name), name), texts)
    requests = pages(rows(m, [*columns, _STAGES.at(told.warm)]), list(counts.values()))
    replies = map(bytes, pages(ids, list(counts.values())))
    return [Packed(*of_key) for of_key in zip(requests, counts.values(), replies, strict=True)]


@lru_cache(maxsize=16)
def _lengths(numbers: int) -> Cells:
    """How many words follow, by how many these are."""
    return cells([b"*%d\r\n" % n for n in range(_FIXED_WORDS + 2 * numbers + 1)])


def _hsets(told: _Told, wanted: Mapping[bytes, tuple[int, bytes | None]]) -> dict[bytes, Packed]:
    """By stream the HSET of the last forecast of each series: of streams with so many forecasts, and a key."""
    last: dict[bytes, list[int]] = {}
    begin = 0
    for stream, (n, key) in wanted.items():
        if key is not None:
            last[stream] = list(dict(zip(told.names[begin : begin + n], range(begin, begin + n), strict=True)).values())
        begin += n
    if not last:
        return {}
    counts = [len(positions) for positions in last.values()]
    bodies = pages(_pairs(told.at([i for positions in last.values() for i in positions])), counts)
    packed = {}
    for stream, n, body in zip(last, counts, bodies, strict=True):
        key = wanted[stream][1] or b""
        head = b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n" % (2 + 2 * n, len(key), key)
        packed[stream] = Packed(b"".join([head, body]), 1)
    return packed


def _pairs(told: _Told) -> Cells:
    """Each of the forecasts as a pair of words: its series, and itself as JSON with the keys of the wire."""
    columns = [constant(b'{"series":"'), _escaped(told), constant(b'","ts":'), told.ts]
    for name, texts in told.numbers.items():
        columns += [_json_name(name, texts.sizes), texts]
    columns.append(_STAGES_IN_JSON.at(told.warm))
    m = len(told.names)
    sizes = sum((column.sizes for column in columns), np.zeros(m, np.int64))
    return rows(m, [*sized(b"", told.series), heading(b"\r\n", sizes), *columns, _LINE_END])


def _json_name(name: bytes, sizes: NDArray[np.int64]) -> Cells:
    """What stands before each number: nothing, if there is no number."""
    column = constant(b",%b:" % quoted(name))
    return column if sizes.all() else Cells(column.texts, column.sizes * (sizes > 0))


def _escaped(told: _Told) -> Cells:
    """The series as JSON strings, without the quotes."""
    if not b"".join(told.names).translate(None, _NEEDS_NO_ESCAPE):
        return told.series
    return cells([quoted(name)[1:-1] for name in told.names])
