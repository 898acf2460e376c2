"""Ticks, forecasts and dead letters in, fields of Redis entries out (docs/wire.md is the contract).

Numbers are written as the shortest decimal that reads back equal, which is Python's repr of a float.
"""

from __future__ import annotations

import json
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foretick.core.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from foretick.core.records import Forecasts
    from foretick.ports.wire.decoded import DeadLetter, Decoded

Published: TypeAlias = tuple[bytes, tuple[bytes, ...]]  # entry id, (field, value, field, value, …)

SHOWN_MAX_CHARS = 1000  # of each raw field in a dead letter: enough to know it by, and 1 MB stays out of the stream
SHOWN_MAX_FIELDS = 64  # of a dead letter; a tick has three


def forecast_fields(decoded: Decoded, forecasts: Forecasts) -> list[Published]:
    """The entry id and the flat fields of every forecast, in entry-id order; refused ticks have none."""
    published = np.flatnonzero(forecasts.verdict == Verdict.FORECAST.value)
    known = ~np.isnan(forecasts.values[published])
    if known.all():
        return _published(decoded, forecasts, published, forecasts.names)
    found: list[tuple[int, Published]] = []
    for pattern in np.unique(known, axis=0):
        members = published[(known == pattern).all(axis=1)]
        names = tuple(compress(forecasts.names, pattern.tolist()))
        found += zip(members.tolist(), _published(decoded, forecasts, members, names), strict=True)
    return [pair for _, pair in sorted(found, key=itemgetter(0))]


def _published(
    decoded: Decoded, forecasts: Forecasts, at: NDArray[np.int64], names: tuple[str, ...]
) -> list[Published]:
    """Those at these positions, with these columns, which all of them have."""
    columns = _forecast_columns(decoded, forecasts, at, names)
    flat = zip(*chain.from_iterable((repeat(name), column) for name, column in columns.items()), strict=False)
    ids = _picked(decoded.ids, at)
    return list(zip(ids, flat, strict=False))  # the names repeat for ever: strict would never be met


def dead_fields(letter: DeadLetter) -> tuple[bytes, ...]:
    r"""The flat fields of a dead letter: reason, detail, and the raw entry as a JSON object.

    Bytes that are not UTF-8 are shown as `\xff`; of a field that occurs twice the first is shown; long ones are cut.
    """
    pairs = list(zip(letter.fields[::2], letter.fields[1::2], strict=False))
    shown: dict[str, str] = {}
    for name, text in pairs[:SHOWN_MAX_FIELDS]:
        shown.setdefault(_cut(name), _cut(text))
    if len(pairs) > SHOWN_MAX_FIELDS:
        shown["…"] = f"{len(pairs) - SHOWN_MAX_FIELDS} more fields"
    raw = json.dumps(shown, ensure_ascii=False)
    return (b"reason", letter.reason.encode(), b"detail", letter.detail.encode(), b"fields", raw.encode())


def _forecast_columns(
    decoded: Decoded, forecasts: Forecasts, at: NDArray[np.int64], names: tuple[str, ...]
) -> dict[bytes, Iterable[bytes]]:
    """The fields of a forecast in the order of the contract."""
    ticks = decoded.ticks
    columns = dict(zip(forecasts.names, forecasts.values[at].T.tolist(), strict=True))
    told = {name.encode(): _decimals(columns[name]) for name in names}
    if ticks.y.ndim == 1:  # else the engine tells which features are forecast
        told = {b"y": _decimals(ticks.y[at].tolist())} | told
    return {
        b"series": _picked(ticks.series, at),
        b"ts": _decimals(ticks.ts[at].tolist()),
        **told,
        b"stage": [b"warm" if warm else b"cold" for warm in forecasts.warm[at].tolist()],
    }


def _picked(items: list[bytes], at: NDArray[np.int64]) -> list[bytes]:
    """The items at these positions, ascending; the list itself where that is all of it."""
    return items if len(at) == len(items) else [items[i] for i in at.tolist()]


def _decimals(numbers: list[float] | list[int]) -> list[bytes]:
    """Each number as text; one repr of the whole list takes four fifths of the time of one per number."""
    return repr(numbers).encode()[1:-1].split(b", ") if numbers else []


def quoted(text: bytes) -> bytes:
    """UTF-8 as a JSON string."""
    return encode_basestring(text.decode()).encode()


def _cut(raw: bytes) -> str:
    """At most `SHOWN_MAX_CHARS` characters of a raw text."""
    text = raw[: 4 * SHOWN_MAX_CHARS + 4].decode(errors="backslashreplace")  # four bytes make a character at most
    return text if len(text) <= SHOWN_MAX_CHARS else text[:SHOWN_MAX_CHARS] + "…"
