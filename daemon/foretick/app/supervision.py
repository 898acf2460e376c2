"""What systemd is told, and when: the daemon's main loop speaks as it turns, so a loop that wedges falls silent.

The main loop says WATCHDOG=1 only while every partition's loop keeps its promises too (`Health.live`): there is no
thread that feeds the watchdog on behalf of one that hangs. READY=1 goes out once nothing is left to recover.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foretick.ports.endpoints import Health
    from foretick.ports.supervisor import Supervisor

EXTENSION_SECONDS = 60  # of the time to start, again and again: a long replay is no failure, a silent one is
FEED_MAX_SECONDS = 5.0  # between two signs of life, however patient the supervisor is


class Supervision:
    """Speaks to the supervisor for the daemon.

    Args:
        supervisor: who listens.
        health: what is told. Its main loop's beat is what sends.
        clock: seconds that never run backwards.
    """

    def __init__(self, supervisor: Supervisor, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._supervisor = supervisor
        self._health = health
        self._clock = clock
        self._is_started = False
        self._is_stopping = False
        self._status = ""
        self._fed = -FEED_MAX_SECONDS  # long ago
        patience = supervisor.watchdog_seconds
        self._feed_seconds = FEED_MAX_SECONDS if patience is None else min(FEED_MAX_SECONDS, patience / 4)
        if supervisor.is_listening:
            health.on_beat = self.beat

    def beat(self) -> None:
        """The main loop has turned: tell what there is to tell, unless another loop hangs."""
        if self._is_stopping or not self._health.live():
            return
        checks = self._health.checks()
        has_begun = self._is_started or has_started(checks, is_standby=self._health.is_standby)
        lines = ["READY=1"] if has_begun and not self._is_started else []
        status = describe(checks, is_standby=self._health.is_standby)
        if status != self._status:
            lines.append(f"STATUS={status}")
        now = self._clock()
        if lines or now - self._fed >= self._feed_seconds:
            lines.append("WATCHDOG=1" if has_begun else f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS}000000")
            if self._supervisor.tell(*lines):
                self._is_started, self._status, self._fed = has_begun, status, now

    def stop(self) -> None:
        """The daemon was asked to end; safe in a signal's handler."""
        self._is_stopping = True
        self._supervisor.tell("STOPPING=1", "STATUS=finishing the turn, saving state, releasing partitions")


def has_started(checks: Mapping[str, tuple[bool, str]], *, is_standby: bool) -> bool:
    """Whether all is done that a start has to do.

    Every partition of ours is recovered, or waits for an operator, whom a start that never ends would not help. A
    standby has nothing to recover, and where no stream matches yet there is nothing to own.
    """
    parts = {name.rpartition("/")[0] for name in checks if "/" in name}
    settled = all(_holds(checks, f"{part}/state") or not _holds(checks, f"{part}/partition", True) for part in parts)
    return settled and _holds(checks, "redis") and (is_standby or _holds(checks, "partitions"))


def describe(checks: Mapping[str, tuple[bool, str]], *, is_standby: bool) -> str:
    """One line for `systemctl status`."""
    detail = _one_line(checks.get("partitions", (False, ""))[1])
    failing = [name for name, (ok, _) in checks.items() if not ok and not (is_standby and name == "partitions")]
    if failing:
        more = f" (and {len(failing) - 1} more)" if failing[1:] else ""
        return f"not ready: {failing[0]}: {_one_line(checks[failing[0]][1])}{more}"
    return f"standing by: {detail}" if is_standby else f"ready: {detail}"


def _holds(checks: Mapping[str, tuple[bool, str]], name: str, unknown: bool = False) -> bool:  # noqa: FBT001, FBT002  as dict.get
    return checks.get(name, (unknown, ""))[0]


def _one_line(detail: str) -> str:
    return " ".join(detail.split())
