"""One turn: send the last commit with the next read, step the engine, leave the new commit pending."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from foretick.app.answers import Pending, answer
from foretick.app.appetite import Appetite, share_of
from foretick.app.live import Live
from foretick.app.lookout import Lookout
from foretick.app.marks import Mark
from foretick.app.merging import Merge
from foretick.app.portion import Portion
from foretick.errors import ConnectionLost, ReplyTooLarge, ServerRefused
from foretick.ports.streams import Commit, read_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretick.app.answers import ForecastEngine, Limits, StreamState
    from foretick.app.checkpointing import Checkpointer
    from foretick.app.commits import Committer
    from foretick.app.departures import Departures
    from foretick.app.garbage import GarbageRounds
    from foretick.app.poison import Poison
    from foretick.ports.endpoints import Health
    from foretick.ports.streams import Batch, Entry, Outcome
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.wire import FieldNames

LEAST_ALLOWANCE_SECONDS = 10.0  # a turn that takes longer than its BLOCK and this is stuck
GUARDED_STREAMS_MAX = 64  # see `_guard`


class Pipeline:
    """The loop's body for the streams of one partition.

    Args:
        committer: exchange, lease and the ways out of trouble.
        engine: forecasts.
        streams: where each stream stands.
        fields: names of the fields of a tick.
        poison: keeps from the engine what it cannot bear.
        limits: bounds of a turn.
        telemetry: metrics.
        health: heartbeat and conditions.
        garbage: collects it between turns.
        clock_offset_seconds: server's clock minus ours, so that latency is measured on one clock.
        live: people who look; nobody does if absent.

    Attributes:
        streams: where each stands, by its key.
        checkpointer: takes checkpoints between turns, if state is kept.
        departures: series to be taken out of the hashes of last forecasts, if these are written.
    """

    def __init__(
        self,
        committer: Committer,
        engine: ForecastEngine,
        streams: Sequence[StreamState],
        *,
        poison: Poison,
        fields: FieldNames,
        limits: Limits,
        telemetry: Telemetry,
        health: Health,
        garbage: GarbageRounds,
        clock_offset_seconds: float = 0.0,
        live: Live | None = None,
    ) -> None:
        self.streams: dict[bytes, StreamState] = {}
        self.checkpointer: Checkpointer | None = None
        self.departures: Departures | None = None
        self._committer = committer
        self._exchange = committer.exchange
        self._engine = engine
        self._poison = poison
        self._fields = fields
        self._limits = limits
        self._telemetry = telemetry
        self._health = health
        self._garbage = garbage
        self._clock_offset_seconds = clock_offset_seconds
        self._live = live or Live()
        self._merge = Merge()
        self._portion = Portion()
        self._appetite = Appetite()
        self._reached: dict[bytes, bytes] = {}  # position of each stream once the pending commit is through
        self._committed: dict[bytes, bytes] = {}  # and before
        self._pending: Pending | None = None
        self._live_since_ms: int | None = None  # entries after it are live; before, history was caught up
        self._lookout = Lookout(self._exchange.connection, telemetry, clock_offset_seconds)
        self.admit(streams)

    def admit(self, states: Sequence[StreamState]) -> None:
        """Read these streams as well, from the next turn on."""
        for state in states:
            self.streams[state.keys.stream] = state
            self._reached[state.keys.stream] = self._committed[state.keys.stream] = state.position
        self._guard()

    def dismiss(self, streams: Iterable[bytes]) -> None:
        """Read these streams no more; nothing of them may be pending."""
        for stream in streams:
            del self.streams[stream], self._reached[stream], self._committed[stream]
            self._merge.forget(stream)
            self._telemetry.forget_lag(stream)
        self._guard()

    def _guard(self) -> None:
        """Let foreign writes to our streams trip the fence, if there are not too many to watch.

        Each watched key costs the server a fraction of a microsecond a turn, and which of them a turn will touch is not
        known before its read. In a partition of many streams only the lease is watched: it alone keeps a late owner
        from writing. A foreign entry then shows when our own XADD fails inside EXEC, and `Committer` puts it right;
        what is lost is the certainty for the ticks of that very turn, should the process die in that same instant.
        """
        states = self.streams.values() if len(self.streams) <= GUARDED_STREAMS_MAX else ()
        self._committer.guard(
            {key: state.keys.stream for state in states for key in (state.keys.forecasts, state.keys.dead)}
        )

    def stand_firm(self) -> None:
        """Raise the fence, and see that nothing stands behind it that is not ours; before the first turn."""
        self._committer.stand_firm(self._committed)

    def turn(self) -> None:
        """One exchange and one pass through the engine.

        Raises:
            LeaseLost: another process owns the partition; nothing was written since.
            PartitionStopped: the commit cannot be carried out.
            StartOver: the input, or our position in it, is not what it was; or the engine failed.
            StopRequested: a stop came in the middle of a wait.
        """
        self._health.beat(self._limits.block_ms / 1000 + LEAST_ALLOWANCE_SECONDS)
        pending, self._pending = self._pending, None
        portion = self._portion.ask(most=self._limits.count)
        count = self._appetite.ask(most=min(portion, share_of(len(self.streams))))
        batch = self._exchange_turn(pending, count)
        if batch is None:
            return
        if batch.error is not None:
            self._bear(batch.error)
            self._pending = self._renewal()
        else:
            self._committer.patience.over()
            limit = 1 if self._poison.is_careful else portion
            entries, streams = self._merge.advance(batch.entries, count=count, limit=limit)
            self._pending = self._advance(entries, streams) if entries else self._renewal()
            if self._live_since_ms is None and not self._merge.is_behind:
                self._live_since_ms = int((time.time() + self._clock_offset_seconds) * 1000)
        if self.checkpointer is not None:
            self._pending.commit.commands += self.checkpointer.commands()
        if self.departures is not None:
            self._pending.commit.commands += self.departures.commands(self.streams)
        self._lookout.between_turns(self.streams, self._reached, self._pending)

    def marks(self) -> list[Mark]:
        """Where all streams stand, as committed."""
        return [Mark(stream, state.position, state.entries_read) for stream, state in self.streams.items()]

    def finish(self) -> None:
        """Commit what is pending; the last act of a clean stop."""
        pending, self._pending = self._pending, None
        if pending is None or not pending.commit.commands:
            return
        outcome = None
        try:
            outcome = self._exchange.commit_alone(pending.commit)
        except ConnectionLost:
            pending.commit.in_doubt = True
        self._committer.settle(pending.commit, outcome)
        self._settled(pending)

    # The exchange: afterwards the fence stands and the batch is ours, or there is no batch.

    def _exchange_turn(self, pending: Pending | None, count: int) -> Batch | None:
        outcome: Outcome | None = None
        trouble: ConnectionLost | ServerRefused | None = None
        batch: Batch | None = None
        positions = {stream: self._reached[stream] for stream in self._merge.to_read(self._reached)}
        block_ms = None if self._merge.holds else self._limits.block_ms
        reads = [read_command(positions, count=count, block_ms=block_ms)] if positions else []
        begun = time.perf_counter()
        try:
            self._exchange.send_turn(pending.commit if pending else None, reads)
            if pending is not None:
                outcome = self._exchange.read_outcome(pending.commit)
                if outcome.is_committed:
                    self._telemetry.observe_turn(commit=time.perf_counter() - begun)
                    self._settled(pending)
                    self._while_redis_reads(is_idle=not pending.advances)
            begun = time.perf_counter()
            batch = self._read_batch(has_read=bool(reads))
        except (ConnectionLost, ServerRefused) as error:
            trouble = error.with_traceback(None)  # its frames hold what was read so far, until garbage is collected
        if pending is not None and (outcome is None or not outcome.is_committed):
            self._committer.settle(pending.commit, outcome)
            self._settled(pending)
            self.stand_firm_again()
            return None  # EXEC ended the WATCH, so the batch must not be used
        if trouble is not None or batch is None:
            self.stand_firm_again(trouble or ConnectionLost("no reply"))
            return None
        if not batch.held:
            self.stand_firm()
        if batch.entries:
            self._telemetry.observe_turn(read=time.perf_counter() - begun)
        return batch

    def _while_redis_reads(self, *, is_idle: bool) -> None:
        """Do what no tick should wait for; the engine stands where the commit does."""
        if self.checkpointer is not None:
            self.checkpointer.at_position(self.marks)
        self._garbage.between_turns(idle=is_idle)

    def _read_batch(self, *, has_read: bool) -> Batch:
        connection = self._exchange.connection
        connection.reply_max_bytes = self._appetite.limit_bytes
        try:
            batch = self._exchange.read_batch(has_read=has_read)
        except ReplyTooLarge:
            self._appetite.choked()
            raise
        finally:
            connection.reply_max_bytes = None
        if has_read:
            self._appetite.took(connection.reply_bytes)
        return batch

    def stand_firm_again(self, error: ConnectionLost | ServerRefused | None = None) -> None:
        """After trouble; what was read ahead is read again, for Redis may have lost it meanwhile."""
        self._merge = Merge()
        self._committer.stand_firm(self._committed, error)

    def _bear(self, error: Exception) -> None:
        """Wait out a read that Redis refuses; the fence stands and the next turn renews the lease."""
        if isinstance(error, ServerRefused):
            self._committer.patience.bear("redis", "redis_refuses", f"{error.word}: {error}")
        else:
            self._committer.patience.bear("input", "input_unusable", str(error))

    def _settled(self, pending: Pending) -> None:
        """Move the state after the commit has moved Redis, and count what is now certain."""
        if self._live.is_watched and pending.answered is not None:
            self._live.offer(*pending.answered)
        for advance in pending.advances:
            state, publication = advance.state, advance.publication
            stream = state.keys.stream
            state.entries_read += advance.entries
            state.position = self._committed[stream] = advance.position
            cold, warm = (publication.cold, publication.warm) if publication is not None else (0, 0)
            self._telemetry.count_answers(stream, advance.entries, cold=cold, warm=warm)
            for reason, n in advance.dead.items() if advance.letters else ():
                self._telemetry.count_dead(stream, reason, n)
        if self._live_since_ms is not None and pending.answered is not None:
            now_ms = (time.time() + self._clock_offset_seconds) * 1000
            self._telemetry.observe_latency(pending.answered[0].ticks.ms, now_ms, self._live_since_ms)

    # The pass through the engine.

    def _renewal(self) -> Pending:
        return Pending(Commit(before=self._committed))

    def _advance(self, entries: Sequence[Entry], streams: Sequence[bytes]) -> Pending:
        begun, begun_at_work = time.perf_counter(), time.thread_time()
        pending = answer(
            self.streams,
            entries,
            streams,
            self._engine,
            Commit(before=self._committed),
            poison=self._poison,
            fields=self._fields,
            limits=self._limits,
            telemetry=self._telemetry,
        )
        for advance in pending.advances:
            self._reached[advance.state.keys.stream] = advance.position
        self._portion.took(len(entries), time.thread_time() - begun_at_work, time.perf_counter() - begun)
        return pending
