"""What entries were read as: columns of ticks for the engine, and dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foretick.core.records import Ticks, Verdict
from foretick.ports.wire.keys import series_key

if TYPE_CHECKING:
    from foretick.core.records import Forecasts
    from foretick.ports.wire.entry import Row


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry set aside as unusable.

    Attributes:
        id: the entry id.
        reason: metric label and `reason` field.
        detail: what is wrong, for a person.
        fields: the raw entry, fields and values in turn.
        stream: key of the stream that holds the entry.
    """

    id: bytes
    reason: str
    detail: str
    fields: Row
    stream: bytes = b""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a read holds; ticks and dead letters together are the entries, each in the order of the entries.

    Attributes:
        ticks: the well-formed ticks, as columns; their series by the ids that producers gave.
        ids: (n,) their entry ids.
        streams: (n,) keys of the streams they stand in.
        rows: (n,) their raw fields, for those that the engine refuses.
        dead: the entries that are no ticks.
    """

    ticks: Ticks
    ids: list[bytes]
    streams: list[bytes]
    rows: list[Row]
    dead: list[DeadLetter]


def keyed(decoded: Decoded) -> Ticks:
    """The ticks as the engine takes them: a series is the pair of stream and series id."""
    ticks, streams = decoded.ticks, decoded.streams
    if streams and streams.count(streams[0]) == len(streams):
        before = series_key(streams[0], b"")
        names = [before + series for series in ticks.series]
    else:
        names = list(map(series_key, streams, ticks.series))
    return Ticks(names, ticks.ms, ticks.ts, ticks.stamped, ticks.y)


def refusals(decoded: Decoded, forecasts: Forecasts) -> list[DeadLetter]:
    """Dead letters of the ticks that the engine refused (late, duplicate, too many series)."""
    return [
        DeadLetter(decoded.ids[i], verdict.reason, _REFUSALS[verdict], decoded.rows[i], decoded.streams[i])
        for i in np.flatnonzero(forecasts.verdict).tolist()
        for verdict in (Verdict(int(forecasts.verdict[i])),)
    ]


_REFUSALS = {
    Verdict.LATE: "its time is before that of the series' last tick",
    Verdict.DUPLICATE: "its time equals that of the series' last tick",
    Verdict.TOO_MANY_SERIES: "a new series, and `max_series` are known already",
    Verdict.MISSING_FIELD: "a feature that its group of series needs is not there",
}
