"""What several daemons on one Redis know of each other: who is alive, and who owns which partition.

Every daemon puts itself into a sorted set, by the time (the server's) until which it counts; the leases tell the rest.
Nothing here decides about writing: that is the lease's fence alone. A daemon that is wrong about the others takes less
or more than its share for a moment, or tries for a lease in vain.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ServerRefused
from foretick.ports.connection import good
from foretick.ports.leases import owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.ports.connection import RedisConnection


@dataclass(frozen=True, slots=True)
class RollCall:
    """Who is there at this moment.

    Attributes:
        members: owner ids of the daemons that are alive and read the same streams, ours among them.
        owners: owner id by partition, of those that are owned.
    """

    members: frozenset[str]
    owners: dict[bytes, str]


class Registry:
    """Our place among the daemons.

    Args:
        key: of the sorted set.
        owner: our id, as in the leases.
        ttl_ms: how long we count without a further word, milliseconds.
        interest: what we read; daemons that read other streams do not share with us.
    """

    def __init__(self, key: bytes, owner: str, ttl_ms: int, interest: str) -> None:
        self._key = key
        self._owner = owner
        self._interest = interest
        self._entry = f"{owner} {interest}".encode()
        self._ttl_ms = ttl_ms
        self._offset_ms: float | None = None  # the server's clock minus our monotonic one

    def change(self, interest: str) -> None:
        """Read other streams from now on; whoever shared the former ones counts us for a lease's life still."""
        self._interest = interest
        self._entry = f"{self._owner} {interest}".encode()

    def call_roll(self, connection: RedisConnection, leases: Mapping[bytes, bytes]) -> RollCall:
        """Say that we are alive, and ask who else is and who owns what.

        Args:
            connection: any.
            leases: lease key by partition.

        Raises:
            CommandFailed: this user may not.
        """
        if self._offset_ms is None:
            self._offset_ms = _clock_ms(connection.call(b"TIME")) - time.monotonic() * 1000
        now_ms = int(self._offset_ms + time.monotonic() * 1000)
        clock, added, removed, names, renewed, *holders = connection.call_all(
            [
                (b"TIME",),
                (b"ZADD", self._key, now_ms + self._ttl_ms, self._entry),
                (b"ZREMRANGEBYSCORE", self._key, b"-inf", now_ms),
                (b"ZRANGE", self._key, 0, -1),
                (b"PEXPIRE", self._key, 2 * self._ttl_ms),  # nothing is left of daemons that died
                *((b"GET", lease) for lease in leases.values()),
            ]
        )
        for reply in (added, removed, renewed):
            good(reply)
        self._offset_ms = _clock_ms(good(clock)) - time.monotonic() * 1000
        owners = {}
        for partition, holder in zip(leases, holders, strict=True):
            if isinstance(holder, ServerRefused):
                raise holder
            if isinstance(holder, CommandFailed):  # WRONGTYPE: whoever put it there has taken the key from us
                owners[partition] = ""
            elif holder is not None:
                owners[partition] = owner_of(holder)
        entries = [name.decode(errors="replace").rpartition(" ") for name in good(names)]
        members = {owner for owner, _, interest in entries if interest == self._interest}
        return RollCall(frozenset({*members, self._owner}), owners)

    def leave(self, connection: RedisConnection) -> None:
        """Count no more, so that the others take our partitions as soon as we release them."""
        connection.call(b"ZREM", self._key, self._entry)


def _clock_ms(reply: list[bytes]) -> float:
    seconds, microseconds = reply
    return int(seconds) * 1000 + int(microseconds) / 1000
