"""The lease: expiring ownership of a partition, and the fence that keeps a late owner from writing.

The fence is optimistic: `WATCH lease` before the turn, `GET lease` to see that it is ours, and EXEC carries out nothing
when the key was changed by another *or expired* in between. The lease is renewed by a PEXPIRE inside our own
transactions only: a renewal from any other connection would trip our own WATCH.

A lease that expired may be taken again by the same owner, with all the state it has, if nobody owned the partition
meanwhile. The lease itself cannot tell, for that other owner may be gone too; so every owner leaves its token in a
record that does not expire.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ForetickError, LeaseLost, ServerRefused
from foretick.ports.connection import good, pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.ports.connection import Command, RedisConnection, Reply

RECORD_FIELD = b""  # no stream has this name, so the hash may hold something for each stream as well
TAKE_TRIES = 5  # a lease that expires between GET and SET NX again and again is not worth a sixth round trip


def owner_of(token: bytes) -> str:
    """The owner that a lease's value names, without its epoch."""
    return token.rpartition(b" ")[0].decode(errors="replace")


def owner_id() -> str:
    """Who we are, for people and for telling two processes apart: host, process id and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Lease:
    """The lease of one partition.

    Args:
        key: the lease's key.
        owner: from `owner_id`.
        ttl_ms: life of the lease without renewal, milliseconds.
        record: hash that keeps the token of the last owner, under the empty field.

    Attributes:
        renewal_request: renews it, at the end of every transaction.
        guarded: keys that only the owner writes.
        fence: the commands that open a turn; the reply to the last tells who owns the partition.
        fence_request: the same, ready to be sent.
        server_ms: the server's clock when the lease was taken: its epoch.
        clock_offset_seconds: server's clock minus ours at that moment.
        renewed_at: when it was last renewed at least, by our monotonic clock.
    """

    def __init__(self, key: bytes, owner: str, ttl_ms: int, record: bytes) -> None:
        self.key = key
        self.owner = owner
        self.ttl_ms = ttl_ms
        self._record = record
        self.server_ms = 0
        self.clock_offset_seconds = 0.0
        self.renewed_at = 0.0
        self.renewal_request = pack([(b"PEXPIRE", key, ttl_ms)])
        self._token: bytes | None = None
        self.guard(())

    def guard(self, keys: Iterable[bytes]) -> None:
        """Let foreign writes to these keys, which only the owner writes, trip the fence as well."""
        self.guarded = tuple(keys)
        self.fence: tuple[Command, ...] = ((b"WATCH", self.key, *self.guarded), (b"GET", self.key))
        self.fence_request = pack(self.fence)

    def take(self, connection: RedisConnection) -> bool:
        """Take the lease if it is free; true also if it is ours already."""
        if self._token is None:
            seconds, microseconds = connection.call(b"TIME")
            self.server_ms = int(seconds) * 1000 + int(microseconds) // 1000
            self.clock_offset_seconds = int(seconds) + int(microseconds) / 1e6 - time.time()
            self._token = f"{self.owner} {self.server_ms}".encode()
        if not self._set_if_free(connection):
            holder = connection.call_all([(b"GET", self.key)])[0]
            if isinstance(holder, ServerRefused):
                raise holder
            if holder != self._token:
                return False
        # Also where the lease was ours already: the connection may have broken before this was done.
        connection.call(b"HSET", self._record, RECORD_FIELD, self._token)
        return True

    def forget(self) -> None:
        """Drop the token: the next `take` is a new epoch."""
        self._token = None

    def raise_fence(self, connection: RedisConnection) -> None:
        """Watch anew and make sure that the lease is ours, taking it again where it expired.

        The record is asked for every time: that we took the lease again may be news to us, if the answer was lost.

        Raises:
            LeaseLost: another process holds it, or held it while we did not.
        """
        for _ in range(TAKE_TRIES):
            _, watched, holder, last = connection.call_all(
                [(b"UNWATCH",), *self.fence, (b"HGET", self._record, RECORD_FIELD)]
            )
            good(watched)
            if self.is_ours(holder):
                self._check_record(connection, good(last))
                return
            self._set_if_free(connection)
        raise LeaseLost(f"{self.key.decode(errors='replace')} expires faster than it can be taken")

    def is_ours(self, holder: Reply) -> bool:
        """Whether the reply to GET shows our token; false when the lease is free.

        Raises:
            LeaseLost: another process holds the lease.
        """
        if holder == self._token and holder is not None:
            return True
        if holder is None:
            return False
        if isinstance(holder, CommandFailed):  # WRONGTYPE: whoever put a list there has taken the key from us
            raise LeaseLost(f"the lease is no string: {holder}")
        if isinstance(holder, ForetickError):
            raise holder
        raise LeaseLost(f"the lease is held by {holder.decode(errors='replace')}")

    def release(self, connection: RedisConnection) -> bool:
        """Delete the lease if it is still ours."""
        if self._token is None:
            return False
        _, watched, holder = connection.call_all([(b"UNWATCH",), (b"WATCH", self.key), (b"GET", self.key)])
        good(watched)
        if holder != self._token:
            connection.call(b"UNWATCH")
            self.forget()
            return False
        connection.send(pack([(b"MULTI",), (b"DEL", self.key), (b"EXEC",)]))
        *_, deleted = [connection.read() for _ in range(3)]
        self.forget()
        return bool(deleted == [1])

    def _check_record(self, connection: RedisConnection, last: Reply) -> None:
        """See that nobody else owned the partition before we took it again."""
        assert self._token is not None
        if last is None:  # all keys were deleted
            connection.call(b"HSET", self._record, RECORD_FIELD, self._token)
        elif last != self._token:
            self.release(connection)
            raise LeaseLost(f"while we were away the lease was held by {last.decode(errors='replace')}")

    def _set_if_free(self, connection: RedisConnection) -> bool:
        assert self._token is not None
        now = time.monotonic()
        is_set = bool(connection.call(b"SET", self.key, self._token, b"NX", b"PX", self.ttl_ms))
        if is_set:
            self.renewed_at = now
        return is_set
