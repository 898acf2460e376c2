"""Leads an engine again through what it must know, without publishing.

The engine is a function of the stream: after a replay of everything from the first position to the committed one it is
the engine that stopped. Several streams are read in the one order in which they are answered, by entry id.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from foretick.app.appetite import Appetite, share_of
from foretick.app.merging import Merge
from foretick.errors import ConnectionLost, ReplyTooLarge, ServerRefused
from foretick.ports import wire
from foretick.ports.positions import later
from foretick.ports.streams import Commit, range_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.app.answers import ForecastEngine
    from foretick.app.commits import Committer
    from foretick.app.poison import Poison
    from foretick.ports.endpoints import Health
    from foretick.ports.streams import Entry
    from foretick.ports.telemetry import Telemetry

REPLAY_COUNT = 1000  # entries per pass: milliseconds of engine time, so the lease is renewed often enough
RANGES_AT_ONCE = 500  # in one request
PROGRESS_EVERY_TICKS = 100_000  # a log line every few seconds

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a stream to be replayed: what lies after one position, up to and with another."""

    stream: bytes
    after: bytes
    until: bytes


class Replay:
    """Reads spans of a partition's streams, renewing the lease as it goes.

    Args:
        partition: its name, for the log.
        committer: exchange, lease and the ways out of trouble.
        poison: keeps from the engine what it cannot bear, and what an earlier one could not.
        fields: names of the fields of a tick.
        telemetry: metrics.
        health: heartbeat.
    """

    def __init__(
        self,
        partition: str,
        committer: Committer,
        *,
        poison: Poison,
        fields: wire.FieldNames,
        telemetry: Telemetry,
        health: Health,
    ) -> None:
        self._partition = partition
        self._committer = committer
        self._exchange = committer.exchange
        self._poison = poison
        self._fields = fields
        self._telemetry = telemetry
        self._health = health

    def lead(self, engine: ForecastEngine, spans: Sequence[Span]) -> Counter[bytes]:
        """Lead the engine through all spans at once; the entries found, by stream.

        Raises:
            EngineFailed: the engine must not be used any more.
        """
        merge = Merge()
        open_spans = {span.stream: span for span in spans if later(span.until, span.after)}
        per_stream = min(REPLAY_COUNT, share_of(len(open_spans)))
        found: Counter[bytes] = Counter()
        appetite = Appetite()
        while open_spans or merge.holds:
            count = appetite.ask(per_stream)
            try:
                read = self._read_on(open_spans, merge.to_read(open_spans), count, appetite)
            except ReplyTooLarge:
                appetite.choked()
                continue
            entries, streams = merge.advance(read, count=count, limit=REPLAY_COUNT)
            if not entries:
                continue
            sound, of_streams, _ = self._poison.sift(entries, streams)
            self._poison.advance(engine, wire.decode(sound, of_streams, self._fields))
            self._poison.passed(entries[-1], streams[-1])
            before = found.total()
            found.update(streams)
            self._telemetry.count_replayed(len(entries))
            if before // PROGRESS_EVERY_TICKS != found.total() // PROGRESS_EVERY_TICKS:
                log.info("replaying", partition=self._partition, entries=found.total(), position=entries[-1][0])
                self._health.set("state", False, f"replaying, {found.total():,} entries so far")
        if found:
            log.info("replayed", partition=self._partition, entries=found.total())
        return found

    def _read_on(
        self, spans: dict[bytes, Span], streams: Sequence[bytes], count: int, appetite: Appetite
    ) -> dict[bytes, list[Entry]]:
        """The next entries of these streams; their spans shrink, and go when nothing is left.

        Raises:
            ReplyTooLarge: fewer have to be asked for; the spans are as they were.
        """
        read: dict[bytes, list[Entry]] = {}
        reply_bytes = 0
        for first in range(0, len(streams), RANGES_AT_ONCE):
            asked = [spans[stream] for stream in streams[first : first + RANGES_AT_ONCE]]
            answers = None
            while answers is None:
                answers = self._ask(asked, count, appetite.limit_bytes)
            read |= {span.stream: entries for span, entries in zip(asked, answers, strict=True)}
            reply_bytes += self._exchange.connection.reply_bytes
            if appetite.limit_bytes is not None and reply_bytes > appetite.limit_bytes:
                raise ReplyTooLarge("replies of several megabytes for many streams")
        for stream, entries in read.items():
            until = spans[stream].until
            if len(entries) < count or entries[-1][0] == until:
                del spans[stream]
            else:
                spans[stream] = Span(stream, entries[-1][0], until)
        appetite.took(reply_bytes)
        return read

    def _ask(self, spans: Sequence[Span], count: int, limit_bytes: int | None) -> list[list[Entry]] | None:
        """The next entries of each; none when the connection or the lease had to be put right first."""
        self._health.beat(30.0)
        renewal = Commit()
        connection = self._exchange.connection
        ranges = [range_command(span.stream, after=span.after, until=span.until, count=count) for span in spans]
        try:
            connection.reply_max_bytes = limit_bytes
            self._exchange.send_turn(renewal, ranges)
            outcome = self._exchange.read_outcome(renewal)
            held, answers = self._exchange.read_ranges(len(ranges))
        except ReplyTooLarge as error:
            self._committer.reconnect(error)
            raise
        except (ConnectionLost, ServerRefused) as error:
            self._committer.reconnect(error)
            return None
        finally:
            connection.reply_max_bytes = None
        if not outcome.is_committed:
            self._committer.settle(renewal, outcome)
            return None
        if not held:
            self._exchange.lease.raise_fence(self._exchange.connection)
        return answers
