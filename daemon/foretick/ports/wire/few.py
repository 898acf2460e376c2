"""The requests of a few ticks, one by one: fifty calls of numpy take longer, and a live turn has a tick or two."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from math import isnan
from typing import TYPE_CHECKING, TypeAlias

from foretick.core.records import Verdict
from foretick.ports.wire.packed import Packed, Publication
from foretick.ports.wire.publish import quoted

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

    def add(self, id_: bytes, series: bytes, ts: int, numbers: list[float], names: _Names, *, warm: bool) -> None:
        if any(map(isnan, numbers)):
            names = tuple([name for name, number in zip(names, numbers, strict=True) if not isnan(number)])
            numbers = [number for number in numbers if not isnan(number)]
        texts = (*repr([ts, *numbers]).encode()[1:-1].split(b", "), _STAGES[warm])
        words = (self.key, id_, series, *texts)
        self.requests.append(_xadd_form(names) % tuple(chain.from_iterable(zip(map(len, words), words, strict=True))))
        self.replies.append(b"$%d\r\n%b\r\n" % (len(id_), id_))
        self.warm += warm
        self.last[series] = names, texts

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
            shown = _json_form(names) % (quoted(series), *texts)
            words.append(b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(series), series, len(shown), shown))
        return Packed(b"".join(words), 1)


def publications_of_few(
    decoded: Decoded, forecasts: Forecasts, places: Mapping[bytes, tuple[bytes, bytes | None]]
) -> dict[bytes, Publication]:
    """What every stream is told."""
    ticks, has_y = decoded.ticks, decoded.ticks.y.ndim == 1
    names, numbers = _names(forecasts.names, has_y=has_y), forecasts.values.tolist()
    if has_y:  # else the engine tells which features are forecast
        numbers = [[y, *row] for y, row in zip(ticks.y.tolist(), numbers, strict=True)]
    told: dict[bytes, _Stream] = {}
    columns = (decoded.streams, decoded.ids, ticks.series, ticks.ts.tolist(), numbers)
    answers = zip(forecasts.verdict.tolist(), forecasts.warm.tolist(), strict=True)
    for stream, id_, series, ts, row, (verdict, warm) in zip(*columns, answers, strict=True):
        if verdict != Verdict.FORECAST:
            continue
        if stream not in told:
            told[stream] = _Stream(*places[stream])
        told[stream].add(id_, series, ts, row, names, warm=warm)
    return {stream: to.publication() for stream, to in told.items()}


@lru_cache(maxsize=16)
def _names(names: tuple[str, ...], *, has_y: bool) -> _Names:
    return (b"y",) * has_y + tuple(name.encode() for name in names)


@lru_cache(maxsize=256)  # a few for each partition
def _xadd_form(names: _Names) -> bytes:
    """An XADD with a place for the length of each varying word, and the word."""
    fields = [b"series", b"ts", *names, b"stage"]
    heads = [b"$%d\r\n%b\r\n" % (len(name), name.replace(b"%", b"%%")) for name in fields]
    place = b"$%d\r\n%b\r\n"
    words = b"".join(head + place for head in heads)
    return b"*" + str(3 + 2 * len(fields)).encode() + b"\r\n$4\r\nXADD\r\n" + place + place + words


@lru_cache(maxsize=256)
def _json_form(names: _Names) -> bytes:
    """A JSON object with a place for the quoted series, the time, each number and the stage."""
    numbers = [b",%b:%%b" % quoted(name).replace(b"%", b"%%") for name in names]
    return b'{"series":%b,"ts":%b' + b"".join(numbers) + b',"stage":"%b"}'
