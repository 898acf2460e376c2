"""Two daemons for one partition, an owner and its successor, each behind a proxy that can kill it at a chosen byte."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from killing_proxy import KillingProxy

from forked import ForkedDaemon
from servers import wait_until

if TYPE_CHECKING:
    from killing_proxy import Trap

    from servers import DaemonProcess, Server

STOP_SECONDS = 5.0  # the contract: SIGTERM drains and commits within it
ASK_EVERY_SECONDS = 0.05
SIZE = 2
TAKEOVER_SECONDS = 60.0  # start, expiry of the lease and replay, on a busy machine


@dataclass(eq=False)
class Member:
    """A daemon and the proxy that its connection goes through."""

    daemon: DaemonProcess
    proxy: KillingProxy

    @property
    def is_alive(self) -> bool:
        return self.daemon.returncode is None

    @property
    def is_owner(self) -> bool:
        return self.is_alive and self.daemon.get("/readyz")[0] == 200

    def kill(self) -> None:
        self.daemon.kill()


class Crew:
    """Keeps two daemons running; whoever falls is replaced by `enlist`.

    In a crew `with_standby` both reach the server from the start and compete for the lease. In one without, the
    successor waits before a closed door until nobody else is left: a restart whose imports are already done.
    """

    def __init__(self, server: Server, *, with_standby: bool, **settings: Any) -> None:
        self.with_standby = with_standby
        self._server = server
        self._admitted_at_once = SIZE if with_standby else 1
        self._settings = settings
        self._members: list[Member] = []
        self.kills = 0
        self.pids: list[int] = []
        self.outputs: list[str] = []

    @property
    def alive(self) -> list[Member]:
        return [member for member in self._members if member.is_alive]

    def enlist(self) -> None:
        """Bury the dead and start successors, without waiting for them."""
        for member in self._members:
            if not member.is_alive:
                self._bury(member)
        self._members = self.alive
        while len(self._members) < SIZE:
            holder: list[Member] = []
            proxy = KillingProxy(self._server.port, lambda holder=holder: holder[0].kill())
            daemon = ForkedDaemon(proxy.url, **self._settings)  # a start takes a tenth of what torch's import takes
            holder.append(Member(daemon, proxy))
            daemon.start(ready=False)
            self.pids.append(daemon.pid)
            self._members += holder
        self.admit()

    def admit(self) -> None:
        """Open the door to as many of the living as may compete."""
        for member in self.alive[: self._admitted_at_once]:
            member.proxy.open()

    def owner(self) -> Member:
        """The member that owns the partition and has its state."""
        return wait_until(self.found_owner, TAKEOVER_SECONDS, "an owner")

    def found_owner(self, *excepted: Member) -> Member | None:
        """The present owner, if it is none of these; asked a few times a second, not to load those who are asked."""
        time.sleep(ASK_EVERY_SECONDS)
        return next((member for member in self._members if member not in excepted and member.is_owner), None)

    def kill_now(self, *members: Member) -> None:
        """SIGKILL, at this instant."""
        for member in members:
            os.kill(member.daemon.pid, signal.SIGKILL)
        for member in members:
            member.kill()
            self.kills += 1
        self.admit()

    def trap(self, member: Member, trap: Trap) -> None:
        """Kill the member at a byte of what it is going to say or to hear."""
        member.proxy.set_trap(trap)

    def wait_sprung(self, *members: Member) -> None:
        """Until the trap of one of them has killed it."""
        wait_until(
            lambda: any(member.proxy.has_sprung.is_set() for member in members), TAKEOVER_SECONDS, "the trap's spring"
        )
        self.kills += 1
        self.admit()

    def terminate(self, member: Member) -> None:
        """SIGTERM: status 0 in time."""
        begun = time.monotonic()
        assert member.daemon.terminate(STOP_SECONDS) == 0, member.daemon.output()
        self.admit()
        print(f"SIGTERM took {time.monotonic() - begun:.2f} s")

    def _bury(self, member: Member) -> None:
        member.proxy.close()
        self.outputs.append(member.daemon.output())
        print(f"process {member.daemon.pid} said:\n{self.outputs[-1]}")
        member.daemon.discard()

    def dismiss(self) -> None:
        """Nobody is left, come what may."""
        for member in self._members:
            member.kill()
            self._bury(member)
        self._members = []


def survivors(pids: list[int]) -> list[str]:
    """Command lines of processes that belong to the sessions which these processes led."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) in pids:
                found.append(Path(entry.path, "cmdline").read_text(errors="replace").replace("\0", " "))
        except (ProcessLookupError, FileNotFoundError):  # it ended while we looked
            continue
    return found
