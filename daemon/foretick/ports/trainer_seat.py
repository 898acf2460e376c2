"""One engine's place at the trainer: its job in shared memory, and the way to compute it here if need be."""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from foretick.core.learner import Learner
from foretick.ports.trainer_wire import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.core.learner import Job, Knowledge
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe
    from foretick.ports.trainer import TrainerProcess
    from foretick.ports.trainer_child import Answer


class Seat:
    """A `Trainer`: computes one job at a time, in the trainer's process when that can, else in the caller's.

    Made by `TrainerProcess.seat`.

    Attributes:
        order_id: of the order that was sent last.
        news: set when that order was answered, or its process is gone.
        computed_seconds: time that computing the last collected job took, wherever it was.
    """

    def __init__(
        self, process: TrainerProcess, shape: Shape, recipe: LearnRecipe, on_wait: Callable[[], None], device: str
    ) -> None:
        self.order_id = 0
        self.news = threading.Event()
        self.computed_seconds = 0.0
        self._process = process
        self._shape = shape
        self._recipe = recipe
        self._on_wait = on_wait
        self._device = device
        self._learner: Learner | None = None
        self._memory: _Memory | None = None
        self._job: Job | None = None
        self._order: Order | None = None
        self._answer: Answer | None = None

    def submit(self, job: Job) -> None:
        """Begin the job. One that was never collected is forgotten."""
        if self._process.drop(self):
            self._memory = None  # the process may still read the old job there
        self._job, self._answer = job, None
        if self._process.is_over:
            return
        self._order = Order.of(job, self._shape, self._recipe, self._device)
        if self._memory is None or self._memory.size_bytes < self._order.size_bytes:
            self._memory = _Memory(self._order.size_bytes)
        self._order.write(job, self._memory.map)
        self.news.clear()
        self._process.take(self)

    def collect(self) -> Knowledge:
        """The job's outcome; waits for the process that is at it, and computes it here if none is."""
        assert self._job is not None
        if self._answer is None:
            self._process.wait_for(self, self._on_wait)
        job, self._job = self._job, None
        if self._answer is not None and self._order is not None and self._memory is not None:
            self.computed_seconds = self._answer.seconds
            return self._order.read_outcome(self._memory.map, self._answer.steps)
        return self._learn_here(job)

    def _learn_here(self, job: Job) -> Knowledge:
        """Compute the job step by step, which gives the same bits as all at once, and lets the loop keep its lease."""
        self._learner = self._learner or Learner(self._shape, self._recipe, self._device)
        knowledge = job.knowledge
        begun = waited = time.perf_counter()
        for batch in job.batches:
            if time.perf_counter() - waited >= self._process.wait_seconds:
                self._on_wait()
                waited = time.perf_counter()
            knowledge = self._learner.learn(replace(job, knowledge=knowledge, batches=[batch]))
        self.computed_seconds = time.perf_counter() - begun
        return knowledge

    # For the process.

    @property
    def descriptor(self) -> int:
        """Of the memory that holds the job."""
        assert self._memory is not None
        return self._memory.descriptor

    def pack_order(self, order_id: int) -> bytes:
        """The message that orders the job under this id."""
        assert self._order is not None
        self.order_id = order_id
        return replace(self._order, id=order_id).pack()

    def leave(self) -> None:
        """There is no process any more."""
        self._memory = self._answer = None
        self.news.set()

    def note_answer(self, answer: Answer) -> None:
        """The order was carried out."""
        self._answer = answer
        self.news.set()


class _Memory:
    """Memory without a name, which ends with the last process that holds it."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes + size_bytes // 2  # room to grow: the first jobs each have more chunks
        self.descriptor = os.memfd_create("foretick-job", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, self.size_bytes)
        self.map = mmap.mmap(self.descriptor, self.size_bytes)
