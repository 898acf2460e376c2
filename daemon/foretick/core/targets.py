"""Several targets of one series: inside the engine each is a series of its own that sees the others beside it.

So each has its own scale, window, carried state, experts, mix and intervals; the network is shared, as among series.
A tick of n features and T targets becomes T ticks of the same time, whose first value is the target and whose others
are the features that remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.outputs import YHAT
from foretick.core.records import Forecasts, Ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretick.core.recipe import Recipe

TARGET_MARK = b"\x1f"  # unit separator, between a series' key and a target; no key holds it


class Targets:
    """What a group of series is made of, and which parts of it are forecast.

    Args:
        carried: names of the columns of `Ticks.y`.
        recipe: which of them the group sees, and which it forecasts.
        outputs: what is told of each target.
    """

    def __init__(self, carried: Sequence[str], recipe: Recipe, outputs: Sequence[str]) -> None:
        features, targets = recipe.features, recipe.targets
        self.count = len(targets)
        self._outputs = len(outputs)
        order = [[target, *(name for name in features if name != target)] for target in targets]
        self._order = np.array([[list(carried).index(name) for name in names] for names in order])  # (T, F)
        self._marks = [TARGET_MARK + target.encode() for target in targets] if self.count > 1 else [b""]
        self._is_plain = len(carried) == 1
        suffixes = [f".{target}" for target in targets] if self.count > 1 else [""]
        told = tuple(outputs) if self._is_plain else ("y", *outputs)
        self.names = tuple(name + suffix for suffix in suffixes for name in told)

    def names_of(self, series: Iterable[bytes]) -> list[bytes]:
        """The names inside the engine of these series' first targets."""
        mark = self._marks[0]
        return [name + mark for name in series]

    def series_of(self, names: list[bytes]) -> list[bytes]:
        """The series of which these are all names inside the engine, whatever their targets."""
        return [name.removesuffix(self._marks[0]) for name in names if name.endswith(self._marks[0])]

    def spread(self, ticks: Ticks) -> Ticks:
        """(n · T) ticks of one target each, tick by tick."""
        if self._is_plain:
            return ticks
        y = ticks.y[:, self._order].reshape(len(ticks) * self.count, self._order.shape[1])
        if self.count == 1:
            return Ticks(ticks.series, ticks.ms, ticks.ts, ticks.stamped, y)
        series = [name + mark for name in ticks.series for mark in self._marks]
        each = np.repeat(np.arange(len(ticks)), self.count)
        return Ticks(series, ticks.ms[each], ticks.ts[each], ticks.stamped[each], y)

    def gathered(self, ticks: Ticks, answer: Forecasts) -> Forecasts:
        """The answer to `spread(ticks)` as the answer to `ticks`."""
        if self._is_plain:
            return answer
        n, T = len(ticks), self.count
        actual = ticks.y[:, self._order[:, 0]][:, :, None]
        told = np.concatenate([actual, answer.values.reshape(n, T, self._outputs)], axis=2)
        first = slice(None, None, T)  # what happens to one target happens to all
        return Forecasts(answer.verdict[first], answer.warm[first], self.names, told.reshape(n, len(self.names)))


def is_forecast(name: str) -> bool:
    """Whether a column holds forecasts of the next value."""
    return name == YHAT or name.startswith(YHAT + ".")
