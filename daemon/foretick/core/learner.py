"""Online learning: a job of a few Adam steps through recorded chunks, by truncated backpropagation through time.

A job is a value that holds all its inputs, and so is its outcome: where and when it is computed changes nothing.

Loss, over the B series of a batch (their chunk errors weighed alike, whatever their noise):

    L = mean_b [ mean_t |ẑ − z| / (mean_t |z| + .1) ]       z clipped to ±10

The absolute loss, because the squared one costs 15% of accuracy on real series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from foretick.core.lstm import SequenceModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe
    from foretick.core.recorder import Batch


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a group has learned: weights and the optimiser's moments, flat.

    Attributes:
        theta: (P,) float32 weights θ.
        mean: (P,) float32 Adam's first moment.
        square: (P,) float32 Adam's second moment.
        steps: Adam steps taken.
    """

    theta: Tensor
    mean: Tensor
    square: Tensor
    steps: int

    @staticmethod
    def fresh(theta: Tensor) -> Knowledge:
        """These weights, and an optimiser that has seen nothing."""
        return Knowledge(theta, torch.zeros_like(theta), torch.zeros_like(theta), 0)

    @property
    def sound(self) -> bool:
        """Whether every number is finite."""
        return all(bool(torch.isfinite(part).all()) for part in (self.theta, self.mean, self.square))


@dataclass(frozen=True, slots=True)
class Job:
    """One learning job, complete.

    Attributes:
        number: of the cut that made it.
        knowledge: what to start from.
        rate: Adam's learning rate.
        batches: one per step; may hold no chunk.
    """

    number: int
    knowledge: Knowledge
    rate: float
    batches: list[Batch]


class Trainer(Protocol):
    """Computes jobs, one at a time. `collect` returns what `submit` was given, learned; it may block."""

    def submit(self, job: Job) -> None:
        """Begin a job; the one before has been collected."""

    def collect(self) -> Knowledge:
        """The outcome of the submitted job."""


class InlineTrainer:
    """Computes each job in the calling thread, when it is collected."""

    def __init__(self, shape: Shape, recipe: LearnRecipe) -> None:
        self._learner = Learner(shape, recipe)
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        """Keep the job."""
        self._job = job

    def collect(self) -> Knowledge:
        """Compute the kept job."""
        assert self._job is not None
        job, self._job = self._job, None
        return self._learner.learn(job)


class Learner:
    """Turns a job into knowledge."""

    def __init__(self, shape: Shape, recipe: LearnRecipe) -> None:
        self._model = SequenceModel(shape)
        self._recipe = recipe

    def learn(self, job: Job) -> Knowledge:
        """Take one Adam step per batch; a step whose gradient is not finite is left out."""
        before = job.knowledge
        theta = before.theta.clone().requires_grad_(True)
        adam = torch.optim.Adam([theta], lr=job.rate, fused=True)
        moments = {"exp_avg": before.mean.clone(), "exp_avg_sq": before.square.clone()}
        adam.state[theta] = {"step": torch.tensor(float(before.steps)), **moments}
        for batch in job.batches:
            if len(batch.length) == 0:
                continue
            adam.zero_grad()
            self._loss(theta, batch).backward()
            norm = torch.nn.utils.clip_grad_norm_([theta], self._recipe.clip_norm)
            if math.isfinite(float(norm)):
                adam.step()
        state = adam.state[theta]
        return Knowledge(theta.detach(), state["exp_avg"], state["exp_avg_sq"], int(state["step"]))

    def _loss(self, theta: Tensor, batch: Batch) -> Tensor:
        z = torch.from_numpy(batch.z).clamp(-self._recipe.target_clip, self._recipe.target_clip)
        known = _known(batch.length, z.shape[1])
        forecast = self._model.forecast(theta, *(torch.from_numpy(part) for part in (batch.x, batch.h, batch.c)))
        error = ((forecast - z).abs() * known).sum(dim=1)
        size = (z.abs() * known).sum(dim=1)
        return (error / (size + self._recipe.loss_floor * known.sum(dim=1))).mean()


def _known(length: NDArray[np.int64], ticks: int) -> Tensor:
    """(B, T) float32, 1 where the outcome is known."""
    return (torch.arange(ticks)[None, :] < torch.from_numpy(length)[:, None]).float()


def learning_rate(t: float, recipe: LearnRecipe) -> float:
    """Adam's rate after t ticks per series: full until `rate_until`, then as 1/√t down to a floor."""
    return recipe.rate * max(recipe.rate_floor, min(1.0, math.sqrt(recipe.rate_until / max(t, 1.0))))
