"""One partition's life: candidate, recovery, loop; and from each error the way back or out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.commits import StartOver
from foretick.app.departures import Departures
from foretick.app.following import follow
from foretick.app.learning import LeaseKeeper
from foretick.app.live import Live
from foretick.app.pacing import PacedEngine
from foretick.app.patience import StopRequested
from foretick.app.pipeline import Pipeline
from foretick.app.poison import EngineFailed, Poison
from foretick.app.recovery import Recovery
from foretick.app.replay import Replay
from foretick.errors import (
    CommandFailed,
    ConnectionLost,
    ForetickError,
    LeaseLost,
    PartitionStopped,
    ServerRefused,
    StateUnreadable,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from foretick.app.answers import ForecastEngine, Limits, StreamState
    from foretick.app.commits import Committer
    from foretick.app.garbage import GarbageRounds
    from foretick.app.keeping import Keeping
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.wire import FieldNames

NAMED_MAX = 3  # streams in a message

log = structlog.get_logger()


class Partition:
    """Owns, forecasts and gives up one partition.

    Args:
        name: the tag of its streams, or `default`.
        committer: exchange, lease and the ways out of trouble.
        streams: the keys of its streams.
        make_engine: a fresh engine, for each time that the partition is taken.
        start: where a stream begins that was never read.
        fields: names of the fields of a tick.
        limits: bounds of a turn.
        telemetry: metrics.
        health: conditions of readiness.
        garbage: collects it between turns.
        keeping: restores and saves state; without it every start replays from the origin.
        live: people who look; nobody does if absent.

    Attributes:
        wanted: the keys of the streams that belong to it now; another thread may set it at any time.
        is_stopped: whether it cannot go on without an operator.
    """

    def __init__(
        self,
        name: str,
        committer: Committer,
        streams: Sequence[StreamKeys],
        make_engine: Callable[[], ForecastEngine],
        *,
        start: Literal["earliest", "latest"],
        fields: FieldNames,
        limits: Limits,
        telemetry: Telemetry,
        health: Health,
        garbage: GarbageRounds,
        keeping: Keeping | None = None,
        live: Live | None = None,
    ) -> None:
        self.name = name
        self.wanted = tuple(streams)
        self.is_stopped = False
        self._committer = committer
        self._patience = committer.patience
        self._lease = committer.exchange.lease
        self._connection = committer.exchange.connection
        self._streams: tuple[StreamKeys, ...] = ()
        self._make_engine = make_engine
        self._start: Literal["earliest", "latest"] = start
        self._fields = fields
        self._limits = limits
        self._telemetry = telemetry
        self._health = health
        self._garbage = garbage
        self._keeping = keeping
        self._live = live or Live()
        self._poison = Poison(name, self._patience.another(), telemetry)

    def run(self) -> None:
        """Forecast until a stop is requested; errors that waiting or starting over can mend stay inside."""
        while not self._patience.stop.is_set():
            try:
                self._own_and_forecast()
            except StopRequested:
                break
            except LeaseLost as loss:
                self._lose(loss)
            except EngineFailed as failure:  # told by whoever found it
                self._health.set("state", False, failure.reason)
            except StartOver as change:
                self._health.set("state", False, change.reason)
                log.warning("starting_over", stream=change.stream, reason=change.reason)
            except CommandFailed as error:
                if error.word == "CROSSSLOT":
                    raise UsageError(
                        f"streams: on a Redis Cluster give {self._names} a {{tag}}, as in {{site}}:ticks"
                    ) from error
                self._stand_still(PartitionStopped(str(error)))
            except PartitionStopped as reason:
                self._stand_still(reason)
            except StateUnreadable:
                self._leave()  # the lease as well: the next start is to be told the same, or to do better, at once
                raise
        self._leave()

    @property
    def _names(self) -> str:
        names = [keys.stream.decode(errors="backslashreplace") for keys in self.wanted]
        return ", ".join(names[:NAMED_MAX]) + (f" and {len(names) - NAMED_MAX} more" if names[NAMED_MAX:] else "")

    def _own_and_forecast(self) -> None:
        """Take the lease, recover, loop; ends with a stop or an error."""
        self._poison.rest()
        self._become_owner()
        pipeline = self._recover()
        self._patience.over()
        self._health.set("state", True, "")
        while not self._patience.stop.is_set():
            if self.wanted is not self._streams:
                read = follow(pipeline, self._recovery(), self.wanted)
                if read is not None:  # what is not read will be offered again by the next rescan
                    self._streams = self.wanted = read
            pipeline.turn()
        pipeline.finish()
        if self._keeping:
            self._keeping.finish(pipeline.marks())

    def _become_owner(self) -> None:
        while True:
            try:
                if not self._connection.is_open:
                    self._connection.open()
                if self._lease.take(self._connection):
                    break
                self._patience.bear("lease", "waiting_for_lease", "another process owns the partition")
            except (ConnectionLost, ServerRefused) as error:
                self._patience.bear("redis", "redis_away", str(error))
        self._patience.over()
        self._health.set("redis", True, "")
        self._health.set("lease", True, "")
        self._telemetry.hold_lease(self.name)
        log.info("lease_taken", lease=self._lease.key)

    def _recover(self) -> Pipeline:
        """Lead a fresh engine to the committed position."""
        recovery = self._recovery()
        replay = Replay(
            self.name,
            self._committer,
            poison=self._poison,
            fields=self._fields,
            telemetry=self._telemetry,
            health=self._health,
        )
        while True:
            self._streams = self.wanted
            made = self._make_engine()
            departures = Departures(made) if self._limits.latest else None
            engine = PacedEngine(made, self._lease, LeaseKeeper(self._committer, self._health).keep)
            try:
                settled = recovery.settle_in(self._streams, self._start)
                self._poison.recall(self._connection, settled)
                marks = self._keeping.restore(made, settled) if self._keeping else {}
                spans = recovery.spans(settled, marks)
                found = replay.lead(engine, spans)
                recovery.report_missing(settled, spans, marks, found)
                states = [one.state(marks.get(one.keys.stream), found[one.keys.stream]) for one in settled]
                pipeline = self._make_pipeline(engine, states)
                pipeline.stand_firm()
            except (ConnectionLost, ServerRefused) as error:
                self._committer.reconnect(error)
            except CommandFailed as error:
                if error.word != "WRONGTYPE":
                    raise
                self._patience.bear("input", "input_unusable", str(error))
                self._keep_lease()
            else:
                pipeline.departures = departures
                self._telemetry.watch_scores(engine.scores, self.name)
                self._telemetry.watch_series(engine.series, self.name)
                self._live.engines.follow(self.name, engine)
                if self._keeping:
                    pipeline.checkpointer = self._keeping.begin(made, replayed=found.total())
                log.info("partition_opened", partition=self.name, streams=len(settled), replayed=found.total())
                return pipeline

    def _recovery(self) -> Recovery:
        return Recovery(self._committer, telemetry=self._telemetry, health=self._health)

    def _make_pipeline(self, engine: ForecastEngine, states: list[StreamState]) -> Pipeline:
        return Pipeline(
            self._committer,
            engine,
            states,
            poison=self._poison,
            fields=self._fields,
            limits=self._limits,
            telemetry=self._telemetry,
            health=self._health,
            garbage=self._garbage,
            clock_offset_seconds=self._lease.clock_offset_seconds,
            live=self._live,
        )

    def _keep_lease(self) -> None:
        try:
            self._committer.renew()
        except (ConnectionLost, ServerRefused) as error:
            self._committer.reconnect(error)

    def _forget(self) -> None:
        """Tell nobody any more how a partition fares that is not ours, and keep it no more."""
        if self._keeping:
            self._keeping.close()
        self._telemetry.drop_lease(self.name)
        self._telemetry.forget_scores(self.name)
        self._live.engines.leave(self.name)
        for keys in self._streams:
            self._telemetry.forget_lag(keys.stream)

    def _lose(self, loss: LeaseLost) -> None:
        """Become a candidate; the engine that saw ticks we could not answer is dropped with the pipeline."""
        self._lease.forget()
        self._poison.forget()
        self._telemetry.count_lease_lost()
        self._forget()
        self._health.set("lease", False, str(loss))
        self._health.set("state", False, "not the owner")
        log.warning("lease_lost", reason=str(loss))

    def _stand_still(self, reason: PartitionStopped) -> None:
        """Keep the process up, so that `/readyz` can say what an operator has to decide."""
        self.is_stopped = True
        log.error("partition_stopped", reason=str(reason))
        self._health.set("partition", False, str(reason))
        self._forget()
        self._connection.close()
        while not self._patience.stop.wait(1.0):
            self._health.beat(10.0)

    def hang_up(self) -> None:
        """Let go after a bug: what was said on the connection is unknown, so the lease is left to expire."""
        self._forget()
        self._connection.close()

    def _leave(self) -> None:
        """Give the lease back, if that can be done at once, and hang up."""
        begun = time.monotonic()
        try:
            if self._connection.is_open and self._lease.release(self._connection):
                log.info("lease_released", lease=self._lease.key, seconds=round(time.monotonic() - begun, 3))
        except ForetickError as error:
            log.warning("lease_left_to_expire", reason=str(error))
        self._forget()
        self._connection.close()
