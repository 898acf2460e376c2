"""A partition's checkpoints from its point of view: one to start from, then one after another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from foretick.app.checkpointing import Checkpointer
from foretick.app.patience import StopRequested
from foretick.app.restoring import Restoring, Standing, history_of, remember_history
from foretick.app.states import Identity
from foretick.errors import ConnectionLost
from foretick.ports.streams import Commit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretick.app.answers import ForecastEngine
    from foretick.app.commits import Committer
    from foretick.app.marks import Mark
    from foretick.app.recovery import Settled
    from foretick.app.restoring import Restored
    from foretick.app.states import StatefulEngine
    from foretick.ports.checkpoints import CheckpointStore
    from foretick.ports.connection import Command
    from foretick.ports.telemetry import Telemetry

WAIT_SECONDS = 0.3  # between two looks at whether the last checkpoint is written; at most a third of the lease's life


class Keeping:
    """Keeps the state of one partition, tenure after tenure.

    Args:
        partition: its name.
        base: what the keys of its checkpoints begin with.
        make_store: a store with a connection of its own, for each tenure.
        committer: exchange, lease and the ways out of trouble.
        every_seconds: time between two checkpoints.
        telemetry: metrics.
        discard_before_ms: what was saved before it is not used; milliseconds since the epoch, UTC.
    """

    def __init__(
        self,
        partition: str,
        base: bytes,
        make_store: Callable[[], CheckpointStore],
        committer: Committer,
        *,
        every_seconds: float,
        telemetry: Telemetry,
        discard_before_ms: int | None = None,
    ) -> None:
        self._partition = partition
        self._base = base
        self._make_store = make_store
        self._committer = committer
        self._every_seconds = every_seconds
        self._telemetry = telemetry
        self._discard_before_ms = discard_before_ms
        self._store: CheckpointStore | None = None
        self._history = ""
        self._restored: Restored | None = None
        self._checkpointer: Checkpointer | None = None

    def restore(self, engine: ForecastEngine, settled: Sequence[Settled]) -> dict[bytes, Mark]:
        """Restore a fresh engine, if there is a checkpoint that will do.

        Returns:
            Where its streams stood then; nothing where the engine is as fresh as before.

        Raises:
            StateUnreadable: the newest one is of a model of another shape, or the store cannot be read at all.
            ConnectionLost, ServerRefused: try again.
        """
        self.close()
        self._store = self._make_store()
        # Of inputs that were all created anew, files on other machines may tell as well: their word must fit no more.
        is_new = bool(settled) and all(one.plan.regressed for one in settled)
        self._history = history_of(self._committer.exchange.connection, self._base, is_new=is_new)
        engines = engines_of(engine)
        identity = Identity(self._partition, self._history, {group: one.layout for group, one in engines.items()})
        standing = Standing(
            {one.keys.stream: one.plan.position for one in settled},
            frozenset(one.keys.stream for one in settled if one.plan.regressed or not one.plan.has_group),
        )
        restoring = Restoring(self._store, identity, self._telemetry, self._discard_before_ms)
        self._restored = restoring.restore(engines, standing, self._commit, _Renewals(self._committer))
        return self._restored.marks if self._restored else {}

    def begin(self, engine: ForecastEngine, *, replayed: int) -> Checkpointer:
        """What takes the checkpoints of this tenure; the first one at once, if there is anything to keep."""
        assert self._store is not None
        self._checkpointer = made = Checkpointer(
            self._store,
            engines_of(engine),
            partition=self._partition,
            history=self._history,
            every_seconds=self._every_seconds,
            telemetry=self._telemetry,
            reminder=[remember_history(self._base, self._history)],
        )
        if self._restored is not None:
            made.stand_at(self._restored.marks, self._restored.size_bytes, self._restored.saved_ms)
        if replayed:
            made.begin_at_once()
        return made

    def finish(self, marks: Sequence[Mark]) -> None:
        """The last checkpoint of a clean end, if the time allows; engine and committed position agree."""
        if self._checkpointer is not None:
            lease = self._committer.exchange.lease
            self._checkpointer.finish(
                marks,
                self._commit,
                self._committer.renew,
                min(WAIT_SECONDS, lease.ttl_ms / 3000),
            )

    def close(self) -> None:
        """The tenure is over, however it ended."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        elif self._store is not None:
            self._store.close()
        self._checkpointer = self._store = None

    def _commit(self, commands: list[Command]) -> None:
        """Carry commands out while the lease is ours, or not at all."""
        exchange = self._committer.exchange
        exchange.lease.raise_fence(exchange.connection)
        commit = Commit(list(commands))
        try:
            outcome = exchange.commit_alone(commit)
        except ConnectionLost:
            outcome = None
        self._committer.settle(commit, outcome)


class _Renewals:
    """Keeps the lease while something else takes long; may be called as often as one likes."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._every_seconds = committer.exchange.lease.ttl_ms / 3000
        self._due_at = time.monotonic() + self._every_seconds

    def __call__(self) -> None:
        if self._committer.patience.stop.is_set():
            raise StopRequested
        if time.monotonic() >= self._due_at:
            self._committer.renew()
            self._due_at = time.monotonic() + self._every_seconds


def engines_of(engine: Any) -> dict[str, StatefulEngine]:
    """The engine of each group, by its name."""
    found: dict[str, StatefulEngine] = getattr(engine, "engines", None) or {engine.group: engine}
    return found
