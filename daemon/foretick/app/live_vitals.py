"""How the daemon fares, in the numbers that a person asks for first."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from foretick.ports.pulse import latency_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from foretick.core.scores import GroupScores
    from foretick.ports.endpoints import Health
    from foretick.ports.pulse import Pulse

SPAN_SECONDS = 10.0  # that rates and latency are told of: quick to show trouble, long enough for a p99


class Vitals:
    """Rates and latency of the last seconds, lag now, accuracy since the state began.

    Args:
        pulse: sums and lags now.
        health: what keeps the daemon from serving.
        scores: accuracy of all groups of all partitions.
    """

    def __init__(self, pulse: Callable[[], Pulse], health: Health, scores: Callable[[], Iterable[GroupScores]]) -> None:
        self._pulse = pulse
        self._health = health
        self._scores = scores
        self._past: deque[tuple[float, Pulse]] = deque()

    def __call__(self) -> dict[str, Any]:
        """As JSON values; for one thread."""
        now, pulse = time.monotonic(), self._pulse()
        while self._past and self._past[0][0] < now - SPAN_SECONDS - 0.5:
            self._past.popleft()
        self._past.append((now, pulse))
        since, before = self._past[0]
        seconds = now - since
        rates = (pulse.ticks - before.ticks, pulse.forecasts - before.forecasts, pulse.dead - before.dead)
        names = ("ticks_per_second", "forecasts_per_second", "dead_per_second")
        return {
            **{name: n / seconds if seconds else None for name, n in zip(names, rates, strict=True)},
            "latency_p50_ms": latency_ms(before, pulse, 0.5),
            "latency_p99_ms": latency_ms(before, pulse, 0.99),
            "lag_ticks": pulse.lag_ticks,
            "lag_seconds": pulse.lag_seconds,
            "dead": pulse.dead,
            "failing": {name: detail for name, (ok, detail) in self._health.checks().items() if not ok},
            **accuracy(list(self._scores())),
        }


def accuracy(scores: list[GroupScores]) -> dict[str, Any]:
    """Skill and coverage over all groups, and how many series there are."""
    error = sum(one.scaled_abs_error for one in scores)
    naive = sum(one.naive_scaled_abs_error for one in scores)
    bounded: dict[str, int] = defaultdict(int)
    covered: dict[str, int] = defaultdict(int)
    for one in scores:
        for level, held in one.interval_covered.items():
            bounded[level] += one.interval_scored
            covered[level] += held
    return {
        "series": sum(one.series_active for one in scores),
        "scored": sum(one.scored for one in scores),
        "skill": 1 - error / naive if naive > 0 else None,
        "coverage": {level: covered[level] / n for level, n in bounded.items() if n},
    }
