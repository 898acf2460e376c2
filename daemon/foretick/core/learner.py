"""Online learning: a job of a few Adam steps through recorded chunks, by truncated backpropagation through time.

A job is a value that holds all its inputs, and so is its outcome: where and when it is computed changes nothing.

Loss, over the B series of a batch (their chunk errors weighed alike, whatever their noise):

    L = mean_b [ mean_t |ẑ − z| / (mean_t |z| + .1) ]       z clipped to ±10

and the mean of that over the horizons, where there are several; their outcomes over √h, as far as a random walk strays.

The absolute loss, because the squared one costs 15% of accuracy on real series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from foretick.core.device import CPU, blaming
from foretick.core.lstm import SequenceModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe
    from foretick.core.recorder import Batch

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's own defaults: memory of ~10 and ~1,000 steps
_WEIGHT_MAX = 1e3  # trained weights stay below 10; a network beyond this has come apart
_TINY = 1e-30  # a gradient norm below it is zero


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
        """Whether every number is finite and no weight absurd; anything else must not reach a forecast."""
        finite = all(np.isfinite(part.numpy()).all() for part in (self.theta, self.mean, self.square))
        return finite and float(self.theta.abs().max()) <= _WEIGHT_MAX


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

    def __init__(self, shape: Shape, recipe: LearnRecipe, device: str = CPU) -> None:
        self._learner = Learner(shape, recipe, device)
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
    """Turns a job into knowledge.

    Args:
        shape: of the network.
        recipe: constants of learning.
        device: torch's name of where it computes; jobs and knowledge lie on the CPU.
    """

    def __init__(self, shape: Shape, recipe: LearnRecipe, device: str = CPU) -> None:
        self._model = SequenceModel(shape)
        self._recipe = recipe
        self._device = device

    def learn(self, job: Job) -> Knowledge:
        """Take one Adam step per batch; a step whose gradient is not finite is left out."""
        with blaming(self._device):
            return self._learn(job)

    def _learn(self, job: Job) -> Knowledge:
        before = job.knowledge
        theta, mean, square = (part.to(self._device, copy=True) for part in (before.theta, before.mean, before.square))
        steps = before.steps
        for batch in job.batches:
            if len(batch.length) == 0:
                continue
            (gradient,) = torch.autograd.grad(self._loss(theta.requires_grad_(True), batch), theta)
            theta = theta.detach()
            norm = float(gradient.norm())
            if math.isfinite(norm):
                steps += 1
                gradient *= min(1.0, self._recipe.clip_norm / max(norm, _TINY))
                _adam_step(theta, gradient, mean, square, steps, job.rate)
        return Knowledge(theta.cpu(), mean.cpu(), square.cpu(), steps)

    def _loss(self, theta: Tensor, batch: Batch) -> Tensor:
        z = torch.from_numpy(batch.z).clamp(-self._recipe.target_clip, self._recipe.target_clip)
        known = _known(batch.length, z.shape[1])
        forecast = self._model.forecast(theta, *(self._there(part) for part in (batch.x, batch.h, batch.c)))
        loss = self._relative(forecast[:, :, 0], z.to(self._device), known.to(self._device))
        further = forecast.shape[2] - 1
        if not further:
            return loss
        far = torch.from_numpy(batch.far)
        steps = torch.arange(2, further + 2)
        far = (far / steps.sqrt()).clamp(-self._recipe.target_clip, self._recipe.target_clip).to(self._device)
        losses = [
            self._relative(forecast[:, :, i + 1], far[:, :, i].nan_to_num(), far[:, :, i].isfinite().float())
            for i in range(further)
        ]
        return (loss + torch.stack(losses).sum()) / (further + 1)

    def _there(self, part: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(part).to(self._device)

    def _relative(self, forecast: Tensor, z: Tensor, known: Tensor) -> Tensor:
        """Mean over chunks of their mean |error|, in mean sizes of what was to be forecast."""
        error = ((forecast - z).abs() * known).sum(dim=1)
        size = (z.abs() * known).sum(dim=1)
        return (error / (size + self._recipe.loss_floor * known.sum(dim=1)).clamp(min=_TINY)).mean()


def _adam_step(theta: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, steps: int, rate: float) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1), in place on flat vectors.

    Not `torch.optim.Adam`: its first step imports torch's compiler, which takes a second and leaves a cache folder.
    """
    mean.mul_(_BETA_1).add_(gradient, alpha=1 - _BETA_1)
    square.mul_(_BETA_2).addcmul_(gradient, gradient, value=1 - _BETA_2)
    spread = (square / (1 - _BETA_2**steps)).sqrt_().add_(_EPSILON)
    theta.addcdiv_(mean, spread, value=-rate / (1 - _BETA_1**steps))


def _known(length: NDArray[np.int64], ticks: int) -> Tensor:
    """(B, T) float32, 1 where the outcome is known."""
    return (torch.arange(ticks)[None, :] < torch.from_numpy(length)[:, None]).float()


def learning_rate(t: float, recipe: LearnRecipe) -> float:
    """Adam's rate after t ticks per series: full until `rate_until`, then as 1/√t down to a floor."""
    return recipe.rate * max(recipe.rate_floor, min(1.0, math.sqrt(recipe.rate_until / max(t, 1.0))))
