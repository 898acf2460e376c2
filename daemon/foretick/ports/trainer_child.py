"""The trainer's process: computes the orders that arrive on its standard input, a socket, one after another.

It holds nothing between two orders, so it may be killed at any instant and replaced by another. It ends when the daemon
hangs up, and dies with it at once, whatever ends the daemon and whatever it is doing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foretick.core.device import CPU
from foretick.ports.device import compute_exactly

if TYPE_CHECKING:
    from foretick.core.learner import Learner
    from foretick.core.lstm import Shape
    from foretick.core.recipe import LearnRecipe

READY = b"ready"
MESSAGE_BYTES_MAX = 1 << 16  # an order is about 1 kB
NICENESS = 19  # the loop's next tick comes first, always
OOM_SCORE = 500  # of 1,000: where memory runs out, this process can be replaced and the daemon's state cannot
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An order was carried out.

    Attributes:
        id: of the order.
        steps: Adam steps taken, those before the job included.
        seconds: time that the computation took.
    """

    id: int
    steps: int
    seconds: float

    def pack(self) -> bytes:
        """The message."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def unpack(message: bytes) -> Answer:
        """The answer in a message."""
        return Answer(**json.loads(message))


def main(parent: int) -> None:
    """Be the trainer of the daemon with this process id."""
    _die_with(parent)
    # A whole group of processes is often signalled at once (Ctrl-C, systemd); the daemon may still wait for an answer.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    _import_torch()
    with socket.socket(fileno=0) as orders, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        orders.send(READY)
        with contextlib.suppress(OSError):  # a sandbox may refuse
            os.nice(NICENESS)  # only now: where the loop takes the only core, the import would take minutes
        serve(orders)


def _die_with(parent: int) -> None:
    """SIGKILL in the place of the SIGTERM that `bound_to_parent` arranged: it ends even a stopped process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def _import_torch() -> None:
    """Import torch, and go once through what its first backward pass sets up: 0.4 s that no job has to wait for."""
    import torch  # noqa: PLC0415  takes seconds: the signals must be in order before

    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(8, 8, batch_first=True)
    lstm(torch.ones(2, 2, 8))[0].sum().backward()


def serve(orders: socket.socket) -> None:
    """Carry out orders until the daemon hangs up."""
    learners: dict[tuple[Shape, LearnRecipe, str], Learner] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, MESSAGE_BYTES_MAX, 1)
        if not message:
            return
        orders.send(_carry_out(message, descriptors[0], learners))


def _carry_out(message: bytes, descriptor: int, learners: dict[tuple[Shape, LearnRecipe, str], Learner]) -> bytes:
    """Compute one order; its memory is unmapped when the last view of it goes."""
    from foretick.core.learner import Learner  # noqa: PLC0415  imports torch
    from foretick.ports.trainer_wire import Order  # noqa: PLC0415  likewise

    order = Order.unpack(message)
    try:
        memory = mmap.mmap(descriptor, order.size_bytes)
    finally:
        os.close(descriptor)
    begun = time.perf_counter()
    network = order.shape, order.learn, order.device
    if network not in learners:
        if order.device != CPU:
            compute_exactly()
        learners[network] = Learner(*network)
    outcome = learners[network].learn(order.read(memory))
    order.write_outcome(outcome, memory)
    return Answer(order.id, outcome.steps, time.perf_counter() - begun).pack()


if __name__ == "__main__":
    main(int(sys.argv[1]))
