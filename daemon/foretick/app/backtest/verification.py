"""The proof that a backtest is the daemon: what it published for a stream, bit for bit against what it should have.

The engine is led through the input from where the daemon began, in passes of another size than any of its turns, and
each of its forecasts is written as the daemon writes it. Under the same entry id the same bytes have to stand.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from foretick.app.assembly import fields_of
from foretick.app.backtest.recorded import bearable
from foretick.app.backtest.running import fresh_engine
from foretick.app.progress import progress
from foretick.ports import wire
from foretick.ports.positions import later
from foretick.ports.streams import HEAD, id_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foretick.app.settings import Settings
    from foretick.ports.recordings_stream import RecordedStream
    from foretick.ports.streams import Entry

    Fields = tuple[bytes, ...]

NAMED_MAX = 5  # differences that are shown whole


@dataclass(slots=True)
class Verification:
    """What became of the forecasts of a stream.

    Attributes:
        stream: its key.
        entries: entries that the daemon has answered, dead letters included.
        compared: forecasts that were recomputed and that stand in the stream of forecasts.
        differ: of these, those of which any field is another one.
        missing: were recomputed and do not stand there.
        trimmed: the same, where older forecasts were trimmed.
        foreign: stand there, and belong to no tick.
        ahead: entries that the daemon has not answered yet.
        named: the first differences.
        notes: what a reader should know.
        refusal: why nothing could be compared.
    """

    stream: str
    entries: int = 0
    compared: int = 0
    differ: int = 0
    missing: int = 0
    trimmed: int = 0
    foreign: int = 0
    ahead: int = 0
    named: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusal: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether something was compared, and all of it is as it should be."""
        return self.compared > 0 and not (self.refusal or self.differ or self.missing or self.foreign)

    def as_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def as_text(self) -> str:
        """The outcome for a person."""
        if self.refusal:
            return f"{self.stream}: nothing was compared: {self.refusal}\n"
        lines = [
            f"{self.stream}: {self.compared:,} forecasts compared, {self.differ:,} differ",
            f"{self.missing:,} missing, {self.trimmed:,} trimmed, {self.foreign:,} foreign",
            f"{self.entries:,} entries answered, {self.ahead:,} not yet",
            *self.named,
            *self.notes,
        ]
        return "\n  ".join(lines) + "\n"

    def name(self, line: str) -> None:
        """Show a difference, if not too many are shown."""
        if len(self.named) < NAMED_MAX:
            self.named.append(line)


def verify(stream: RecordedStream, settings: Settings) -> Verification:
    """Recompute what the daemon published, and compare."""
    found = Verification(_text(stream.keys.stream))
    seen = stream.survey
    if seen.group is None or seen.input is None:
        found.refusal = "no daemon has read this stream"
        return found
    origin, position = seen.origin or HEAD, seen.group.position
    if later(position, seen.input.top):
        found.refusal = f"the input ends before {_text(position)}, up to which it was answered: it is another one"
        return found
    if refusal := _lost_head(stream, origin):
        found.refusal = refusal
        return found
    if stream.partners:
        found.notes.append(
            f"the same engine answers {len(stream.partners)} more streams, such as {_text(stream.partners[0])}: "
            "the bits are promised for one stream per partition only"
        )
    _compare(stream, settings, origin, position, found)
    found.ahead = max(stream.length - found.entries, 0) if origin == HEAD else 0
    if found.differ:
        found.notes.append("were these the daemon's own settings, and is this the same kind of machine?")
    if not found.compared:
        found.refusal = "no forecast stands that could be compared"
    return found


def _lost_head(stream: RecordedStream, origin: bytes) -> str:
    """Why the forecasts cannot be recomputed from the first entry on; nothing where they can."""
    info = stream.survey.input
    if info is None or not info.gone or not later(info.first or info.top, origin):
        return ""
    oldest = stream.first_answer()
    if oldest is not None and (info.first is None or later(info.first, oldest)):
        return (
            f"the head of the stream is gone: it begins at {_text(info.first or info.top)}, and {info.gone:,} entries "
            f"before or between were trimmed or deleted, answered ones among them ({_text(oldest)} still is). "
            "Forecasts can be recomputed only from where the daemon began"
        )
    return ""


def _compare(stream: RecordedStream, settings: Settings, origin: bytes, position: bytes, found: Verification) -> None:
    after = origin
    standing = stream.survey.tops.get(stream.keys.forecasts) is not None
    kept_from = stream.forecasts_kept_from() if standing else HEAD
    with progress(stream.length, "verify", "entries") as advance:
        for last, entries, expected in _recomputed(stream, settings, origin, position):
            published = stream.forecasts(after, last) if standing else {}
            _compare_pass(expected, published, kept_from, found)
            found.entries += entries
            after = last
            advance(entries)
    _count_foreign(stream.forecasts(after, position) if standing and later(position, after) else {}, found)


def _recomputed(
    stream: RecordedStream, settings: Settings, origin: bytes, position: bytes
) -> Iterator[tuple[bytes, int, dict[bytes, Fields]]]:
    """Pass by pass the last id, the number of entries, and by id what should have been published."""
    engine, fields = fresh_engine(settings), fields_of(settings)
    dead: Counter[str] = Counter()
    for entries in stream.entries(origin, position):
        sound: list[Entry] = list(bearable(entries, stream, dead))
        decoded = wire.decode(sound, stream.keys.stream, fields)
        forecasts = engine.advance(wire.keyed(decoded))
        yield entries[-1][0], len(entries), dict(wire.forecast_fields(decoded, forecasts))


def _compare_pass(
    expected: Mapping[bytes, Fields], published: dict[bytes, Fields], kept_from: bytes, found: Verification
) -> None:
    for entry_id, fields in expected.items():
        stands = published.pop(entry_id, None)
        if stands is None:
            if later(kept_from, entry_id):
                found.trimmed += 1
            else:
                found.missing += 1
                found.name(f"{_text(entry_id)} has no forecast")
            continue
        found.compared += 1
        if stands != fields:
            found.differ += 1
            found.name(f"{_text(entry_id)} {_difference(stands, fields)}")
    _count_foreign(published, found)


def _count_foreign(published: Mapping[bytes, Fields], found: Verification) -> None:
    for entry_id in sorted(published, key=id_order):
        found.foreign += 1
        found.name(f"{_text(entry_id)} belongs to no tick")


def _difference(stands: Fields, fields: Fields) -> str:
    """The first field in which the two differ, as published and as it should be."""
    ours, theirs = (dict(zip(flat[::2], flat[1::2], strict=False)) for flat in (fields, stands))
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            stood, due = (_text(pairs.get(name, b"absent")) for pairs in (theirs, ours))
            return f"{_text(name)} is {stood} and should be {due}"
    return "has its fields in another order"


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
