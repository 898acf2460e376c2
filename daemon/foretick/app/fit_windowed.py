"""`foretick fit --window W`: a windowed network as tutorials build them, on the same files, for comparison."""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.app.fit_flags import WINDOWED_EPOCHS
from foretick.app.fit_windowed_report import as_json, as_text, draw
from foretick.app.progress import progress
from foretick.core.classic import (
    ClassicRecipe,
    Pairs,
    Scaling,
    extend,
    forecast,
    make_model,
    mean_loss,
    pairs_of,
    train,
)
from foretick.core.device import CPU
from foretick.errors import EXIT_CLEAN, UsageError
from foretick.ports.device import find_device
from foretick.ports.tables import read_tables

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretick.app.settings import Settings
    from foretick.core.classic import Epoch, WindowedModel

VALIDATION = 0.125  # of what is not for the test, as with the network of ours
VALIDATION_MIN_PAIRS = 10  # of all series together; fewer choose by chance: all are learned from instead
TIMED_FORECASTS = 200  # one by one, as a live stream asks for them
_OF_RECIPE = ("cell", "hidden", "layers", "dropout", "bidirectional", "optimizer", "rate", "batch", "loss")


@dataclass(frozen=True, slots=True)
class Series:
    """One series: scaled by its training part, and cut into pairs.

    Attributes:
        name: its id.
        inner: scaling of the features.
        outer: scaling of the targets.
        last: (W, F) its last window, scaled.
        train: scaled pairs to learn from.
        choose: scaled pairs to choose the epoch by.
        test: scaled pairs that come after.
        naive: (N, O) what stood where each test target stands, one row before it or `ahead`.
    """

    name: str
    inner: Scaling
    outer: Scaling
    last: NDArray[np.float64]
    train: Pairs
    choose: Pairs
    test: Pairs
    naive: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """How one target of one series did over the test part, in its own unit."""

    name: str
    actual: NDArray[np.float64]
    said: NDArray[np.float64]
    mae: float
    naive_mae: float

    @property
    def rel_mae(self) -> float:
        """MAE over the naive one's; NaN where nothing moved."""
        return self.mae / self.naive_mae if self.naive_mae > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it; losses in scaled units."""

    recipe: ClassicRecipe
    epochs: list[Epoch]
    pairs: tuple[int, int, int]
    losses: tuple[float, float]
    lines: list[Line]
    rel_mae: float
    forecast_us: float
    unusable: int
    further: dict[str, list[list[float]]]


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Teach, test and tell; returns the exit status.

    Raises:
        UsageError: files or flags cannot be used.
    """
    if arguments.plot:
        from foretick.app.backtest.plot import require  # noqa: PLC0415  matplotlib takes a second

        require(arguments.plot)
    torch.set_num_threads(1)  # networks this small gain nothing by a second one, and a busy machine makes it lose
    recipe = _recipe(settings, arguments)
    fitted = _fit(recipe, arguments)
    if arguments.plot:
        draw(arguments.plot, fitted)
    sys.stdout.write(as_json(fitted) if arguments.json else as_text(fitted))
    return EXIT_CLEAN


def _recipe(settings: Settings, arguments: argparse.Namespace) -> ClassicRecipe:
    given = {name: getattr(arguments, name) for name in _OF_RECIPE if getattr(arguments, name) is not None}
    given |= {"patience": arguments.patience} if arguments.patience else {}
    device = arguments.device or CPU
    if device == "auto" and torch.cuda.is_available():
        device = "cuda"
    return ClassicRecipe(
        window=arguments.window,
        epochs=arguments.epochs or WINDOWED_EPOCHS,
        seed=settings.model.seed if arguments.seed is None else arguments.seed,
        device=find_device(device, "--device"),
        **given,
    )


def _fit(recipe: ClassicRecipe, arguments: argparse.Namespace) -> Fitted:
    features = arguments.features or ("value",)
    targets = arguments.targets or features
    ahead = 1 if arguments.ahead is None else arguments.ahead
    kind = arguments.scaling or "minmax"
    tables = read_tables(arguments.files, [*features, *targets])
    F = len(features)
    series = [
        one
        for name, rows in sorted(tables.rows.items())
        if (one := _cut(name, rows[:, :F], rows[:, F:], recipe.window, ahead, arguments.split, kind))
    ]
    if not series:
        least = next(n for n in itertools.count(2) if recipe.window + ahead <= round(n * arguments.split) < n)
        raise UsageError(f"no series has the {least} rows that --window {recipe.window} takes to learn and to test")
    known, choose, test = (_joined([getattr(one, part) for one in series]) for part in ("train", "choose", "test"))
    if len(choose) < VALIDATION_MIN_PAIRS:
        known, choose = _joined([known, choose]), choose.at(slice(0))
    model = make_model(recipe, F, len(targets))
    epochs = []
    with progress(recipe.epochs, "fit", "epochs", plain_seconds=10.0) as advance:
        for epoch in train(model, recipe, known, choose if len(choose) else None):
            epochs.append(epoch)
            advance(1)
    lines = [line for one in series for line in _lines(model, recipe, one, targets)]
    relative = [line.rel_mae for line in lines if math.isfinite(line.rel_mae)]
    further = {}
    if arguments.extend:
        for one in series:
            further[one.name] = one.outer.invert(extend(model, recipe, one.last, arguments.extend)).tolist()
    return Fitted(
        recipe=recipe,
        epochs=epochs,
        pairs=(len(known), len(choose), len(test)),
        losses=(mean_loss(model, recipe, known), mean_loss(model, recipe, test)),
        lines=lines,
        rel_mae=float(np.exp(np.log(np.maximum(relative, 1e-6)).mean())) if relative else math.nan,
        forecast_us=_forecast_us(model, recipe, test),
        unusable=tables.unusable,
        further=further,
    )


def _cut(
    name: str,
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    window: int,
    ahead: int,
    share: float,
    kind: Any,
) -> Series | None:
    """The series in parts by the place of the targets; none where nothing is left to learn from or to test."""
    raw = pairs_of(features, targets, window, ahead)
    place = np.arange(len(raw)) + window - 1 + ahead  # of each pair's target
    until = round(len(features) * share)
    chosen = round(until * (1 - VALIDATION))
    if until <= window - 1 + ahead or until >= len(features):
        return None
    if chosen <= window - 1 + ahead:
        chosen = until
    inner, outer = Scaling.of(features[:chosen], kind), Scaling.of(targets[:chosen], kind)
    scaled = Pairs(inner.apply(raw.x), outer.apply(raw.y))
    test = place >= until
    return Series(
        name=name,
        inner=inner,
        outer=outer,
        last=inner.apply(features[-window:]),
        train=scaled.at(place < chosen),
        choose=scaled.at((place >= chosen) & ~test),
        test=scaled.at(test),
        naive=targets[place[test] - max(ahead, 1)],
    )


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(np.concatenate([one.x for one in parts]), np.concatenate([one.y for one in parts]))


def _lines(model: WindowedModel, recipe: ClassicRecipe, series: Series, targets: Sequence[str]) -> list[Line]:
    said = series.outer.invert(forecast(model, recipe, series.test.x))
    actual = series.outer.invert(series.test.y)
    mae, naive_mae = np.abs(said - actual).mean(axis=0), np.abs(series.naive - actual).mean(axis=0)
    names = [series.name if len(targets) == 1 else f"{series.name} {target}" for target in targets]
    return [Line(name, actual[:, i], said[:, i], float(mae[i]), float(naive_mae[i])) for i, name in enumerate(names)]


def _forecast_us(model: WindowedModel, recipe: ClassicRecipe, test: Pairs) -> float:
    """Microseconds of one forecast of one window, as they come one by one from a stream."""
    count = min(TIMED_FORECASTS, len(test))
    forecast(model, recipe, test.x[:1])
    began = time.perf_counter()
    for i in range(count):
        forecast(model, recipe, test.x[i : i + 1])
    return (time.perf_counter() - began) / count * 1e6
