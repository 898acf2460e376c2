"""One partition's life: candidate, recovery, loop; and from each error the way back or out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.answers import StreamState
from foretick.app.commits import StartOver
from foretick.app.patience import StopRequested
from foretick.app.pipeline import Pipeline
from foretick.app.recovery import Recovery
from foretick.errors import (
    CommandFailed,
    ConnectionLost,
    ForetickError,
    LeaseLost,
    PartitionStopped,
    ServerRefused,
    UsageError,
)
from foretick.ports.streams import Commit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from foretick.app.answers import ForecastEngine, Limits
    from foretick.app.commits import Committer
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.wire import FieldNames

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
    ) -> None:
        self.name = name
        self._committer = committer
        self._patience = committer.patience
        self._lease = committer.exchange.lease
        self._connection = committer.exchange.connection
        self._streams = streams
        self._make_engine = make_engine
        self._start = start
        self._fields = fields
        self._limits = limits
        self._telemetry = telemetry
        self._health = health

    def run(self) -> None:
        """Forecast until a stop is requested; errors that waiting or starting over can mend stay inside."""
        while not self._patience.stop.is_set():
            try:
                self._own_and_forecast()
            except StopRequested:
                break
            except LeaseLost as loss:
                self._lose(loss)
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
        self._leave()

    @property
    def _names(self) -> str:
        return ", ".join(keys.stream.decode(errors="backslashreplace") for keys in self._streams)

    def _own_and_forecast(self) -> None:
        """Take the lease, recover, loop; ends with a stop or an error."""
        self._become_owner()
        pipeline = self._recover()
        self._patience.over()
        self._health.set("state", True, "")
        while not self._patience.stop.is_set():
            pipeline.turn()
        pipeline.finish()

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
        self._telemetry.set_leases_held(1)
        log.info("lease_taken", lease=self._lease.key)

    def _recover(self) -> Pipeline:
        """Lead a fresh engine to the committed position."""
        while True:
            engine = self._make_engine()
            try:
                states = [self._recover_stream(keys, engine) for keys in self._streams]
                self._lease.raise_fence(self._connection)
                before = {state.keys.stream: state.position for state in states}
                self._committer.check_positions(Commit(before=before))
            except (ConnectionLost, ServerRefused) as error:
                self._committer.reconnect(error)
            except CommandFailed as error:
                if error.word != "WRONGTYPE":
                    raise PartitionStopped(str(error)) from error
                self._patience.bear("input", "input_unusable", str(error))
                self._keep_lease()
            else:
                self._telemetry.watch_scores(engine.scores, self.name)
                return self._make_pipeline(engine, states)

    def _recover_stream(self, keys: StreamKeys, engine: ForecastEngine) -> StreamState:
        recovery = Recovery(
            self._committer,
            keys,
            self._start,
            fields=self._fields,
            telemetry=self._telemetry,
            health=self._health,
        )
        plan, gone = recovery.settle_in()
        standing = recovery.replay(engine, plan, gone)
        log.info("stream_opened", stream=keys.stream, position=standing.position, replayed=standing.replayed)
        return StreamState(keys, standing.position, standing.entries_read)

    def _make_pipeline(self, engine: ForecastEngine, states: list[StreamState]) -> Pipeline:
        return Pipeline(
            self._committer,
            engine,
            states,
            fields=self._fields,
            limits=self._limits,
            telemetry=self._telemetry,
            health=self._health,
            clock_offset_seconds=self._lease.clock_offset_seconds,
        )

    def _keep_lease(self) -> None:
        try:
            self._committer.renew()
        except (ConnectionLost, ServerRefused) as error:
            self._committer.reconnect(error)

    def _forget(self) -> None:
        """Tell nobody any more how a partition fares that is not ours."""
        self._telemetry.set_leases_held(0)
        self._telemetry.forget_scores(self.name)
        for keys in self._streams:
            self._telemetry.forget_lag(keys.stream)

    def _lose(self, loss: LeaseLost) -> None:
        """Become a candidate; the engine that saw ticks we could not answer is dropped with the pipeline."""
        self._lease.forget()
        self._telemetry.count_lease_lost()
        self._forget()
        self._health.set("lease", False, str(loss))
        self._health.set("state", False, "not the owner")
        log.warning("lease_lost", reason=str(loss))

    def _stand_still(self, reason: PartitionStopped) -> None:
        """Keep the process up, so that `/readyz` can say what an operator has to decide."""
        log.error("partition_stopped", reason=str(reason))
        self._health.set("partition", False, str(reason))
        self._forget()
        self._connection.close()
        while not self._patience.stop.wait(1.0):
            self._health.beat(10.0)

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
