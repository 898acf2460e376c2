"""The engines of the partitions that are ours, for people who look at them from another thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foretick.app.answers import ForecastEngine
    from foretick.core.scores import GroupScores, SeriesStates


class Engines:
    """By partition; they come and go, and may be asked at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, ForecastEngine] = {}  # replaced, never changed: readers need no lock

    def follow(self, partition: str, engine: ForecastEngine) -> None:
        """The partition is forecast by this engine now."""
        with self._lock:
            self._engines = self._engines | {partition: engine}

    def leave(self, partition: str) -> None:
        """The partition is not ours any more."""
        with self._lock:
            self._engines = {name: engine for name, engine in self._engines.items() if name != partition}

    def scores(self) -> list[GroupScores]:
        """Live accuracy of every group of every partition."""
        return [scores for engine in self._engines.values() for scores in engine.scores()]

    def series(self) -> list[SeriesStates]:
        """How the series of every group of every partition fare."""
        return [states for engine in self._engines.values() for states in engine.series()]

    def weights(self, key: bytes) -> dict[str, float]:
        """The experts' weights in the standing forecast of a series; none where nobody knows it."""
        return next(filter(None, (engine.weights(key) for engine in self._engines.values())), {})
