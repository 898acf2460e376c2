from __future__ import annotations

import pytest

from foretick.app.supervision import Supervision
from foretick.ports.endpoints import Health

WATCHDOG_SECONDS = 20.0


class Listener:
    """A supervisor that notes what it is told, unless it is deaf."""

    def __init__(self):
        self.is_listening = True
        self.is_deaf = False
        self.watchdog_seconds = WATCHDOG_SECONDS
        self.told = []

    def tell(self, *lines):
        if not self.is_deaf:
            self.told.append(lines)
        return not self.is_deaf

    def heard(self):
        """What came since the last look."""
        lines = [line for told in self.told for line in told]
        self.told.clear()
        return lines


class Daemon:
    """The health of a daemon with one partition, its main loop, and the one who listens to it."""

    def __init__(self):
        self.now = 0.0
        self.health = Health()
        self.listener = Listener()
        self.supervision = Supervision(self.listener, self.health, clock=lambda: self.now)
        self.part = self.health.part("default")
        self.health.set("redis", True)
        self.health.set("partitions", True, "default (1 of 1, 1 daemons)")
        self.part.set("state", False, "not yet restored")

    def turn(self, seconds=0.5):
        self.now += seconds
        self.health.beat(30.0)
        return self.listener.heard()


@pytest.fixture
def daemon():
    return Daemon()


def test_ready_comes_after_the_recovery_and_only_once(daemon):
    assert "READY=1" not in daemon.turn()
    daemon.part.set("state", True)
    assert daemon.turn()[0] == "READY=1"
    assert "READY=1" not in daemon.turn(10.0)


def test_a_ready_that_was_not_heard_is_said_again(daemon):
    daemon.part.set("state", True)
    daemon.listener.is_deaf = True
    assert daemon.turn() == []
    daemon.listener.is_deaf = False
    assert daemon.turn()[0] == "READY=1"


def test_a_long_recovery_asks_for_more_time_again_and_again(daemon):
    assert "EXTEND_TIMEOUT_USEC=60000000" in daemon.turn()
    assert daemon.turn(1.0) == []
    assert daemon.turn(10.0) == ["EXTEND_TIMEOUT_USEC=60000000"]


def test_the_watchdog_is_fed_four_times_in_its_patience(daemon):
    daemon.part.set("state", True)
    daemon.turn()
    fed = [daemon.turn(1.0) for _ in range(int(WATCHDOG_SECONDS))]
    assert fed.count(["WATCHDOG=1"]) == 4
    assert fed.count([]) == len(fed) - 4


def test_a_partition_that_broke_its_promise_starves_the_watchdog(daemon):
    daemon.part.set("state", True)
    daemon.turn()
    daemon.part.beat(-1.0)
    assert daemon.turn(WATCHDOG_SECONDS) == []
    daemon.part.beat(30.0)
    assert "WATCHDOG=1" in daemon.turn(WATCHDOG_SECONDS)


def test_a_standby_has_started(daemon):
    daemon.health.forget("default")
    daemon.health.set("partitions", False, "all are owned by others (2 daemons)")
    assert "READY=1" not in daemon.turn()  # no word yet whether it is one
    daemon.health.is_standby = True
    assert daemon.turn() == ["READY=1", "STATUS=standing by: all are owned by others (2 daemons)", "WATCHDOG=1"]


def test_a_partition_that_waits_for_an_operator_does_not_hold_up_the_start(daemon):
    daemon.part.set("partition", False, "commit refused: WRONGTYPE")
    assert daemon.turn()[0] == "READY=1"


def test_without_redis_nothing_has_started(daemon):
    daemon.part.set("state", True)
    daemon.health.set("redis", False, "Connection refused")
    assert "READY=1" not in daemon.turn()


def test_the_status_follows_what_readyz_says(daemon):
    assert "STATUS=not ready: default/state: not yet restored" in daemon.turn()
    daemon.health.set("redis", False, "Connection\nrefused")
    assert "STATUS=not ready: redis: Connection refused (and 1 more)" in daemon.turn()
    daemon.health.set("redis", True)
    daemon.part.set("state", True)
    assert "STATUS=ready: default (1 of 1, 1 daemons)" in daemon.turn()
    assert daemon.turn() == []


def test_after_a_stop_nothing_is_told_but_that(daemon):
    daemon.part.set("state", True)
    daemon.supervision.stop()
    assert daemon.listener.heard()[0] == "STOPPING=1"
    assert daemon.turn() == []


def test_where_nobody_listens_the_beat_costs_nothing():
    health, listener = Health(), Listener()
    listener.is_listening = False
    Supervision(listener, health)
    health.beat(30.0)
    assert listener.told == []
