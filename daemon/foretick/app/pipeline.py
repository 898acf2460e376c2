"""One turn: send the last commit with the next read, step the engine, leave the new commit pending."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import numpy as np

from foretick.app.answers import Pending, answer
from foretick.app.commits import StartOver
from foretick.errors import ConnectionLost, ForetickError, ServerRefused
from foretick.ports.positions import later, set_position, stream_info
from foretick.ports.streams import Commit, id_order, read_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretick.app.answers import ForecastEngine, Limits, StreamState
    from foretick.app.commits import Committer
    from foretick.ports.endpoints import Health
    from foretick.ports.streams import Batch, Outcome
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.wire import FieldNames

SURVEY_EVERY_SECONDS = 1.0  # lag and re-created inputs are seen this soon; costs one round trip
COLLECT_IDLE_SECONDS = 5.0  # an idle turn has time for the garbage collector, but not each of them
COLLECT_BUSY_TURNS = 5000  # under constant load: seconds between two collections of a few milliseconds
LEAST_ALLOWANCE_SECONDS = 10.0  # a turn that takes longer than its BLOCK and this is stuck


class Pipeline:
    """The loop's body for the streams of one partition.

    Args:
        committer: exchange, lease and the ways out of trouble.
        engine: forecasts.
        streams: where each stream stands.
        fields: names of the fields of a tick.
        limits: bounds of a turn.
        telemetry: metrics.
        health: heartbeat and conditions.
        clock_offset_seconds: server's clock minus ours, so that latency is measured on one clock.
    """

    def __init__(
        self,
        committer: Committer,
        engine: ForecastEngine,
        streams: Sequence[StreamState],
        *,
        fields: FieldNames,
        limits: Limits,
        telemetry: Telemetry,
        health: Health,
        clock_offset_seconds: float = 0.0,
    ) -> None:
        self.streams = {state.keys.stream: state for state in streams}
        self._committer = committer
        self._exchange = committer.exchange
        self._engine = engine
        self._fields = fields
        self._limits = limits
        self._telemetry = telemetry
        self._health = health
        self._clock_offset_seconds = clock_offset_seconds
        self._pending: Pending | None = None
        self._surveyed_at = 0.0
        self._collected_at = time.monotonic()
        self._turns_since_collection = 0

    def turn(self) -> None:
        """One exchange and one pass through the engine.

        Raises:
            LeaseLost: another process owns the partition; nothing was written since.
            PartitionStopped: the commit cannot be carried out.
            StartOver: the input, or our position in it, is not what it was.
            StopRequested: a stop came in the middle of a wait.
        """
        self._health.beat(self._limits.block_ms / 1000 + LEAST_ALLOWANCE_SECONDS)
        pending, self._pending = self._pending, None
        batch = self._exchange_turn(pending)
        if batch is None:
            return
        if batch.error is not None:
            self._bear(batch.error)
            self._pending = self._renewal()
        elif batch.entries:
            self._committer.patience.over()
            self._pending = self._advance(batch)
        else:
            self._committer.patience.over()
            self._pending = self._renewal()
            self._mark_live(self.streams.values())
        self._look_after(idle=not batch.entries)

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

    def _exchange_turn(self, pending: Pending | None) -> Batch | None:
        outcome: Outcome | None = None
        trouble: ConnectionLost | ServerRefused | None = None
        batch: Batch | None = None
        reads = read_command(
            {key: pending.position_of(state) if pending else state.position for key, state in self.streams.items()},
            count=self._limits.count,
            block_ms=self._limits.block_ms,
        )
        begun = time.perf_counter()
        try:
            self._exchange.send_turn(pending.commit if pending else None, [reads])
            if pending is not None:
                outcome = self._exchange.read_outcome(pending.commit)
                if outcome.is_committed:
                    self._telemetry.observe_turn("commit", time.perf_counter() - begun)
                    self._settled(pending)
            begun = time.perf_counter()
            batch = self._exchange.read_batch()
        except (ConnectionLost, ServerRefused) as error:
            trouble = error
        if pending is not None and (outcome is None or not outcome.is_committed):
            self._committer.settle(pending.commit, outcome)
            self._settled(pending)
            return None  # EXEC ended the WATCH, so the batch must not be used
        if trouble is not None or batch is None:
            self._committer.reconnect(trouble or ConnectionLost("no reply"))
            self._committer.check_positions(self._renewal().commit)
            return None
        if not batch.held:
            self._exchange.lease.raise_fence(self._exchange.connection)
        if batch.entries:
            self._telemetry.observe_turn("read", time.perf_counter() - begun)
        return batch

    def _bear(self, error: Exception) -> None:
        """Wait out a read that Redis refuses; the fence stands and the next turn renews the lease."""
        if isinstance(error, ServerRefused):
            self._committer.patience.bear("redis", "redis_refuses", f"{error.word}: {error}")
        else:
            self._committer.patience.bear("input", "input_unusable", str(error))

    def _settled(self, pending: Pending) -> None:
        """Move the state after the commit has moved Redis, and count what is now certain."""
        now_ms = (time.time() + self._clock_offset_seconds) * 1000
        for advance in pending.advances:
            state = advance.state
            state.position = advance.position
            state.entries_read = advance.entries_read
            self._telemetry.count_ticks(state.keys.stream, advance.ticks)
            self._telemetry.count_forecasts(state.keys.stream, cold=advance.cold, warm=advance.warm)
            for reason, n in advance.dead.items():
                self._telemetry.count_dead(state.keys.stream, reason, n)
            if len(advance.live_ms):
                self._telemetry.observe_latency(np.maximum(now_ms - advance.live_ms, 0) / 1000)

    # The pass through the engine.

    def _renewal(self) -> Pending:
        return Pending(Commit(before={key: state.position for key, state in self.streams.items()}))

    def _advance(self, batch: Batch) -> Pending:
        pending = self._renewal()
        for stream, entries in batch.entries.items():
            state = self.streams[stream]
            advance = answer(
                state,
                entries,
                self._engine,
                pending.commit,
                fields=self._fields,
                limits=self._limits,
                telemetry=self._telemetry,
            )
            if len(entries) < self._limits.count:
                self._mark_live([state])
            pending.advances.append(advance)
        return pending

    def _mark_live(self, states: Iterable[StreamState]) -> None:
        """From now on entries are answered as they come; those before were history, whose age is no latency."""
        for state in states:
            if state.live_since_ms is None:
                state.live_since_ms = int((time.time() + self._clock_offset_seconds) * 1000)

    # Between turns.

    def _look_after(self, *, idle: bool) -> None:
        now = time.monotonic()
        if now - self._surveyed_at >= SURVEY_EVERY_SECONDS:
            self._surveyed_at = now
            for state in self.streams.values():
                self._survey(state)
        self._turns_since_collection += 1
        if (idle and now - self._collected_at >= COLLECT_IDLE_SECONDS) or (
            self._turns_since_collection >= COLLECT_BUSY_TURNS
        ):
            gc.collect()
            self._collected_at, self._turns_since_collection = now, 0

    def _survey(self, state: StreamState) -> None:
        """Compare our position with the input's own account of itself."""
        try:
            info = stream_info(self._exchange.connection, state.keys.stream)
        except ForetickError:
            return  # a lost connection shows in the next exchange, a wrong type in its XREAD
        if info is None or not info.added:
            return  # deleted: what comes next may still have later ids than ours
        position = self._pending.position_of(state) if self._pending else state.position
        if later(position, info.top):
            raise StartOver("the input is another one than before", state.name)
        if position == info.top:
            self._telemetry.set_lag(state.keys.stream, 0, 0.0)
            self._recount(state, info.added)
            return
        lag = max(info.added - state.entries_read, 0)
        seconds = time.time() + self._clock_offset_seconds - id_order(position)[0] / 1000
        self._telemetry.set_lag(state.keys.stream, lag, max(seconds, 0.0))

    def _recount(self, state: StreamState, added: int) -> None:
        """At the stream's end all that was ever added was read: correct a count that trimming has put wrong."""
        if self._pending is not None and not self._pending.advances and state.entries_read != added:
            state.entries_read = added
            self._pending.commit.commands.append(set_position(state.keys.stream, state.position, added))
