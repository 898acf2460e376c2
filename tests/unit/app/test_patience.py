"""Waiting is bounded, interruptible, and says what it waits for once."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from foretick.app.patience import Patience, StopRequested, StopSignal
from foretick.ports.endpoints import Health

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    made = StopSignal()
    yield made
    made.close()


def test_a_wait_ends_with_its_time(stop: StopSignal) -> None:
    assert not stop.wait(0.01)


def test_a_stop_ends_a_wait_at_once_and_every_later_one(stop: StopSignal) -> None:
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    assert stop.wait(10)
    with pytest.raises(StopRequested):
        stop.pause(10)
    assert time.monotonic() - begun < 5


def test_a_signal_may_set_it_while_the_same_thread_waits(stop: StopSignal) -> None:
    former = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert stop.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_trouble_is_logged_when_it_begins_changes_and_ends(stop: StopSignal) -> None:
    health = Health()
    patience = Patience(stop, health, 0.001)
    with capture_logs() as lines:
        for detail in ("OOM: full", "OOM: full still", "LOADING: soon"):
            patience.bear("redis", "redis_refuses", detail)
            assert health.checks()["redis"] == (False, detail)
        patience.over()
        patience.over()
    assert [(line["event"], line.get("detail")) for line in lines] == [
        ("redis_refuses", "OOM: full"),
        ("redis_refuses", "LOADING: soon"),
        ("recovered", None),
    ]
    assert health.checks()["redis"][0]


def test_a_stop_ends_patience(stop: StopSignal) -> None:
    stop.set()
    with pytest.raises(StopRequested):
        Patience(stop, Health()).bear("redis", "redis_away", "lost")
