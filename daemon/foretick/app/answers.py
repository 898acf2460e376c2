"""Entries in, a commit out: what the entries of a turn come to, before any of it is written."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from foretick.ports import wire
from foretick.ports.positions import set_position
from foretick.ports.streams import Commit, id_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.app.poison import Poison
    from foretick.core.records import Forecasts, Ticks
    from foretick.core.scores import GroupScores, SeriesStates
    from foretick.ports.positions import StreamKeys
    from foretick.ports.streams import Entry
    from foretick.ports.telemetry import Telemetry


TRIM_EVERY_ENTRIES = 100  # `XTRIM ~` drops whole nodes, which hold a hundred entries by Redis' default


class ForecastEngine(Protocol):
    """What the loop asks of `core.engine.Engine`; tests bring naive ones. Series come as `wire.series_key`."""

    def advance(self, ticks: Ticks) -> Forecasts:
        """Forecast after each of the ticks."""

    def scores(self) -> list[GroupScores]:
        """Live accuracy, for a scrape."""

    def series(self) -> list[SeriesStates]:
        """How each series fares, for a scrape, on its thread."""

    def weights(self, name: bytes) -> dict[str, float]:
        """The experts' weights in a series' standing forecast, for the page, on its thread."""


@dataclass(slots=True)
class Limits:
    """Bounds of a turn; all partitions share them, and a reload may change them.

    Attributes:
        count: entries taken in one turn at most; see `app.portion`.
        block_ms: longest wait for new ones.
        forecasts_maxlen: forecasts kept.
        dead_maxlen: dead letters kept.
        latest: whether the hash of last forecasts is written.
    """

    count: int = 4000
    block_ms: int = 1000
    forecasts_maxlen: int = 1_000_000
    dead_maxlen: int = 100_000
    latest: bool = True


@dataclass(slots=True)
class StreamState:
    """Where one stream of the partition stands.

    Attributes:
        keys: all its keys.
        position: id of the last entry that was answered and committed.
        entries_read: entries up to there since the stream began.
        untrimmed: forecasts added since they were last trimmed; the first turn trims.
        untrimmed_dead: the same of dead letters.
    """

    keys: StreamKeys
    position: bytes
    entries_read: int
    untrimmed: int = TRIM_EVERY_ENTRIES
    untrimmed_dead: int = TRIM_EVERY_ENTRIES

    @property
    def name(self) -> str:
        """The stream's key as text, for logs and metrics."""
        return self.keys.stream.decode(errors="backslashreplace")


@dataclass(slots=True)
class Advance:
    """What a turn's entries of one stream come to, and where it stands once their commit is through."""

    state: StreamState
    position: bytes
    entries: int = 0
    publication: wire.Publication | None = None
    letters: list[wire.DeadLetter] = field(default_factory=list)

    @property
    def entries_read(self) -> int:
        """Entries up to the new position since the stream began."""
        return self.state.entries_read + self.entries

    @property
    def dead(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter([letter.reason for letter in self.letters])


@dataclass(slots=True)
class Pending:
    """A commit that was not sent yet, and what it means for us; without advances it only renews the lease.

    Attributes:
        commit: what is to be written.
        advances: by stream.
        answered: the ticks and their forecasts, for people who look.
    """

    commit: Commit
    advances: list[Advance] = field(default_factory=list)
    answered: tuple[wire.Decoded, Forecasts] | None = None


def answer(
    states: Mapping[bytes, StreamState],
    entries: Sequence[Entry],
    streams: Sequence[bytes],
    engine: ForecastEngine,
    commit: Commit,
    *,
    poison: Poison,
    fields: wire.FieldNames,
    limits: Limits,
    telemetry: Telemetry,
) -> Pending:
    """Forecast after each of the entries, and add what is to be written to the commit.

    Args:
        states: of the partition's streams.
        entries: in entry-id order over all streams.
        streams: (n,) stream of each entry.
        engine: forecasts.
        commit: takes the writes.
        poison: keeps from the engine what it cannot bear.
        fields: names of the fields of a tick.
        limits: bounds of a turn.
        telemetry: takes the time of each stage.

    Raises:
        EngineFailed: nothing of this may be written, and the engine must not be used any more.
    """
    clock = time.perf_counter
    begun = clock()
    sound, of_streams, poisoned = poison.sift(entries, streams)
    decoded = wire.decode(sound, of_streams, fields)
    read = clock()
    forecasts = poison.advance(engine, decoded)
    poison.passed(entries[-1], streams[-1])
    commit.commands += poison.commands()
    forecast = clock()
    advances = _divide(states, entries, streams)
    places = {stream: _places(advance.state.keys, limits) for stream, advance in advances.items()}
    for stream, publication in wire.publications(decoded, forecasts, places).items():
        advances[stream].publication = publication
    for letter in sorted([*decoded.dead, *poisoned, *wire.refusals(decoded, forecasts)], key=_by_id):
        advances[letter.stream].letters.append(letter)
    for advance in advances.values():
        _add_writes(commit, advance, limits)
    telemetry.observe_turn(decode=read - begun, engine=forecast - read, encode=clock() - forecast)
    return Pending(commit, list(advances.values()), (decoded, forecasts))


def _divide(
    states: Mapping[bytes, StreamState], entries: Sequence[Entry], streams: Sequence[bytes]
) -> dict[bytes, Advance]:
    """What each stream has of the entries."""
    if streams.count(streams[0]) == len(streams):
        return {streams[0]: Advance(states[streams[0]], entries[-1][0], len(entries))}
    last = dict(zip(streams, entries, strict=True))  # of equal keys the last one stays
    counts = Counter(streams)
    return {stream: Advance(states[stream], entry[0], counts[stream]) for stream, entry in last.items()}


def _places(keys: StreamKeys, limits: Limits) -> tuple[bytes, bytes | None]:
    """Where a stream's forecasts go, and its last ones."""
    return keys.forecasts, keys.latest if limits.latest else None


def _by_id(letter: wire.DeadLetter) -> tuple[int, int]:
    return id_order(letter.id)


def _add_writes(commit: Commit, advance: Advance, limits: Limits) -> None:
    """Add one stream's forecasts, dead letters, last forecasts, trimming and position to a commit."""
    state, publication = advance.state, advance.publication
    keys, commands = state.keys, commit.commands
    letters = [(b"XADD", keys.dead, letter.id, *wire.dead_fields(letter)) for letter in advance.letters]
    commands += letters
    if publication is not None:
        commit.floors[keys.forecasts] = state.position
        commit.forecasts.append(publication.forecasts)
        if publication.latest is not None:
            commit.latest.append(publication.latest)
        state.untrimmed += publication.forecasts.count
        if state.untrimmed >= TRIM_EVERY_ENTRIES:
            state.untrimmed = 0
            commands.append((b"XTRIM", keys.forecasts, b"MAXLEN", b"~", limits.forecasts_maxlen))
    if letters:
        commit.floors[keys.dead] = state.position
        state.untrimmed_dead += len(letters)
        if state.untrimmed_dead >= TRIM_EVERY_ENTRIES:
            state.untrimmed_dead = 0
            commands.append((b"XTRIM", keys.dead, b"MAXLEN", b"~", limits.dead_maxlen))
    commands.append(set_position(keys.stream, advance.position, advance.entries_read))
