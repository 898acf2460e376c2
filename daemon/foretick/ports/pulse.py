"""How the daemon fares right now: rates, latency and lag of the last seconds, from the sums that metrics keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from foretick.ports.collectors import BUCKETS_SECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pulse:
    """Sums since the start, at one moment, and the lag then.

    Attributes:
        ticks: entries answered.
        forecasts: published.
        dead: dead letters.
        latencies: (B + 1,) live ticks by the bucket of their latency; the last one has no upper bound.
        lag_ticks: entries not yet read, of all streams.
        lag_seconds: age of the oldest of them.
    """

    ticks: float
    forecasts: float
    dead: float
    latencies: NDArray[np.int64]
    lag_ticks: int
    lag_seconds: float


def latency_ms(before: Pulse, now: Pulse, share: float) -> float | None:
    """The latency that this share of the live ticks between two moments kept below; none where there were none.

    Inside a bucket it counts as evenly spread, as PromQL's `histogram_quantile` has it.
    """
    counts = (now.latencies - before.latencies).tolist()
    rest = share * sum(counts)
    if rest <= 0:
        return None
    edges = list(pairwise([0.0, *BUCKETS_SECONDS, math.inf]))
    for count, (low, high) in zip(counts, edges, strict=True):
        if rest <= count:
            return 1000 * (low if math.isinf(high) else low + (high - low) * rest / count)
        rest -= count
    return 1000 * BUCKETS_SECONDS[-1]
