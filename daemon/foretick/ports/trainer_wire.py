"""How a learning job travels to the trainer's process and back: arrays in shared memory, all else in one short message.

The messages are JSON in packets that keep their boundaries; nothing is ever unpickled.

    order    daemon → trainer   what the job is and where its arrays lie; the memory's descriptor comes along
    ready    trainer → daemon   torch is imported, orders are computed from now on
    answer   trainer → daemon   the outcome lies in the memory, behind the job's own arrays
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.core.learner import Job, Knowledge
from foretick.core.lstm import Shape
from foretick.core.recipe import LearnRecipe
from foretick.core.recorder import Batch

if TYPE_CHECKING:
    from mmap import mmap

    from numpy.typing import NDArray

ALIGNMENT_BYTES = 64  # a cache line, and the widest vector: as torch aligns its own memory

_KNOWLEDGE = ("theta", "mean", "square")
_BATCH = tuple(part.name for part in fields(Batch))


@dataclass(frozen=True, slots=True)
class Order:
    """A job in words: all that its arrays do not say.

    Attributes:
        id: tells its answer from others.
        shape: sizes of the network.
        learn: constants of learning.
        device: torch's name of where it is computed.
        number: of the job.
        rate: Adam's learning rate.
        steps: Adam steps taken before.
        arrays: dtype and shape of each array in memory: what is known, the batches, then the outcome.
    """

    id: int
    shape: Shape
    learn: LearnRecipe
    device: str
    number: int
    rate: float
    steps: int
    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    @staticmethod
    def of(job: Job, shape: Shape, learn: LearnRecipe, device: str) -> Order:
        """The order for a job; it gets its id when it is sent."""
        arrays = [*_inputs(job), *_parts(job.knowledge)]
        described = tuple((array.dtype.str, array.shape) for array in arrays)
        learn = replace(learn, pool=None)  # where chunks were kept is nothing to the learner
        return Order(0, shape, learn, device, job.number, job.rate, job.knowledge.steps, described)

    @property
    def size_bytes(self) -> int:
        """Memory that the arrays take; at least one byte, since none cannot be mapped."""
        return max(sum(_padded_bytes(dtype, shape) for dtype, shape in self.arrays), 1)

    def pack(self) -> bytes:
        """The message; the loop waits for it."""
        order = {name: getattr(self, name) for name in _ORDER}  # `asdict` of the arrays takes longer than all the rest
        order |= {"shape": asdict(self.shape), "learn": asdict(self.learn)}
        return json.dumps(order).encode()  # floats as the shortest decimal that reads back equal: the same bits

    @staticmethod
    def unpack(message: bytes) -> Order:
        """The order in a message."""
        order = json.loads(message)
        return Order(
            order["id"],
            Shape(**order["shape"]),
            LearnRecipe(**order["learn"]),
            order["device"],
            order["number"],
            order["rate"],
            order["steps"],
            tuple((dtype, tuple(shape)) for dtype, shape in order["arrays"]),
        )

    def write(self, job: Job, memory: mmap) -> None:
        """Copy the job's arrays into the memory."""
        for place, array in zip(self._places(memory), _inputs(job), strict=False):  # behind them is the outcome's place
            place[...] = array

    def read(self, memory: mmap) -> Job:
        """The job, its arrays views of the memory."""
        theta, mean, square, *batches = self._places(memory)[: -len(_KNOWLEDGE)]
        learned = torch.from_numpy(theta), torch.from_numpy(mean), torch.from_numpy(square)
        knowledge = Knowledge(*learned, self.steps)
        width = len(_BATCH)
        split = [Batch(*batches[start : start + width]) for start in range(0, len(batches), width)]
        return Job(number=self.number, knowledge=knowledge, rate=self.rate, batches=split)

    def write_outcome(self, outcome: Knowledge, memory: mmap) -> None:
        """Copy what was learned into its place; the job's own arrays stay as they are."""
        for place, part in zip(self._places(memory)[-len(_KNOWLEDGE) :], _parts(outcome), strict=True):
            place[...] = part

    def read_outcome(self, memory: mmap, steps: int) -> Knowledge:
        """What was learned, copied."""
        theta, mean, square = (torch.from_numpy(part.copy()) for part in self._places(memory)[-len(_KNOWLEDGE) :])
        return Knowledge(theta, mean, square, steps)

    def _places(self, memory: mmap) -> list[NDArray[Any]]:
        places: list[NDArray[Any]] = []
        offset = 0
        for dtype, shape in self.arrays:
            places.append(np.ndarray(shape, dtype, buffer=memory, offset=offset))
            offset += _padded_bytes(dtype, shape)
        return places


_ORDER = tuple(part.name for part in fields(Order))


def _parts(knowledge: Knowledge) -> list[NDArray[Any]]:
    return [getattr(knowledge, name).numpy() for name in _KNOWLEDGE]


def _inputs(job: Job) -> list[NDArray[Any]]:
    return [*_parts(job.knowledge), *(getattr(batch, name) for batch in job.batches for name in _BATCH)]


def _padded_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    size_bytes = np.dtype(dtype).itemsize * math.prod(shape)
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
