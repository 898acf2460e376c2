"""Ticks, forecasts and dead letters in, fields of Redis entries out (docs/wire.md is the contract).

Numbers are written as the shortest decimal that reads back equal, which is Python's repr of a float.
"""

from __future__ import annotations

import json
from itertools import chain, compress, repeat
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, TypeAlias

from foretick.core.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.core.records import Forecasts
    from foretick.ports.wire.columns import DeadLetter, Decoded

Published: TypeAlias = tuple[bytes, tuple[bytes, ...]]  # entry id, (field, value, field, value, …)

SHOWN_MAX_CHARS = 1000  # of each raw field in a dead letter: enough to know it by, and 1 MB stays out of the stream
SHOWN_MAX_FIELDS = 64  # of a dead letter; a tick has three
_SERIES_AT = 1  # of the flat fields


def forecast_fields(decoded: Decoded, forecasts: Forecasts) -> list[Published]:
    """The entry id and the flat fields of every forecast, in entry-id order; refused ticks have none."""
    columns = _forecast_columns(decoded, forecasts)
    flat = zip(*chain.from_iterable((repeat(name), column) for name, column in columns.items()), strict=False)
    pairs = zip(decoded.ids, flat, strict=False)  # the names repeat for ever: strict would never be met
    return list(compress(pairs, (forecasts.verdict == Verdict.FORECAST).tolist()))


def latest_fields(published: Iterable[Published]) -> dict[bytes, bytes]:
    """The last forecast of every series as JSON with the keys of the wire, from what `forecast_fields` gave."""
    last = {flat[_SERIES_AT]: flat for _, flat in published}
    templates: dict[tuple[bytes, ...], bytes] = {}  # by the names of the fields: few layouts, many series
    latest = {}
    for series, flat in last.items():
        names = flat[::2]
        if names not in templates:
            templates[names] = _json_template(names)
        latest[series] = templates[names] % (encode_basestring(series.decode()).encode(), *flat[3::2])
    return latest


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


def _forecast_columns(decoded: Decoded, forecasts: Forecasts) -> dict[bytes, Iterable[bytes]]:
    """The fields of a forecast in the order of the contract; intervals and further horizons are more columns."""
    ticks = decoded.ticks
    return {
        b"series": ticks.series,
        b"ts": _decimals(ticks.ts.tolist()),
        b"y": _decimals(ticks.y.tolist()),
        b"yhat": _decimals(forecasts.yhat.tolist()),
        b"stage": [b"warm" if warm else b"cold" for warm in forecasts.warm.tolist()],
    }


def _decimals(numbers: list[float] | list[int]) -> list[bytes]:
    """Each number as text; one repr of the whole list takes four fifths of the time of one per number."""
    return repr(numbers).encode()[1:-1].split(b", ") if numbers else []


def _json_template(names: tuple[bytes, ...]) -> bytes:
    """A JSON object with a place for every field; the series comes first, and comes quoted."""
    return b"{%b}" % b",".join(b'"stage":"%b"' if name == b"stage" else b'"%b":%%b' % name for name in names)


def _cut(raw: bytes) -> str:
    """At most `SHOWN_MAX_CHARS` characters of a raw text."""
    text = raw[: 4 * SHOWN_MAX_CHARS + 4].decode(errors="backslashreplace")  # four bytes make a character at most
    return text if len(text) <= SHOWN_MAX_CHARS else text[:SHOWN_MAX_CHARS] + "…"
