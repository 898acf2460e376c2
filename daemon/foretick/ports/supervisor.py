"""The process that started us and waits to hear how we fare: systemd with Type=notify, or whoever speaks its protocol.

https://www.freedesktop.org/software/systemd/man/sd_notify.html: one datagram of NAME=value lines to the socket named in
NOTIFY_SOCKET. Without that variable nobody listens, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

SEND_SECONDS = 1.0  # systemd empties its socket within milliseconds; the loop waits no longer for one that hangs


class Supervisor:
    """Tells the supervisor what became of us.

    Args:
        environ: the process' variables. Those of the protocol are taken out of it, so that no child speaks in our name.

    Attributes:
        watchdog_seconds: the supervisor restarts us after so long a silence; None: it does not.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        watched = environ.pop("WATCHDOG_PID", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: of the abstract name space
        is_ours = watched in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else None

    @property
    def is_listening(self) -> bool:
        """Whether somebody wants to hear."""
        return bool(self._address)

    def tell(self, *lines: str) -> bool:
        """Send the lines, such as `READY=1`; says whether they arrived."""
        if not self._address:
            return False
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(SEND_SECONDS)
            channel.sendto("\n".join(lines).encode(), self._address)
            return True
        return False
