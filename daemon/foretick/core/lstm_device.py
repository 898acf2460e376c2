"""The step on a device other than the CPU: weights stay there, state comes and goes with every tick.

The arena keeps h and c as ever, so snapshots, checkpoints and all else know nothing of devices. What crosses the bus
for a series and tick is x, h and c, and back ẑ, h' and c'.

However few series tick, a step is taken of the same number of columns. A library of matrix products chooses its kernel
by the shape, and other kernels round otherwise; so there is one shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from foretick.core.block import ROWS_AT_ONCE
from foretick.core.device import CPU, blaming
from foretick.core.lstm import Stepper

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from foretick.core.lstm import Shape

_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a layer, as `torch.lstm_cell` takes them


def stepper_of(shape: Shape, theta: Tensor, device: str) -> Stepper:
    """What steps through these weights on this device, by torch's name of it."""
    if device == CPU:
        return Stepper(shape, theta)
    with blaming(device):
        return DeviceStepper(shape, theta, device)


class DeviceStepper(Stepper):
    """One tick of n series at once, on a device.

    Args:
        shape: of the network.
        theta: its weights, on the CPU.
        device: torch's name of it.
        columns: of every step; n is at most this.
    """

    def __init__(self, shape: Shape, theta: Tensor, device: str, columns: int = ROWS_AT_ONCE) -> None:
        super().__init__(shape, theta)  # the heads of further horizons stay on the CPU
        parts = shape.split(theta.to(device))
        self._device = device
        self._cells = [[parts[f"{name}_l{layer}"] for name in _PARTS] for layer in range(shape.layers)]
        self._first_head = parts["head_weight"].split([shape.hidden, shape.inputs])
        self._first_bias = parts["head_bias"]
        # Pinned memory is what a device can fetch by itself; torch keeps it for the stepper after this one.
        is_pinned = torch.device(device).type == "cuda"
        self._sent = torch.zeros(shape.inputs + 2 * shape.carried, columns, pin_memory=is_pinned)
        self._received = torch.zeros(1 + 2 * shape.carried, columns, pin_memory=is_pinned)
        self._before = torch.zeros(self._sent.shape, device=device)
        self._after = torch.zeros(self._received.shape, device=device)

    def step(
        self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Carry the state over one tick, as `Stepper.step` does; the new h and c are valid until the next step."""
        n, F, carried = x.shape[1], self.shape.inputs, self.shape.carried
        sent, received = self._sent.numpy(), self._received.numpy()
        sent[:F, :n], sent[F:-carried, :n], sent[-carried:, :n] = x, h, c
        with blaming(self._device):
            self._before.copy_(self._sent, non_blocking=True)
            self._step_there()
            self._received.copy_(self._after)  # waits for all of it
        return received[0, :n].copy(), received[1:-carried, :n], received[-carried:, :n]

    def _step_there(self) -> None:
        """From the columns `before` to those `after`; what lies behind the n-th is of an earlier round, and unread."""
        F, H, carried = self.shape.inputs, self.shape.hidden, self.shape.carried
        x, h, c = (columns.T for columns in self._before.split([F, carried, carried]))
        zhat, new_h, new_c = (columns.T for columns in self._after.split([1, carried, carried]))
        heard = x
        for number, weights in enumerate(self._cells):
            part = slice(number * H, (number + 1) * H)
            heard, new_c[:, part] = torch.lstm_cell(heard, (h[:, part], c[:, part]), *weights)
            new_h[:, part] = heard
        of_h, of_x = self._first_head
        zhat[:, 0] = heard @ of_h + x @ of_x + self._first_bias
