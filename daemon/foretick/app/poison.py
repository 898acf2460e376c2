"""Ticks at which the engine fails: found out, set aside, and never shown to it again.

An engine that raised in the middle of a batch is torn: some series have moved on, others not. So it is thrown away with
all that it answered since the last commit, and a new one is led to the committed position. Then

1. the ticks of the batch that failed are taken one at a time, each with a commit of its own, so what comes before the
   culprit stands;
2. the third failure at one tick makes it a dead letter, `engine_error`, and the loop goes on behind it;
3. the commit that carries the letter also writes the tick's id into a hash of the partition's, in which every later
   replay finds what to leave out: the letter itself may be trimmed, or sent again under another id.

A failure that nothing in the stream explains passes: the next engine meets the same ticks and does not fail. One that
comes at every tick costs at most a few engines a second, with waits between; `/readyz` says why until a tick passes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog

from foretick.app.commits import StartOver
from foretick.app.patience import StopRequested
from foretick.core.records import Forecasts
from foretick.errors import ForetickError
from foretick.ports import wire
from foretick.ports.connection import good
from foretick.ports.positions import later
from foretick.ports.streams import id_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.app.answers import ForecastEngine
    from foretick.app.patience import Patience
    from foretick.app.recovery import Settled
    from foretick.core.records import Ticks
    from foretick.ports.connection import Command, RedisConnection
    from foretick.ports.streams import Entry
    from foretick.ports.telemetry import Telemetry

FAILURES_MAX = 3  # at one tick: one may be an accident, and two
DETAIL_MAX_CHARS = 500  # of an exception's text in a letter

# What the engine raises for somebody else (a lost lease, a stop), and what the machine lacks: no tick is to blame.
_NO_FAULT = (ForetickError, StopRequested, StartOver, OSError, MemoryError)

_Place = tuple[int, int, bytes]  # ms, seq, stream: the order in which ticks are taken

log = structlog.get_logger()


class EngineFailed(StartOver):
    """The engine raised at some tick and is torn."""


class Poison:
    """Stands between the loop and the engine of one partition, tenure after tenure.

    Args:
        partition: its name, for the log.
        patience: how to wait after a failure; nobody else's, so that it grows while failures go on.
        telemetry: counts them.
    """

    def __init__(self, partition: str, patience: Patience, telemetry: Telemetry) -> None:
        self._partition = partition
        self._patience = patience
        self._telemetry = telemetry
        self._key = b""  # of the hash
        self._skipped: dict[bytes, str] = {}  # what the hash holds: why, by stream and id
        self._found: dict[bytes, str] = {}  # what it has to be told
        self._stale: list[bytes] = []  # what it may forget
        self._failures: Counter[bytes] = Counter()  # by stream and id
        self._condemned: dict[bytes, str] = {}  # of which FAILURES_MAX are known: why
        self._unplaced = 0  # failures of batches whose culprit is not known yet
        self._suspects: tuple[_Place, _Place] | None = None  # first and last of them
        self._trouble = ""  # the latest failure, until it was waited for

    @property
    def is_careful(self) -> bool:
        """Whether ticks should be taken one at a time, each with a commit of its own."""
        return self._suspects is not None

    def rest(self) -> None:
        """Wait a little after a failure, before the next engine is made.

        Raises:
            StopRequested: a stop came first.
        """
        if self._trouble:
            trouble, self._trouble = self._trouble, ""
            self._patience.bear("engine", "engine_restarting", trouble)

    def recall(self, connection: RedisConnection, settled: Sequence[Settled]) -> None:
        """Learn which ticks are set aside, at each recovery; what their streams hold no more is forgotten."""
        self._key = settled[0].keys.skipped if settled else b""
        flat = good(connection.call(b"HGETALL", self._key)) if settled else []
        self._skipped = {flat[i]: flat[i + 1].decode(errors="replace") for i in range(0, len(flat), 2)}
        self._found.clear()
        by_stream = {one.keys.stream: one for one in settled}
        self._stale = [name for name in self._skipped if _is_stale(name, by_stream)]
        for name in self._stale:
            del self._skipped[name]

    def forget(self) -> None:
        """Begin to count anew: what another owner found at these ticks is in the hash, and counts."""
        self._failures.clear()
        self._condemned.clear()
        self._unplaced, self._suspects, self._trouble = 0, None, ""

    def sift(
        self, entries: Sequence[Entry], streams: Sequence[bytes]
    ) -> tuple[Sequence[Entry], Sequence[bytes], list[wire.DeadLetter]]:
        """The entries and streams that the engine may see, and dead letters of the others."""
        if not self._skipped and not self._condemned:
            return entries, streams, []
        kept: list[tuple[Entry, bytes]] = []
        letters: list[wire.DeadLetter] = []
        for entry, stream in zip(entries, streams, strict=True):
            name = _name(entry[0], stream)
            why = self._skipped.get(name) or self._condemned.get(name)
            if why is None:
                kept.append((entry, stream))
                continue
            letters.append(wire.DeadLetter(entry[0], wire.Reason.ENGINE_ERROR, why, entry[1], stream))
            if name not in self._skipped:
                self._found[name] = why
        return [entry for entry, _ in kept], [stream for _, stream in kept], letters

    def commands(self) -> list[Command]:
        """What the next commit has to carry, so that later replays leave out the same ticks."""
        if not self._found and not self._stale:
            return []
        commands: list[Command] = [(b"HSET", self._key, name, why.encode()) for name, why in self._found.items()]
        if self._stale:
            commands.append((b"HDEL", self._key, *self._stale))
        self._found, self._stale = {}, []
        return commands

    def advance(self, engine: ForecastEngine, decoded: wire.Decoded) -> Forecasts:
        """Have the engine forecast after each of the ticks; one at a time where there are suspects among them.

        Raises:
            EngineFailed: it raised; it must not be used any more.
        """
        ticks, n = wire.keyed(decoded), len(decoded.ids)
        if n < 2 or not self._has_suspects(decoded):
            return self._try(engine, decoded, ticks, 0)
        return Forecasts.joined([self._try(engine, decoded, ticks.slice(i, i + 1), i) for i in range(n)])

    def passed(self, entry: Entry, stream: bytes) -> None:
        """Note that all entries up to this one are answered."""
        if self._suspects is not None and _place(entry[0], stream) >= self._suspects[1]:
            self.forget()
            self._patience.over()

    def _has_suspects(self, decoded: wire.Decoded) -> bool:
        if self._suspects is None:
            return False
        first, last = self._suspects
        begin, end = _place(decoded.ids[0], decoded.streams[0]), _place(decoded.ids[-1], decoded.streams[-1])
        return begin <= last and end >= first

    def _try(self, engine: ForecastEngine, decoded: wire.Decoded, ticks: Ticks, start: int) -> Forecasts:
        """What the engine answers to these ticks, which begin at position `start` of what was decoded."""
        try:
            return engine.advance(ticks)
        except _NO_FAULT:
            raise
        except Exception as error:
            self._blame(decoded, start, start + len(ticks), error)
            raise EngineFailed("the engine failed", decoded.streams[start].decode(errors="backslashreplace")) from error

    def _blame(self, decoded: wire.Decoded, start: int, stop: int, error: Exception) -> None:
        first = _place(decoded.ids[start], decoded.streams[start])
        last = _place(decoded.ids[stop - 1], decoded.streams[stop - 1])
        before = self._suspects or (first, last)
        self._suspects = min(first, before[0]), max(last, before[1])
        self._trouble = f"{type(error).__name__}: {error}"[:DETAIL_MAX_CHARS]
        failures = self._unplaced = self._unplaced + 1
        if stop - start == 1:
            name = _name(decoded.ids[start], decoded.streams[start])
            self._failures[name] += self._unplaced
            failures, self._unplaced = self._failures[name], 0
            if failures >= FAILURES_MAX:
                self._condemned[name] = self._trouble
        self._telemetry.count_engine_failure()
        log.error(
            "engine_failed",
            partition=self._partition,
            stream=decoded.streams[start].decode(errors="backslashreplace"),
            entry=decoded.ids[start],
            ticks=stop - start,
            failures=failures,
            exc_info=error,
        )


def _place(entry_id: bytes, stream: bytes) -> _Place:
    return (*id_order(entry_id), stream)


def _name(entry_id: bytes, stream: bytes) -> bytes:
    return b"%b\0%b" % (stream, entry_id)  # an id holds no zero byte, so the last one parts the two


def _is_stale(name: bytes, settled: Mapping[bytes, Settled]) -> bool:
    """Whether a tick that was set aside will never be read again: trimmed, or of a stream that was made anew."""
    stream, _, entry_id = name.rpartition(b"\0")
    one = settled.get(stream)
    return one is not None and (one.plan.regressed or one.first is None or later(one.first, entry_id))
