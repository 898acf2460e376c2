"""Several groups of series beside each other: an engine for each, and every tick goes to the engine of its group.

Groups share nothing but `max_series`, which is a bound on all of them together. Which series are refused must be a
function of the stream alone; so where a batch could reach the bound, its ticks are taken in their own order, one run of
ticks of the same group after another, and each engine is told how much the others have left. Anywhere else a batch is
taken group by group.
"""

from __future__ import annotations

from itertools import compress, pairwise
from typing import TYPE_CHECKING

import numpy as np

from foretick.core.records import Forecasts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from foretick.core.engine import Engine
    from foretick.core.records import Ticks
    from foretick.core.scores import GroupScores, SeriesStates

_REMEMBERED_MIN = 1 << 16  # series whose group is remembered, whatever their number; half a dozen megabytes


class GroupedEngine:
    """The engines of all groups as one.

    Args:
        engines: by group, each fresh.
        group_of: tells the group of a series id, always the same one.
        max_series: series that may have a row, in all groups together.

    Attributes:
        engines: by group.
        outputs: names of the columns of its forecasts: those of any group.
    """

    def __init__(self, engines: Mapping[str, Engine], group_of: Callable[[bytes], str], max_series: int) -> None:
        self.engines = dict(engines)
        self.outputs = tuple(dict.fromkeys(name for engine in engines.values() for name in engine.outputs))
        self._in_order = list(self.engines.values())
        self._columns = [[self.outputs.index(name) for name in engine.outputs] for engine in self._in_order]
        self._numbers = _Numbers(group_of, list(self.engines))
        self._max_series = max_series

    @property
    def series_count(self) -> int:
        """Series that have a row."""
        return sum(engine.series_count for engine in self._in_order)

    def scores(self) -> list[GroupScores]:
        """Live accuracy so far, group by group."""
        return [scores for engine in self._in_order for scores in engine.scores()]

    def series(self) -> list[SeriesStates]:
        """How each series fares, group by group."""
        return [states for engine in self._in_order for states in engine.series()]

    def weights(self, name: bytes) -> dict[str, float]:
        """The experts' weights in the standing forecast of a series, for another thread; none where it has no row."""
        return next(filter(None, (engine.weights(name) for engine in self._in_order)), {})

    def advance(self, ticks: Ticks) -> Forecasts:
        """Take a batch of ticks, in entry-id order, and forecast each series' next value after each of them."""
        numbers = self._numbers.of(ticks.series, keep=2 * self.series_count)
        answer = Forecasts.empty(len(ticks), self.outputs)
        if len(ticks) == 0:
            return answer
        if self._is_room_for(ticks, numbers):
            for number in np.unique(numbers).tolist():
                self._advance(number, np.flatnonzero(numbers == number), ticks, answer)
            return answer
        for start, stop in _runs(numbers):
            number = int(numbers[start])
            engine = self._in_order[number]
            engine.limit(self._max_series - (self.series_count - engine.series_count))
            self._advance(number, np.arange(start, stop), ticks, answer)
            engine.limit(self._max_series)
        return answer

    def _is_room_for(self, ticks: Ticks, numbers: NDArray[np.int64]) -> bool:
        """Whether no tick of the batch can be refused for want of room, in whatever order they are taken."""
        left = self._max_series - self.series_count
        if left >= len(ticks):
            return True
        new = 0
        for number, engine in enumerate(self._in_order):
            new += len(engine.unknown(compress(ticks.series, (numbers == number).tolist())))
        return new <= left

    def _advance(self, number: int, at: NDArray[np.int64], ticks: Ticks, answer: Forecasts) -> None:
        """Have one engine answer the ticks at these positions."""
        part = self._in_order[number].advance(ticks if len(at) == len(ticks) else ticks.at(at))
        answer.verdict[at] = part.verdict
        answer.warm[at] = part.warm
        answer.values[at[:, None], self._columns[number]] = part.values


class _Numbers:
    """The number of the group of each series, found once and remembered: a pure function, so it may be forgotten."""

    def __init__(self, group_of: Callable[[bytes], str], groups: list[str]) -> None:
        self._group_of = group_of
        self._number_of_group = {group: number for number, group in enumerate(groups)}
        self._remembered: dict[bytes, int] = {}

    def of(self, series: list[bytes], keep: int) -> NDArray[np.int64]:
        """(n,) the group's number of each series id; beyond `keep` of them, those remembered are forgotten."""
        if len(self._remembered) > max(keep, _REMEMBERED_MIN):
            self._remembered.clear()
        found = np.fromiter(map(self._remembered.get, series, [-1] * len(series)), np.int64, len(series))
        for i in np.flatnonzero(found < 0).tolist():
            if series[i] not in self._remembered:
                self._remembered[series[i]] = self._number_of_group[self._group_of(series[i])]
            found[i] = self._remembered[series[i]]
        return found


def _runs(numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Start and stop of each stretch of equal numbers."""
    edges = np.flatnonzero(np.diff(numbers)) + 1
    return pairwise([0, *edges.tolist(), len(numbers)])
