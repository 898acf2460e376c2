"""The LSTM of a group: shared weights, and for every series a hidden and a cell state carried from tick to tick.

One step, gates in torch's order i, f, g, o (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

    a  = W_ih x + W_hh h + b        (4H)
    i, f, o = σ(a_i), σ(a_f), σ(a_o);  g = tanh(a_g)
    c' = f ∘ c + i ∘ g
    h' = o ∘ tanh(c')
    ẑ  = v · [h', x] + v₀           forecast of the next change, in scales

Of several layers each takes the h' below it for its x; the head sees the h' of the top one, and the inputs themselves.

Glossary
    F, H, n     inputs, hidden units, series
    L           layers; all their h, and all their c, stand side by side in one row, the top layer last
    θ           all weights as one flat float32 vector: what the optimiser, snapshots and the wire to a trainer carry
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from foretick.core.block import ROW_BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROOMS_KEPT = 4  # of different sizes; 1 MB each at most


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

    σ(a) is taken as ½ + ½ tanh(a/2), the halves folded into the weights: one function for all four gates. n is a
    multiple of 16 (`block`), for then each series has the same bits whatever is beside it.
    """

    def __init__(self, shape: Shape, theta: Tensor) -> None:
        self.shape = shape
        parts = shape.split(theta)
        self._layers = [_Layer(shape.hidden, parts, layer) for layer in range(shape.layers)]
        self._head = parts["head_weight"].roll(shape.inputs).numpy()  # of the inputs, then of h
        self._head_bias = np.float32(parts["head_bias"])
        self._further = [parts[name].clone().numpy() for name in ("head_weights", "head_biases") if name in parts]

    def step(
        self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Carry the state over one tick.

        Args:
            x: (F, n) float32 inputs.
            h: (L · H, n) float32 hidden states.
            c: (L · H, n) float32 cell states.

        Returns:
            (n,) ẑ, (L · H, n) new h, (L · H, n) new c, float32.
        """
        h, c = h.copy(), c.copy()
        H, heard = self.shape.hidden, x
        for number, layer in enumerate(self._layers):
            part = slice(number * H, (number + 1) * H)
            layer.step(heard, h[part], c[part])
            heard = h[part]
        seen = self._layers[0].joint(x.shape[1])  # which still holds x
        seen[-H:] = heard
        zhat: NDArray[np.float32] = np.einsum("k,kn->n", self._head, seen)
        zhat += self._head_bias
        return zhat, h, c

    def further(self, x: NDArray[np.float32], h: NDArray[np.float32]) -> NDArray[np.float32]:
        """(O − 1, n) ẑ of the further horizons, from the inputs and the new hidden states of a step."""
        weights, biases = self._further
        seen = np.concatenate([h[-self.shape.hidden :], x])
        # Output by output: a product of matrices might round by who is beside whom.
        said = [np.einsum("k,kn->n", head, seen) for head in weights]
        return np.asarray(np.stack(said) + biases[:, None], np.float32)


class _Layer:
    """The packed weights of one layer; gates in the order i, f, o, g."""

    def __init__(self, hidden: int, parts: dict[str, Tensor], number: int) -> None:
        self._hidden = hidden
        joint = torch.cat([parts[f"weight_ih_l{number}"], parts[f"weight_hh_l{number}"]], dim=1)
        bias = (parts[f"bias_ih_l{number}"] + parts[f"bias_hh_l{number}"])[:, None]
        i, f, g, o = range(4)
        order = torch.cat([torch.arange(gate * hidden, (gate + 1) * hidden) for gate in (i, f, o, g)])
        halves = torch.ones(4 * hidden, 1)
        halves[: 3 * hidden] = 0.5
        self._product = _Product(joint[order] * halves, bias[order] * halves)

    def joint(self, n: int) -> NDArray[np.float32]:
        """(F + H, n) what the last step of n series was taken from: inputs, then hidden states."""
        return self._product.room(n).factor

    def step(self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]) -> None:
        """Write the new hidden states h and cell states c over the old, from these and the (F, n) inputs."""
        n, H = x.shape[1], self._hidden
        joint = self.joint(n)
        joint[:-H] = x
        joint[-H:] = h
        gates = self._product.take(n)
        np.tanh(gates, out=gates)
        open_ = gates[: 3 * H]
        open_ *= np.float32(0.5)
        open_ += np.float32(0.5)
        i, f, o, g = (gates[k * H : (k + 1) * H] for k in range(4))
        c *= f
        i *= g
        c += i
        np.tanh(c, out=h)
        h *= o


class _Room(NamedTuple):
    """Memory for the product of n columns: making tensors costs a single tick more than the product itself."""

    factor: NDArray[np.float32]
    product: NDArray[np.float32]
    factor_blocks: Tensor
    product_blocks: Tensor
    weights: Tensor
    answer: Tensor


class _Product:
    """W x + b, the columns of x taken 16 at a time.

    A library of matrix products chooses its kernel by the shape, and kernels round differently: MKL with AVX2 does at
    80, 128, 176 … columns, where AVX-512 does not. So there is one shape for however many columns.

    Args:
        weights: (p, q) W.
        bias: (p, 1) b.
    """

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        self._weights = weights.contiguous()[None]
        self._bias = bias[None]
        self._rooms: dict[int, _Room] = {}

    def room(self, n: int) -> _Room:
        """Where the factor x of n columns is written before its product is taken."""
        if n not in self._rooms:
            if len(self._rooms) >= _ROOMS_KEPT:
                self._rooms.clear()
            _, p, q = self._weights.shape
            factor, product = torch.empty(q, n), torch.empty(p, n)
            blocks, told = (whole.view(len(whole), -1, ROW_BLOCK).transpose(0, 1) for whole in (factor, product))
            weights = self._weights.expand(len(blocks), p, q)
            # What a product is written to has to lie in one piece; a single block does.
            answer = told if n == ROW_BLOCK else torch.empty(told.shape)
            self._rooms[n] = _Room(factor.numpy(), product.numpy(), blocks, told, weights, answer)
        return self._rooms[n]

    def take(self, n: int) -> NDArray[np.float32]:
        """(p, n) the product of the n columns in the room for them."""
        room = self.room(n)
        torch.baddbmm(self._bias, room.weights, room.factor_blocks, out=room.answer)
        if room.answer is not room.product_blocks:
            room.product_blocks.copy_(room.answer)
        return room.product


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
