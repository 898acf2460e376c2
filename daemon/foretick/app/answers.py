"""Entries in, a commit out: what one read of one stream comes to, before any of it is written."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foretick.core.records import Verdict
from foretick.ports import wire
from foretick.ports.positions import set_position
from foretick.ports.streams import Commit, id_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from foretick.core.records import Forecasts, Ticks
    from foretick.core.scores import GroupScores
    from foretick.ports.positions import StreamKeys
    from foretick.ports.streams import Entry
    from foretick.ports.telemetry import Telemetry


class ForecastEngine(Protocol):
    """What the loop asks of `core.engine.Engine`; bench and tests bring naive ones."""

    def advance(self, ticks: Ticks) -> Forecasts:
        """Forecast after each of the ticks."""

    def scores(self) -> list[GroupScores]:
        """Live accuracy, for a scrape."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a turn.

    Attributes:
        count: entries read at most.
        block_ms: longest wait for new ones.
        forecasts_maxlen: forecasts kept.
        dead_maxlen: dead letters kept.
        latest: whether the hash of last forecasts is written.
    """

    count: int = 500
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
        live_since_ms: from when on its entries are live; none while history is being caught up.
    """

    keys: StreamKeys
    position: bytes
    entries_read: int
    live_since_ms: int | None = None

    @property
    def name(self) -> str:
        """The stream's key as text, for logs and metrics."""
        return self.keys.stream.decode(errors="backslashreplace")


@dataclass(slots=True)
class Advance:
    """What one stream's position and counters become once the commit is through."""

    state: StreamState
    position: bytes
    entries_read: int
    live_ms: NDArray[np.int64]
    ticks: int
    warm: int
    cold: int
    dead: Counter[str]


@dataclass(slots=True)
class Pending:
    """A commit that was not sent yet, and what it means for us; without advances it only renews the lease."""

    commit: Commit
    advances: list[Advance] = field(default_factory=list)

    def position_of(self, state: StreamState) -> bytes:
        """Where the stream will stand."""
        return next((advance.position for advance in self.advances if advance.state is state), state.position)


def answer(
    state: StreamState,
    entries: Sequence[Entry],
    engine: ForecastEngine,
    commit: Commit,
    *,
    fields: wire.FieldNames,
    limits: Limits,
    telemetry: Telemetry,
) -> Advance:
    """Forecast after each of the entries, and add what is to be written to the commit."""
    clock = time.perf_counter
    begun = clock()
    decoded = wire.decode(entries, state.keys.stream, fields)
    read = clock()
    forecasts = engine.advance(decoded.ticks)
    forecast = clock()
    published = wire.forecast_fields(decoded, forecasts)
    dead = sorted([*decoded.dead, *wire.refusals(decoded, forecasts)], key=lambda letter: id_order(letter.id))
    position = entries[-1][0]
    entries_read = state.entries_read + len(entries)
    _add_writes(commit, state, published, dead, limits)
    commit.commands.append(set_position(state.keys.stream, position, entries_read))
    telemetry.observe_turn("decode", read - begun)
    telemetry.observe_turn("engine", forecast - read)
    telemetry.observe_turn("encode", clock() - forecast)
    warm = int(np.count_nonzero(forecasts.warm & (forecasts.verdict == Verdict.FORECAST)))
    since, ms = state.live_since_ms, decoded.ticks.ms
    return Advance(
        state,
        position,
        entries_read,
        live_ms=ms[ms > since] if since is not None else ms[:0],
        ticks=len(entries),
        warm=warm,
        cold=len(published) - warm,
        dead=Counter(letter.reason for letter in dead),
    )


def _add_writes(
    commit: Commit,
    state: StreamState,
    published: Sequence[wire.Published],
    dead: Iterable[wire.DeadLetter],
    limits: Limits,
) -> None:
    """Add forecasts, dead letters, last forecasts and trimming to a commit."""
    keys = state.keys
    commands = commit.commands
    letters = [(b"XADD", keys.dead, letter.id, *wire.dead_fields(letter)) for letter in dead]
    commands += [(b"XADD", keys.forecasts, entry_id, *flat) for entry_id, flat in published]
    commands += letters
    if published:
        commit.floors[keys.forecasts] = state.position
        if limits.latest:
            latest = wire.latest_fields(published)
            commands.append((b"HSET", keys.latest, *[part for pair in latest.items() for part in pair]))
        commands.append((b"XTRIM", keys.forecasts, b"MAXLEN", b"~", limits.forecasts_maxlen))
    if letters:
        commit.floors[keys.dead] = state.position
        commands.append((b"XTRIM", keys.dead, b"MAXLEN", b"~", limits.dead_maxlen))
