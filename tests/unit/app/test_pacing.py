"""An engine of whatever speed is fed so that the lease is renewed in time, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from foretick.app import pacing
from foretick.app.pacing import PacedEngine
from foretick.core.records import Forecasts, Ticks
from foretick.ports.leases import Lease

if TYPE_CHECKING:
    from foretick.core.scores import GroupScores, SeriesStates

TTL_SECONDS = 10.0
FAST, SLOW = 10e-6, 5e-3  # seconds per tick: of many series, and where each waits for the one before


class Scripted:
    """An engine that takes as long as is said, on a clock of its own, and a lease that is renewed on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.seconds_per_tick = FAST
        self.longest_seconds = 0.0  # that the lease was left alone
        self.lease = Lease(b"lease", "owner", int(TTL_SECONDS * 1000), b"record")
        clock = SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr(pacing, "time", clock)
        self.paced = PacedEngine(self, self.lease, self.renew)

    def renew(self) -> None:
        self.longest_seconds = max(self.longest_seconds, self.now - self.lease.renewed_at)
        self.lease.renewed_at = self.now

    def turn(self, n: int) -> None:
        """So many ticks, and the commit that ends the turn."""
        zeros = np.zeros(n, np.int64)
        self.paced.advance(Ticks([b"s"] * n, zeros, zeros, np.zeros(n, bool), np.zeros(n)))
        self.renew()

    def advance(self, ticks: Ticks) -> Forecasts:
        self.now += len(ticks) * self.seconds_per_tick
        return Forecasts.empty(len(ticks))

    def scores(self) -> list[GroupScores]:
        return []

    def series(self) -> list[SeriesStates]:
        return []

    def weights(self, name: bytes) -> dict[str, float]:
        return {}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


def test_a_slow_batch_is_fed_in_pieces_between_which_the_lease_is_renewed(scripted: Scripted) -> None:
    scripted.seconds_per_tick = SLOW
    scripted.turn(4000)
    assert scripted.now == pytest.approx(4000 * SLOW)
    assert scripted.longest_seconds < TTL_SECONDS / 2


def test_single_ticks_tell_the_pace_of_the_burst_that_comes_after_them(scripted: Scripted) -> None:
    for _ in range(8):
        scripted.turn(4000)  # a backlog of many series
    scripted.seconds_per_tick = SLOW
    for _ in range(10):
        scripted.turn(1)
    scripted.turn(4000)
    assert scripted.longest_seconds < TTL_SECONDS / 2
