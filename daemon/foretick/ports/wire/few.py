"""The requests of a few ticks, one by one: fifty calls of numpy take longer, and a live turn has a tick or two."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from json.encoder import encode_basestring
from math import isnan
from typing import TYPE_CHECKING, TypeAlias

from foretick.ports.wire.packed import Packed, Publication

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.core.records import Forecasts
    from foretick.ports.wire.decoded import Decoded

FEW_TICKS = 60  # beyond, columns are quicker

_Names: TypeAlias = tuple[bytes, ...]  # of the numbers that a forecast has
_STAGES = (b"cold", b"warm")


@dataclass(slots=True)
class _Stream:
    """What a stream is told so far; `last` has the names and texts of each series' last forecast."""

    key: bytes
    latest_key: bytes | None
    requests: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    warm: int = 0
    last: dict[bytes, tuple[_Names, tuple[bytes, ...]]] = field(default_factory=dict)

    def publication(self) -> Publication:
        n = len(self.requests)
        forecasts = Packed(b"".join(self.requests), n, b"".join(self.replies))
        return Publication(forecasts, self._hset(), n - self.warm, self.warm)

    def _hset(self) -> Packed | None:
        if self.latest_key is None:
            return None
        key, last = self.latest_key, self.last
        words = [b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n" % (2 + 2 * len(last), len(key), key)]
        for series, (names, texts) in last.items():
            shown = _json_form(names) % (encode_basestring(series.decode()).encode(), *texts)
            words.append(b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(series), series, len(shown), shown))
        return Packed(b"".join(words), 1)


def publications_of_few(
    decoded: Decoded, forecasts: Forecasts, at: list[int], places: Mapping[bytes, tuple[bytes, bytes | None]]
) -> dict[bytes, Publication]:
    """What every stream is told of the ticks at these positions."""
    told: dict[bytes, _Stream] = {}
    ticks, names = decoded.ticks, _names(forecasts.names, has_y=decoded.ticks.y.ndim == 1)
    for i in at:
        stream, id_, series = decoded.streams[i], decoded.ids[i], ticks.series[i]
        known, numbers = names, forecasts.values[i].tolist()
        if ticks.y.ndim == 1:  # else the engine tells which features are forecast
            numbers.insert(0, ticks.y[i].item())
        if any(map(isnan, numbers)):
            known = tuple([name for name, number in zip(names, numbers, strict=True) if not isnan(number)])
            numbers = [number for number in numbers if not isnan(number)]
        warm = bool(forecasts.warm[i])
        texts = (*repr([ticks.ts[i].item(), *numbers]).encode()[1:-1].split(b", "), _STAGES[warm])
        to = told.get(stream) or told.setdefault(stream, _Stream(*places[stream]))
        words = (to.key, id_, series, *texts)
        sized = chain.from_iterable(zip(map(len, words), words, strict=True))
        to.requests.append(_xadd_form(known) % tuple(sized))
        to.replies.append(b"$%d\r\n%b\r\n" % (len(id_), id_))
        to.warm += warm
        to.last[series] = known, texts
    return {stream: to.publication() for stream, to in told.items()}


@lru_cache(maxsize=16)
def _names(names: tuple[str, ...], *, has_y: bool) -> _Names:
    return (b"y",) * has_y + tuple(name.encode() for name in names)


@lru_cache(maxsize=256)  # a few for each partition
def _xadd_form(names: _Names) -> bytes:
    """An XADD with a place for the length of each varying word, and the word."""
    fields = [b"series", b"ts", *names, b"stage"]
    texts = b"".join(b"$%d\r\n%b\r\n$%%d\r\n%%b\r\n" % (len(name), name) for name in fields)
    return b"*%d\r\n$4\r\nXADD\r\n$%%d\r\n%%b\r\n$%%d\r\n%%b\r\n%b" % (3 + 2 * len(fields), texts)


@lru_cache(maxsize=256)
def _json_form(names: _Names) -> bytes:
    """A JSON object with a place for the series in its quotes, the time, each number and the stage."""
    fields = b"".join(b',"%b":%%b' % name for name in names)
    return b'{"series":%%b,"ts":%%b%b,"stage":"%%b"}' % fields
