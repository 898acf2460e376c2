"""Learning, as seen from outside: how long jobs take and how many steps they made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foretick.core.learner import Job, Knowledge, Trainer
    from foretick.ports.telemetry import Telemetry


class ObservedTrainer:
    """A trainer that tells telemetry what the loop waited for it.

    Args:
        trainer: does the work.
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
        self._telemetry.observe_learn(time.perf_counter() - begun, knowledge.steps - self._steps_before)
        return knowledge
