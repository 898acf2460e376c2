"""The engine at a pace that lets the lease live: large batches go to a slow engine in pieces, with renewals between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from foretick.core.records import Forecasts

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.app.answers import ForecastEngine
    from foretick.core.records import Ticks
    from foretick.core.scores import GroupScores, SeriesStates
    from foretick.ports.leases import Lease

LEAST_TICKS = 64  # of a piece: below, an engine's fixed costs begin to count
FIRST_TICKS = 8  # of the first piece, whose pace nobody knows


class PacedEngine:
    """An engine that renews the lease in the middle of a batch, when the batch would take too long.

    The forecasts do not depend on how ticks are batched, so they do not depend on the pace either.

    Args:
        engine: forecasts.
        lease: knows when it was last renewed.
        renew: renews it and leaves the fence as it was.
    """

    def __init__(self, engine: ForecastEngine, lease: Lease, renew: Callable[[], None]) -> None:
        self._engine = engine
        self._lease = lease
        self._renew = renew
        self._seconds_per_tick: float | None = None

    def advance(self, ticks: Ticks) -> Forecasts:
        """Forecast after each of the ticks."""
        if len(ticks) == 1:
            return self._timed(ticks)
        parts: list[Forecasts] = []
        start = 0
        while start < len(ticks) or not parts:
            if parts and self._left_seconds() <= 0:
                self._renew()
            stop = min(start + self._piece(), len(ticks))
            whole = stop - start == len(ticks)
            parts.append(self._timed(ticks if whole else ticks.slice(start, stop)))
            start = stop
        return parts[0] if len(parts) == 1 else Forecasts.joined(parts)

    def scores(self) -> list[GroupScores]:
        """Live accuracy, for a scrape."""
        return self._engine.scores()

    def series(self) -> list[SeriesStates]:
        """How each series fares, for a scrape."""
        return self._engine.series()

    def weights(self, name: bytes) -> dict[str, float]:
        """The experts' weights in a standing forecast."""
        return self._engine.weights(name)

    def _timed(self, ticks: Ticks) -> Forecasts:
        """Forecast them in one piece, whose pace is what the next one is reckoned with."""
        begun = time.perf_counter()
        forecasts = self._engine.advance(ticks)
        self._seconds_per_tick = (time.perf_counter() - begun) / max(len(ticks), 1)
        return forecasts

    def _left_seconds(self) -> float:
        """Until the lease should be renewed: at a third of its life."""
        return self._lease.renewed_at + self._lease.ttl_ms / 3000 - time.monotonic()

    def _piece(self) -> int:
        """Ticks that the engine is likely to take in the time that is left."""
        if not self._seconds_per_tick:
            return FIRST_TICKS
        # An engine that takes longer for the least piece than a lease may be left alone is fed less at a time.
        bearable = self._lease.ttl_ms / 6000 / self._seconds_per_tick
        return max(1, min(LEAST_TICKS, int(bearable)), int(self._left_seconds() / self._seconds_per_tick))
