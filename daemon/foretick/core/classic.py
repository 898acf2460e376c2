"""Windowed networks as tutorials build them, to try against ours on the same series. Nothing of foretick runs on them.

Each forecast starts from a zero state, reads a window of W rows, and maps the last hidden state to the targets:

    h_1 … h_W = cell(x_1 … x_W; h_0 = 0)        LSTM, GRU or plain RNN of torch, 1–4 layers, one or both directions
    ŷ = V h_W + v                               one number per target

So a tick costs W steps where a carried state costs one, and what lies before the window is forgotten.

Glossary
    N, W        pairs of window and target, rows per window
    F, O        features, targets
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Cell = Literal["lstm", "gru", "rnn"]
_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_LOSSES = {"mse": nn.MSELoss, "mae": nn.L1Loss}
_MOMENTUM = 0.9  # of SGD; without it these networks need ten times the epochs
_FORECAST_ROWS = 4096  # windows at a time: bounds the memory of a forecast over a long series


@dataclass(frozen=True, slots=True)
class ClassicRecipe:
    """A network and its training.

    Attributes:
        window: rows it sees.
        cell: kind of its units.
        hidden: units per layer and direction.
        layers: stacked.
        dropout: share of hidden units silenced while it learns, between layers and before the head.
        bidirectional: whether it also reads the window backwards.
        optimizer: sgd (with momentum .9) or adam.
        rate: of learning at first; it falls to 0 along a half cosine.
        loss: squared or absolute.
        epochs: passes over the training pairs, at most.
        batch: pairs per step.
        patience: epochs without a better validation loss after which it stops.
        seed: of weights, order and dropout.
        device: where torch computes.
    """

    window: int
    cell: Cell = "lstm"
    hidden: int = 32
    layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    optimizer: Literal["sgd", "adam"] = "adam"
    rate: float = 1e-2
    loss: Literal["mse", "mae"] = "mse"
    epochs: int = 50
    batch: int = 64
    patience: int = 10
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Windows and what they should lead to.

    Attributes:
        x: (N, W, F) windows.
        y: (N, O) targets.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.x)

    def at(self, chosen: slice | NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.x[chosen], self.y[chosen])


def pairs_of(features: NDArray[np.float64], targets: NDArray[np.float64], window: int, ahead: int) -> Pairs:
    """Every window of a series with its targets; the n-th pair's targets are those of row n + window − 1 + ahead.

    Args:
        features: (n, F) rows in order of time.
        targets: (n, O) the same rows.
        window: rows per window.
        ahead: rows from a window's last one to its targets.
    """
    count = max(len(features) - window + 1 - ahead, 0)
    rows = np.arange(count)[:, None] + np.arange(window)
    return Pairs(features[rows], targets[np.arange(count) + window - 1 + ahead])


@dataclass(frozen=True, slots=True)
class Scaling:
    """x ↦ (x − offset) / spread, column by column.

    Attributes:
        offset: (C,) of each column.
        spread: (C,) likewise; never 0.
    """

    offset: NDArray[np.float64]
    spread: NDArray[np.float64]

    @staticmethod
    def of(rows: NDArray[np.float64], kind: Literal["minmax", "standard"]) -> Scaling:
        """What brings these (n, C) rows to 0…1, or to mean 0 and deviation 1."""
        if kind == "minmax":
            offset, spread = rows.min(axis=0), np.ptp(rows, axis=0)
        else:
            offset, spread = rows.mean(axis=0), rows.std(axis=0)
        return Scaling(offset, np.where(spread > 0, spread, 1.0))

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, C) values, scaled."""
        return (values - self.offset) / self.spread

    def invert(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, C) scaled values, in their own units again."""
        return values * self.spread + self.offset


class WindowedModel(nn.Module):
    """The network of a recipe, from F features to O targets."""

    def __init__(self, recipe: ClassicRecipe, features: int, targets: int) -> None:
        super().__init__()
        between = recipe.dropout if recipe.layers > 1 else 0.0  # torch warns where there is no between
        self.cells = _CELLS[recipe.cell](
            features,
            recipe.hidden,
            recipe.layers,
            batch_first=True,
            dropout=between,
            bidirectional=recipe.bidirectional,
        )
        self.drop = nn.Dropout(recipe.dropout)
        self.directions = 2 if recipe.bidirectional else 1
        self.head = nn.Linear(self.directions * recipe.hidden, targets)

    def forward(self, x: Tensor) -> Tensor:
        """(B, O) forecasts from (B, W, F) windows."""
        _, last = self.cells(x)
        h = last[0] if isinstance(last, tuple) else last
        top = torch.cat(list(h[-self.directions :]), dim=1)
        forecast: Tensor = self.head(self.drop(top))
        return forecast


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass.

    Attributes:
        number: from 1.
        loss: mean over the training pairs while it learned.
        validation: mean over the validation pairs after it; NaN without any.
        is_best: whether its weights are the best so far.
    """

    number: int
    loss: float
    validation: float
    is_best: bool


def make_model(recipe: ClassicRecipe, features: int, targets: int) -> WindowedModel:
    """A fresh network, its weights drawn by the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return WindowedModel(recipe, features, targets).to(recipe.device)


def train(
    model: WindowedModel, recipe: ClassicRecipe, known: Pairs, validation: Pairs | None = None
) -> Iterator[Epoch]:
    """Learn from scaled pairs; yields after each epoch, and leaves the best weights in the model at the end.

    With validation pairs the best are those of the lowest validation loss, and learning stops when that has not fallen
    for `recipe.patience` epochs; without, the last are the best.
    """
    x, y = _tensors(known, recipe.device)
    measure = _LOSSES[recipe.loss]()
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    generator = torch.Generator().manual_seed(recipe.seed)
    best, best_loss, best_epoch = None, float("inf"), 0
    with torch.random.fork_rng():  # dropout draws from the global one
        torch.manual_seed(recipe.seed)
        for number in range(1, recipe.epochs + 1):
            total = 0.0
            for chosen in torch.randperm(len(x), generator=generator).to(recipe.device).split(recipe.batch):
                optimizer.zero_grad()
                loss = measure(model(x[chosen]), y[chosen])
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(chosen)
            schedule.step()
            judged = mean_loss(model, recipe, validation) if validation else float("nan")
            is_best = not validation or judged < best_loss
            if validation and is_best:
                best, best_loss, best_epoch = copy.deepcopy(model.state_dict()), judged, number
            yield Epoch(number, total / len(x), judged, is_best)
            if validation and number - best_epoch >= recipe.patience:
                break
    if best is not None:
        model.load_state_dict(best)


def forecast(model: WindowedModel, recipe: ClassicRecipe, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, O) scaled forecasts from (N, W, F) scaled windows."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(torch.tensor(x[begin : begin + _FORECAST_ROWS], dtype=torch.float32, device=recipe.device)).cpu()
            for begin in range(0, max(len(x), 1), _FORECAST_ROWS)
        ]
    model.train()
    return torch.cat(parts).numpy().astype(np.float64)


def extend(model: WindowedModel, recipe: ClassicRecipe, window: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(steps, F) scaled values after a (W, F) window, each forecast fed back; the targets are the features."""
    rows = window
    for _ in range(steps):
        rows = np.concatenate([rows, forecast(model, recipe, rows[None, -recipe.window :])])
    return rows[len(window) :]


def mean_loss(model: WindowedModel, recipe: ClassicRecipe, pairs: Pairs) -> float:
    """The recipe's loss over scaled pairs; NaN where there is none."""
    if not len(pairs):
        return float("nan")
    error = forecast(model, recipe, pairs.x) - pairs.y
    return float((error**2).mean() if recipe.loss == "mse" else np.abs(error).mean())


def _optimizer(model: WindowedModel, recipe: ClassicRecipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate)
    return torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=_MOMENTUM)


def _tensors(pairs: Pairs, device: str) -> tuple[Tensor, Tensor]:
    x, y = (torch.tensor(part, dtype=torch.float32, device=device) for part in (pairs.x, pairs.y))
    return x, y
