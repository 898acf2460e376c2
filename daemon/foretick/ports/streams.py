"""One partition's streams: the commit of a turn, and the exchange that sends it together with the next read.

A commit is an ordered list of commands that Redis carries out as one transaction. Inside EXEC a failed command does not
keep the others from running, so every reply is inspected; `Outcome` says what became of it, the app decides what
follows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from foretick.errors import CommandFailed, ConnectionLost, ForetickError, ServerRefused
from foretick.ports.connection import good, pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.ports.connection import Command, RedisConnection
    from foretick.ports.leases import Lease
    from foretick.ports.wire import Packed

Entry: TypeAlias = Any  # [id, [field, value, …]] as the parser gives it
HEAD = b"0-0"  # before the first entry that a stream can hold
_ERRORS = frozenset({CommandFailed, ServerRefused})
_MULTI, _EXEC = pack([(b"MULTI",)]), pack([(b"EXEC",)])
GROUP = b"foretick"  # the consumer group that shows the committed position to everybody


def id_order(entry_id: bytes) -> tuple[int, int]:
    """The entry id as numbers, for comparing: `9-1` is before `10-0`."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq or 0)


@dataclass(frozen=True, slots=True)
class Failure:
    """A command inside EXEC that was not carried out, while those beside it were."""

    command: Command
    error: CommandFailed | ServerRefused

    @property
    def is_out_of_order(self) -> bool:
        """Whether an XADD found an entry at or beyond its own id."""
        return "equal or smaller" in str(self.error)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a commit.

    Attributes:
        fenced: nothing was done: the lease or a guarded key changed or expired since WATCH.
        refused: nothing was done: the server would not take the transaction.
        failures: all was done but these commands.
    """

    fenced: bool = False
    refused: ForetickError | None = None
    failures: tuple[Failure, ...] = ()

    @property
    def is_committed(self) -> bool:
        """Whether everything was carried out."""
        return not (self.fenced or self.refused or self.failures)


_COMMITTED = Outcome()


@dataclass(slots=True)
class Commit:
    """What one turn changes in Redis, all at once or not at all.

    Attributes:
        forecasts: ready to be sent; they come first, because what EXEC answers to them is known beforehand.
        latest: the last ones of each series, ready to be sent; they come next.
        commands: in order; the lease's renewal is added when it is sent.
        floors: for each stream written to, the id at or below which its top must be for the XADDs to succeed and no
            foreign entry to stand among ours: the committed position.
        before: position of every stream of the partition, as last committed; a server that knows less has lost a part
            of its memory.
        in_doubt: sent at least once without an answer, so it may have been carried out.
    """

    commands: list[Command] = field(default_factory=list)
    forecasts: list[Packed] = field(default_factory=list)
    latest: list[Packed] = field(default_factory=list)
    floors: dict[bytes, bytes] = field(default_factory=dict)
    before: Mapping[bytes, bytes] = field(default_factory=dict)
    in_doubt: bool = False

    @property
    def everything(self) -> list[Command]:
        """All commands one by one, for the rare case in which somebody has to look at them."""
        return [command for packed in (*self.forecasts, *self.latest) for command in packed.commands] + self.commands

    @property
    def publications(self) -> list[Command]:
        """The XADDs among the commands."""
        return [command for command in self.everything if command[0] == b"XADD"]

    def floors_after(self, failures: Sequence[Failure]) -> dict[bytes, bytes]:
        """Where the tops may be after it failed in part: what it did publish is ours, and stands."""
        failed = [failure.command for failure in failures]
        floors = dict(self.floors)
        for publication in self.publications:
            key, entry_id = publication[1], publication[2]
            if publication not in failed and isinstance(key, bytes) and isinstance(entry_id, bytes):
                floors[key] = entry_id
        # A stream that refused an entry is set aside and begins anew.
        return floors | {key: self.floors[key] for _, key, *_ in failed if key in self.floors}


@dataclass(frozen=True, slots=True)
class Batch:
    """What a turn read.

    Attributes:
        held: whether the lease was ours when the read began; false means that it had expired.
        entries: new entries by stream; streams without any are left out.
        error: why the read failed while the connection stands (`WRONGTYPE`: the input is no stream).
    """

    held: bool
    entries: dict[bytes, list[Entry]]
    error: CommandFailed | ServerRefused | None = None


class Exchange:
    """The one connection of a partition, with the turn's commands on it.

    Args:
        connection: used by nobody else: WATCH belongs to it.
        lease: the partition's lease; its fence opens every turn.
    """

    def __init__(self, connection: RedisConnection, lease: Lease) -> None:
        self.connection = connection
        self.lease = lease
        self._sent_at = 0.0

    def send_turn(self, commit: Commit | None, reads: Sequence[Command]) -> None:
        """Send the commit of the last turn, the fence and the next reads as one request."""
        transaction = self._transaction(commit) if commit is not None else ()
        self._sent_at = time.monotonic()
        self.connection.send(b"".join([*transaction, self.lease.fence_request, pack(reads)]))

    def read_outcome(self, commit: Commit) -> Outcome:
        """The answer to the commit; it arrives at once, whatever the read behind it waits for."""
        read = self.connection.read
        known = sum([packed.count for packed in commit.forecasts])
        n = known + sum([packed.count for packed in commit.latest]) + len(commit.commands) + 1  # the lease's renewal
        replies = b"".join([packed.replies for packed in commit.forecasts])
        if self.connection.take(b"+OK\r\n%b*%d\r\n%b" % (b"+QUEUED\r\n" * n, n, replies)):
            rest = [read() for _ in range(n - known)]
            is_sound = _ERRORS.isdisjoint(map(type, rest))
            outcome = _COMMITTED if is_sound else _judge(commit, b"OK", [b"QUEUED"] * n, [b""] * known + rest)
        else:
            begun, queued = read(), [read() for _ in range(n)]
            outcome = _judge(commit, begun, queued, read())
        if not (outcome.fenced or outcome.refused):
            self.lease.renewed_at = self._sent_at
        return outcome

    def read_batch(self, *, has_read: bool = True) -> Batch:
        """The answers to the fence and to an XREAD, if there was one.

        Raises:
            LeaseLost: another process holds the lease.
        """
        read = self.connection.read
        watched, holder, reply = read(), read(), read() if has_read else None
        good(watched)
        held = self.lease.is_ours(holder)
        if isinstance(reply, ForetickError):
            assert isinstance(reply, CommandFailed | ServerRefused)
            return Batch(held, {}, reply)
        return Batch(held, {stream: entries for stream, entries in reply or ()})  # noqa: C416  pairs come as lists

    def read_ranges(self, n: int) -> tuple[bool, list[list[Entry]]]:
        """Whether the lease was ours, and the answers to n XRANGEs.

        Raises:
            LeaseLost: another process holds the lease.
        """
        watched, holder, *replies = (self.connection.read() for _ in range(2 + n))
        good(watched)
        held = self.lease.is_ours(holder)
        return held, [good(reply) for reply in replies]

    def commit_alone(self, commit: Commit) -> Outcome:
        """Send the commit without a read; the fence must stand."""
        self._sent_at = time.monotonic()
        self.connection.send(b"".join(self._transaction(commit)))
        return self.read_outcome(commit)

    def _transaction(self, commit: Commit) -> list[bytes | memoryview]:
        ready = [packed.request for packed in (*commit.forecasts, *commit.latest)]
        return [_MULTI, *ready, pack(commit.commands), self.lease.renewal_request, _EXEC]


def read_command(positions: Mapping[bytes, bytes], *, count: int, block_ms: int | None) -> Command:
    """XREAD of all streams, each after its own position; without `block_ms` it answers at once."""
    block = () if block_ms is None else (b"BLOCK", block_ms)
    return (b"XREAD", b"COUNT", count, *block, b"STREAMS", *positions.keys(), *positions.values())


def range_command(stream: bytes, *, after: bytes, until: bytes, count: int) -> Command:
    """XRANGE of what lies after one position, up to and with another."""
    return (b"XRANGE", stream, b"(" + after, until, b"COUNT", count)


def _judge(commit: Commit, begun: Any, queued: Sequence[Any], answer: Any) -> Outcome:
    """The outcome that the replies to MULTI, the queued commands and EXEC amount to."""
    if answer is None:
        return Outcome(fenced=True)
    if isinstance(answer, ForetickError):
        causes = [reply for reply in (begun, *queued) if isinstance(reply, ForetickError)]
        return Outcome(refused=causes[0] if causes else answer)
    if not isinstance(answer, list) or len(answer) != len(queued):
        raise ConnectionLost(f"the reply to EXEC is not one: {answer!r:.200}")
    if _ERRORS.isdisjoint(map(type, answer)):
        return Outcome()
    failures = tuple(
        Failure(command, reply)
        for command, reply in zip(commit.everything, answer, strict=False)  # the lease's renewal has one reply more
        if isinstance(reply, CommandFailed | ServerRefused)
    )
    return Outcome(failures=failures)
