"""Learning beside the loop: the trainer's process, what the loop does while it waits for it, what telemetry is told."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.groups import groups_of, settings_of
from foretick.app.patience import StopRequested
from foretick.errors import CommandFailed, ConnectionLost, ServerRefused
from foretick.ports.connection import good
from foretick.ports.streams import Commit
from foretick.ports.trainer import WAIT_SECONDS, TrainerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.app.commits import Committer
    from foretick.app.settings import Settings
    from foretick.core.learner import Job, Knowledge, Trainer
    from foretick.ports.endpoints import Health
    from foretick.ports.telemetry import Telemetry

ALLOWANCE_SECONDS = 30.0  # between two signs of life in a wait: a step of a large network, computed in the loop

log = structlog.get_logger()


@contextlib.contextmanager
def trainer_process(settings: Settings, telemetry: Telemetry) -> Iterator[TrainerProcess | None]:
    """The daemon's trainer while the block lasts; none where jobs are computed in the loop."""
    learns = any(settings_of(settings, group).learn.enabled for group in groups_of(settings))
    if not learns or settings.learn.trainer == "inline":
        yield None
        return
    if not TrainerProcess.is_supported():
        log.info("trainer_inline", reason="this system has no memory that two processes can share without a name")
        yield None
        return

    def restarted(reason: str) -> None:
        telemetry.count_trainer_restart()
        log.warning("trainer_restarted", reason=reason)

    def given_up(reason: str) -> None:
        log.error("trainer_given_up", reason=reason, instead="the loop computes its learning jobs, and waits for them")

    wait_seconds = min(WAIT_SECONDS, settings.lease.ttl / 3)
    with TrainerProcess(restarted, given_up, wait_seconds=wait_seconds) as process:
        yield process


class LeaseKeeper:
    """Keeps a partition's lease while its engine waits for a learning job, in the middle of a turn.

    A turn stands under a WATCH, which tells at its EXEC that nobody took the lease or wrote into our streams since it
    was read. Renewing the lease takes an EXEC of its own, and that ends the WATCH. So the renewal and a new WATCH are
    sent as one request, as at the start of any turn, and the EXEC must have been carried out: then nothing had happened
    up to here. Otherwise we hang up: the turn's commit then finds its connection lost, and `Committer.settle` looks at
    lease, position and streams before it writes.

    Args:
        committer: of the partition.
        health: heartbeat.
    """

    def __init__(self, committer: Committer, health: Health) -> None:
        self._stop = committer.patience.stop
        self._exchange = committer.exchange
        self._health = health

    def keep(self) -> None:
        """Renew the lease and leave the fence standing; at least every third of the lease's life.

        Raises:
            StopRequested: nothing of this turn is written; its ticks stand to be read again.
            LeaseLost: another process owns the partition.
        """
        if self._stop.is_set():
            raise StopRequested
        self._health.beat(ALLOWANCE_SECONDS)
        if self._exchange.connection.is_open and not self._renewed():
            self._exchange.connection.close()

    def _renewed(self) -> bool:
        exchange, renewal = self._exchange, Commit()
        read = exchange.connection.read
        try:
            exchange.send_turn(renewal, [])
            outcome = exchange.read_outcome(renewal)
            watched, holder = read(), read()
            good(watched)
            return exchange.lease.is_ours(holder) and outcome.is_committed
        except (ConnectionLost, ServerRefused, CommandFailed):
            return False


class ObservedTrainer:
    """A trainer that tells telemetry how long jobs take, and how long the loop waited for them.

    Args:
        trainer: does the work; one that does it elsewhere tells in `computed_seconds` how long that took.
        telemetry: counts it.
    """

    def __init__(self, trainer: Trainer, telemetry: Telemetry) -> None:
        self._trainer = trainer
        self._telemetry = telemetry
        self._steps_before = 0

    def submit(self, job: Job) -> None:
        """Begin a job."""
        self._steps_before = job.knowledge.steps
        self._trainer.submit(job)

    def collect(self) -> Knowledge:
        """The job's outcome, timed."""
        begun = time.perf_counter()
        knowledge = self._trainer.collect()
        waited_seconds = time.perf_counter() - begun
        computed_seconds = getattr(self._trainer, "computed_seconds", waited_seconds)
        self._telemetry.observe_learn(computed_seconds, knowledge.steps - self._steps_before)
        self._telemetry.observe_learn_wait(waited_seconds)
        return knowledge
