"""The LSTM of a group: shared weights, and for every series a hidden and a cell state carried from tick to tick.

One step, gates in torch's order i, f, g, o (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

    a  = W_ih x + W_hh h + b        (4H)
    i, f, o = σ(a_i), σ(a_f), σ(a_o);  g = tanh(a_g)
    c' = f ∘ c + i ∘ g
    h' = o ∘ tanh(c')
    ẑ  = v · [h', x] + v₀           forecast of the next change, in scales

Of several layers each takes the h' below it for its x; the head sees the h' of the top one, and the inputs themselves.

Glossary
    F, H, n     inputs, hidden units, rows
    L           layers; all their h, and all their c, stand side by side in one row, the top layer last
    θ           all weights as one flat float32 vector: what the optimiser, snapshots and the wire to a trainer carry
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROW_BLOCK = 16  # rows; torch.mm gives a row the same bits at any position of a batch padded to this (measured)
ROWS_AT_ONCE = 1024  # rows; more falls out of the second-level cache and costs twice as much


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one network."""

    inputs: int
    hidden: int
    layers: int = 1
    outputs: int = 1  # O: horizons that the head forecasts

    @property
    def carried(self) -> int:
        """Width of h, and of c: L · H."""
        return self.layers * self.hidden

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Shape of each weight in θ, in order; names as in `nn.LSTM`, then the head."""
        F, H = self.inputs, self.hidden
        parts: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            parts |= {
                f"weight_ih_l{layer}": (4 * H, H if layer else F),
                f"weight_hh_l{layer}": (4 * H, H),
                f"bias_ih_l{layer}": (4 * H,),
                f"bias_hh_l{layer}": (4 * H,),
            }
        parts |= {"head_weight": (H + F,), "head_bias": (1,)}
        further = self.outputs - 1
        return parts | ({"head_weights": (further, H + F), "head_biases": (further,)} if further else {})

    @property
    def size(self) -> int:
        """Length of θ."""
        return sum(math.prod(shape) for shape in self.parts.values())

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of θ by name; gradients flow through them."""
        sizes = [math.prod(shape) for shape in self.parts.values()]
        pieces = torch.split(theta, sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.parts.items(), pieces, strict=True)}


def init_weights(shape: Shape, seed: int, silent: Sequence[int] = ()) -> Tensor:
    """θ at the start: torch's uniform LSTM weights, forget bias 1, and a head of zeros, so that it begins as naive.

    Inputs that are mostly 0 may begin with weights of 0 (`silent`): the others then begin as they would without them.
    """
    if silent:
        return _widened(shape, init_weights(replace(shape, inputs=shape.inputs - len(silent)), seed), silent)
    generator = torch.Generator().manual_seed(seed)
    bound = 1.0 / math.sqrt(shape.hidden)
    theta = torch.empty(shape.size).uniform_(-bound, bound, generator=generator)
    parts = shape.split(theta)
    forget = slice(shape.hidden, 2 * shape.hidden)
    for layer in range(shape.layers):
        parts[f"bias_ih_l{layer}"].zero_()[forget] = 1.0
        parts[f"bias_hh_l{layer}"].zero_()
    for name in parts:
        if name.startswith("head"):
            parts[name].zero_()
    return theta


def _widened(shape: Shape, theta: Tensor, silent: Sequence[int]) -> Tensor:
    """θ of a network with fewer inputs, with zeros for these."""
    wide = torch.zeros(shape.size)
    parts = shape.split(wide)
    heard = [i for i in range(shape.inputs) if i not in silent]
    for name, part in replace(shape, inputs=len(heard)).split(theta).items():
        if name == "weight_ih_l0":
            parts[name][:, heard] = part
        elif not name.startswith("head_weight"):
            parts[name].copy_(part)
    return wide


class Stepper:
    """One tick of n series at once, from weights packed for speed.

    tanh(a) is taken as 2σ(2a) − 1 (torch's tanh costs ten times its sigmoid), with the 2 folded into the weights of g.
    """

    def __init__(self, shape: Shape, theta: Tensor) -> None:
        self.shape = shape
        parts = shape.split(theta)
        self._layers = [_Layer(shape.hidden, parts, layer) for layer in range(shape.layers)]
        self._head = parts["head_weight"].clone().numpy()
        self._head_bias = float(parts["head_bias"])
        self._further = [parts[name].clone().numpy() for name in ("head_weights", "head_biases") if name in parts]

    def step(
        self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Carry the state over one tick.

        Args:
            x: (n, F) float32 inputs.
            h: (n, L · H) float32 hidden states.
            c: (n, L · H) float32 cell states.

        Returns:
            (n,) ẑ, (n, L · H) new h, (n, L · H) new c, float32; each row has the same bits whatever rows are beside it.
        """
        n, F, H = len(x), self.shape.inputs, self.shape.hidden
        padded = (
            -(-n // ROW_BLOCK) * ROW_BLOCK
        )  # padding also keeps sigmoid off its scalar tail, which rounds otherwise
        joint = np.zeros((padded, F + H), np.float32)
        joint[:n, :F] = x
        hidden, cell = (
            np.empty((padded, self.shape.carried), np.float32),
            np.zeros((padded, self.shape.carried), np.float32),
        )
        cell[:n] = c
        heard = joint
        for number, layer in enumerate(self._layers):
            part = slice(number * H, (number + 1) * H)
            if number:
                heard = np.zeros((padded, 2 * H), np.float32)
                heard[:, :H] = hidden[:, part.start - H : part.start]
            heard[:n, -H:] = h[:, part]
            hidden[:, part] = layer.step(heard, cell[:, part])
        joint[:, :F] *= self._head[H:]
        joint[:, F:] = hidden[:, -H:] * self._head[:H]
        zhat = joint[:n].sum(axis=1) + np.float32(self._head_bias)
        return zhat, hidden[:n], cell[:n]

    def further(self, x: NDArray[np.float32], h: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, O − 1) ẑ of the further horizons, from the inputs and the new hidden states of a step."""
        weights, biases = self._further
        seen = np.concatenate([h[:, -self.shape.hidden :], x], axis=1)
        # Row by row and output by output: a product of matrices would round by who is beside whom.
        columns = [(seen * head).sum(axis=1) for head in weights]
        return np.asarray(np.stack(columns, axis=1) + biases, np.float32)


class _Layer:
    """The packed weights of one layer."""

    def __init__(self, hidden: int, parts: dict[str, Tensor], number: int) -> None:
        self._hidden = hidden
        twice = torch.ones(4 * hidden)
        twice[2 * hidden : 3 * hidden] = 2.0
        joint = torch.cat([parts[f"weight_ih_l{number}"], parts[f"weight_hh_l{number}"]], dim=1)
        self._weights = (joint * twice[:, None]).T.contiguous()
        self._bias = (parts[f"bias_ih_l{number}"] + parts[f"bias_hh_l{number}"]) * twice

    def step(self, heard: NDArray[np.float32], cell: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, H) new hidden states from the (n, F + H) inputs and hidden states; `cell` is carried over in place."""
        H = self._hidden
        gates = torch.addmm(self._bias, torch.from_numpy(heard), self._weights).sigmoid_().numpy()
        i, f, g, o = (gates[:, k * H : (k + 1) * H] for k in range(4))
        cell *= f
        cell += i * (2.0 * g - 1.0)
        squashed = torch.sigmoid(torch.from_numpy(cell + cell)).numpy()
        return np.asarray(o * (2.0 * squashed - 1.0), np.float32)


class SequenceModel:
    """The same network over whole chunks, with gradients: `nn.LSTM` and the head, read from θ."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            self._lstm = nn.LSTM(shape.inputs, shape.hidden, shape.layers, batch_first=True)

    def forecast(self, theta: Tensor, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """(B, T, O) forecasts ẑ after each of T ticks.

        Args:
            theta: weights θ.
            x: (B, T, F) inputs.
            h: (B, L · H) hidden states before the first tick.
            c: (B, L · H) cell states before the first tick.
        """
        parts = self.shape.split(theta)
        weights = {name: part for name, part in parts.items() if not name.startswith("head")}
        hidden, _ = torch.func.functional_call(self._lstm, weights, (x, (self._by_layer(h), self._by_layer(c))))
        head = parts["head_weight"]
        H = self.shape.hidden
        first: Tensor = hidden @ head[:H] + x @ head[H:] + parts["head_bias"]
        if self.shape.outputs == 1:
            return first[:, :, None]
        heads = parts["head_weights"]
        further = hidden @ heads[:, :H].T + x @ heads[:, H:].T + parts["head_biases"]
        return torch.cat([first[:, :, None], further], dim=2)

    def _by_layer(self, state: Tensor) -> Tensor:
        """(L, B, H) from (B, L · H), as `nn.LSTM` wants it."""
        return state.view(len(state), self.shape.layers, self.shape.hidden).transpose(0, 1).contiguous()
