"""The forecasts of a turn as ready requests: the bytes that `forecast_fields` and `hiredis.pack_command` would come to.

Everything is done column by column, for all ticks of a turn at once. What stands before a value and says how long it is
comes from a table by its length, so that a request is a row of pieces.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, TypeVar

import hiredis
import numpy as np

from foretick.core.records import Verdict
from foretick.ports.wire.decimals import decimals, whole
from foretick.ports.wire.entry import PRINTABLE
from foretick.ports.wire.publish import forecast_fields, latest_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from foretick.core.records import Forecasts
    from foretick.ports.wire.columns import Decoded
    from foretick.ports.wire.publish import Published

T = TypeVar("T")

FEW_TICKS = 8  # written one by one: fifty calls of numpy take longer, and a live turn has a tick or two
SIZES = 256  # lengths that a table knows: numbers, ids and series are shorter
_pack_command: Any = hiredis.pack_command  # its stub knows tuples of one element only
_NEEDS_NO_ESCAPE = bytes(byte for byte in PRINTABLE if byte not in b'"\\')
_STAGES = (b"cold", b"warm")
_FIXED_FIELDS = 3  # of a forecast: series, ts, stage


@dataclass(frozen=True, slots=True)
class Packed:
    """Commands in the form in which Redis reads them.

    Attributes:
        request: their bytes.
        count: how many they are.
        replies: the bytes that EXEC answers for them when all goes well; empty where that is not known beforehand.
    """

    request: bytes
    count: int
    replies: bytes = b""

    @property
    def commands(self) -> list[tuple[bytes, ...]]:
        """One by one again: Redis reads and writes in the same form."""
        reader: Any = hiredis.Reader()  # its stub knows no lists
        reader.feed(self.request)
        return [tuple(reader.gets()) for _ in range(self.count)]


@dataclass(frozen=True, slots=True)
class Publication:
    """What one stream is told.

    Attributes:
        forecasts: the XADDs.
        latest: one HSET with the last forecast of each series; none where nobody asked.
        cold: forecasts that are naive, for want of ticks.
        warm: the others.
    """

    forecasts: Packed
    latest: Packed | None
    cold: int
    warm: int


@dataclass(frozen=True, slots=True)
class _Told:
    """(m,) columns of the ticks that have a forecast."""

    streams: list[bytes]
    ids: list[bytes]
    series: list[bytes]
    ts: list[bytes]
    warm: list[bool]

    def at(self, positions: list[int]) -> _Told:
        streams, ids, series, ts = (
            [column[i] for i in positions] for column in (self.streams, self.ids, self.series, self.ts)
        )
        return _Told(streams, ids, series, ts, [self.warm[i] for i in positions])


@dataclass(slots=True)
class _Texts:
    """(m,) what the forecasts come to.

    Attributes:
        requests: of each XADD what follows its key.
        words: of each XADD how many words it has.
        objects: the forecast as JSON, of those that are the last of their series.
    """

    requests: list[bytes]
    words: list[int]
    objects: dict[int, bytes]


def publications(
    decoded: Decoded, forecasts: Forecasts, places: Mapping[bytes, tuple[bytes, bytes | None]]
) -> dict[bytes, Publication]:
    """What every stream is told, by its key; those that are told nothing are left out.

    Args:
        decoded: the ticks.
        forecasts: the engine's answer to them.
        places: by stream, the key that takes its forecasts, and that of the hash of last ones, if it is wanted.
    """
    at = np.flatnonzero(forecasts.verdict == Verdict.FORECAST.value)
    if not len(at):
        return {}
    if len(at) <= FEW_TICKS:
        return _one_by_one(decoded, forecasts, at.tolist(), places)
    ticks = decoded.ticks
    told = _Told(decoded.streams, decoded.ids, ticks.series, whole(ticks.ts), forecasts.warm.tolist())
    numbers, names = forecasts.values, tuple(name.encode() for name in forecasts.names)
    if ticks.y.ndim == 1:  # else the engine tells which features are forecast
        numbers, names = np.column_stack((ticks.y, numbers)), (b"y", *names)
    if len(at) < len(ticks):
        told, numbers = told.at(at.tolist()), numbers[at]
    members = _by_stream(told.streams)
    last = {
        stream: dict(zip(_picked(told.series, mine), mine, strict=True))
        for stream, mine in members.items()
        if places[stream][1] is not None
    }
    texts = _written(told, numbers, names, sorted(i for of in last.values() for i in of.values()))
    return {
        stream: Publication(
            _forecasts(told, texts, mine, places[stream][0]),
            _latest(last[stream], texts, key) if (key := places[stream][1]) is not None else None,
            cold=len(mine) - (warm := sum(_picked(told.warm, mine))),
            warm=warm,
        )
        for stream, mine in members.items()
    }


def _one_by_one(
    decoded: Decoded, forecasts: Forecasts, at: list[int], places: Mapping[bytes, tuple[bytes, bytes | None]]
) -> dict[bytes, Publication]:
    """The same, as the contract says it."""
    published: dict[bytes, list[Published]] = defaultdict(list)
    warm: Counter[bytes] = Counter()
    for i, one in zip(at, forecast_fields(decoded, forecasts), strict=True):
        stream = decoded.streams[i]
        published[stream].append(one)
        warm[stream] += bool(forecasts.warm[i])
    return {
        stream: Publication(
            _packed([(b"XADD", places[stream][0], entry_id, *flat) for entry_id, flat in mine]),
            _packed([(b"HSET", key, *chain.from_iterable(latest_fields(mine).items()))])
            if (key := places[stream][1]) is not None
            else None,
            cold=len(mine) - warm[stream],
            warm=warm[stream],
        )
        for stream, mine in published.items()
    }


def _packed(commands: list[tuple[bytes, ...]]) -> Packed:
    """Commands of one kind; an XADD is answered by its id."""
    replies = [b"$%d\r\n%b\r\n" % (len(id_), id_) for name, _, id_, *_ in commands if name == b"XADD"]
    return Packed(b"".join(map(_pack_command, commands)), len(commands), b"".join(replies))


def _by_stream(streams: list[bytes]) -> dict[bytes, Sequence[int]]:
    """The positions of each stream."""
    if streams.count(streams[0]) == len(streams):
        return {streams[0]: range(len(streams))}
    members: dict[bytes, list[int]] = defaultdict(list)
    for i, stream in enumerate(streams):
        members[stream].append(i)
    return dict(members)


def _picked(column: list[T], at: Sequence[int]) -> list[T]:
    """The items at these positions; the list itself where that is all of it."""
    return column if len(at) == len(column) else [column[i] for i in at]


def _forecasts(told: _Told, texts: _Texts, at: Sequence[int], key: bytes) -> Packed:
    """The XADDs of one stream."""
    words = _picked(texts.words, at)
    heads = {n: b"*%d\r\n$4\r\nXADD\r\n$%d\r\n%b" % (n, len(key), key) for n in set(words)}
    rows = zip(map(heads.__getitem__, words), _picked(texts.requests, at), strict=True)
    replies = _rows([*_sized(b"", _picked(told.ids, at)), repeat(b"\r\n")])
    return Packed(b"".join(chain.from_iterable(rows)), len(at), b"".join(replies))


def _latest(last: Mapping[bytes, int], texts: _Texts, key: bytes) -> Packed:
    """The HSET of the last forecast of each series."""
    head = b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b" % (2 + 2 * len(last), len(key), key)
    objects = [texts.objects[i] for i in last.values()]
    pairs = _rows([*_sized(b"\r\n", list(last)), *_sized(b"\r\n", objects)])
    return Packed(b"".join([head, *pairs, b"\r\n"]), 1)


def _written(told: _Told, numbers: NDArray[np.float64], names: tuple[bytes, ...], last: list[int]) -> _Texts:
    """Put forecasts into words, those together that have the same numbers; those of `last` (ascending) as JSON, too."""
    m, n = numbers.shape
    known = ~np.isnan(numbers)
    if known.all():
        columns = _columns(numbers)
        requests = _requests(told, names, columns)
        if len(last) < m:
            told, columns = told.at(last), [[column[i] for i in last] for column in columns]
        return _Texts(requests, [_words(n)] * m, dict(zip(last, _objects(told, names, columns), strict=True)))
    texts = _Texts([b""] * m, [0] * m, {})
    layouts = known @ (1 << np.arange(n))  # a number for each set of columns
    wanted = set(last)
    for layout in np.unique(layouts).tolist():
        at = np.flatnonzero(layouts == layout)
        rows, has = at.tolist(), known[at[0]]
        mine = [j for j, i in enumerate(rows) if i in wanted]
        part = _written(told.at(rows), numbers[at][:, has], tuple(compress(names, has)), mine)
        for i, request, words in zip(rows, part.requests, part.words, strict=True):
            texts.requests[i], texts.words[i] = request, words
        texts.objects |= {rows[j]: text for j, text in part.objects.items()}
    return texts


def _columns(numbers: NDArray[np.float64]) -> list[list[bytes]]:
    """(m, n) numbers -> n columns of m texts."""
    m, n = numbers.shape
    flat = decimals(numbers.T.ravel())
    return [flat[i * m : (i + 1) * m] for i in range(n)]


def _words(numbers: int) -> int:
    """Of an XADD with so many numbers: its name, key and id, and two for each field."""
    return 3 + 2 * (_FIXED_FIELDS + numbers)


def _requests(told: _Told, names: tuple[bytes, ...], columns: list[list[bytes]]) -> list[bytes]:
    """Of each XADD what follows its key."""
    pieces = [*_sized(b"\r\n", told.ids), *_field(b"series", told.series), *_field(b"ts", told.ts)]
    for name, column in zip(names, columns, strict=True):
        pieces += _field(name, column)
    stages = [b"\r\n$5\r\nstage\r\n$4\r\n%b\r\n" % stage for stage in _STAGES]
    return _rows([*pieces, map(stages.__getitem__, told.warm)])


def _objects(told: _Told, names: tuple[bytes, ...], columns: list[list[bytes]]) -> list[bytes]:
    """Each forecast as JSON, with the keys of the wire."""
    pieces: list[Iterable[bytes]] = [repeat(b'{"series":'), _quoted(told.series), repeat(b',"ts":'), told.ts]
    for name, column in zip(names, columns, strict=True):
        pieces += [repeat(b',"%b":' % name), column]
    ends = [b',"stage":"%b"}' % stage for stage in _STAGES]
    return _rows([*pieces, map(ends.__getitem__, told.warm)])


def _rows(pieces: list[Iterable[bytes]]) -> list[bytes]:
    """Row by row what the columns of pieces come to."""
    return list(map(b"".join, zip(*pieces, strict=False)))  # those that repeat have no end


def _field(name: bytes, texts: list[bytes]) -> Iterator[Iterable[bytes]]:
    """Pieces for one field of an entry."""
    return _sized(b"\r\n$%d\r\n%b\r\n" % (len(name), name), texts)


def _sized(before: bytes, texts: list[bytes]) -> Iterator[Iterable[bytes]]:
    """Two columns of pieces: what stands before each text with the length that it has, and the texts."""
    sizes = list(map(len, texts))
    least, most = min(sizes), max(sizes)
    if least == most:
        yield repeat(b"%b$%d\r\n" % (before, most))
    elif most < SIZES:
        yield map(_headings(before).__getitem__, sizes)
    else:
        yield (b"%b$%d\r\n" % (before, size) for size in sizes)
    yield texts


@lru_cache(maxsize=256)  # a few for each name of a field; of streams there may be many, and they have none
def _headings(before: bytes) -> list[bytes]:
    return [b"%b$%d\r\n" % (before, size) for size in range(SIZES)]


def _quoted(names: list[bytes]) -> list[bytes]:
    """The names as JSON strings."""
    if not b"".join(names).translate(None, _NEEDS_NO_ESCAPE):
        return [b'"%b"' % name for name in names]
    return [encode_basestring(name.decode()).encode() for name in names]
