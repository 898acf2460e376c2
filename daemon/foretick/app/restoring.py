"""Which checkpoint an engine starts from, and what becomes of the others.

    unreadable, cut off, altered, another schema     refused; the one before is tried
    another partition, or another life of Redis      refused
    beyond the committed position                    refused: Redis has forgotten what it tells of
    of a model of another shape                      the daemon ends with exit 4, unless told to discard it
    from before a --discard-state                    refused

A refused one never counts again. Without any, the stream itself tells all: it is replayed from its first entry.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from foretick.app.states import Identity, check_fit, unpack_state
from foretick.errors import CheckpointUnsound, StateUnreadable
from foretick.ports.checkpoints import unpack
from foretick.ports.connection import good
from foretick.ports.positions import later

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from foretick.app.marks import Mark
    from foretick.app.states import State, StatefulEngine
    from foretick.ports.checkpoints import CheckpointStore, Generation
    from foretick.ports.connection import Command, RedisConnection
    from foretick.ports.telemetry import Telemetry

DIFFERENCES_MAX = 5  # named in a message
RETIRED = {"compact.packed"}  # of layouts from before, and without a meaning

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """What Redis says of the partition's streams.

    Attributes:
        positions: committed position of each stream.
        reborn: streams that are not what they were: created anew, or without their group.
    """

    positions: Mapping[bytes, bytes]
    reborn: AbstractSet[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Restored:
    """The checkpoint that an engine was restored from.

    Attributes:
        marks: where each stream stood.
        size_bytes: of the checkpoint.
        saved_ms: when it was taken, milliseconds since the epoch, UTC.
    """

    marks: dict[bytes, Mark]
    size_bytes: int
    saved_ms: int


def history_of(connection: RedisConnection, base: bytes, *, is_new: bool = False) -> str:
    """The random word that tells this life of the partition's keys from every other; given at the first call.

    A flushed Redis, or another one, has another word, or none: files from before must not be taken for its state.

    Args:
        connection: to Redis.
        base: what the keys of the partition's checkpoints begin with.
        is_new: whether to give another word: nothing that was saved before is of any use.
    """
    key = base + b":history"
    only_first = () if is_new else (b"NX",)
    written, word = connection.call_all([(b"SET", key, secrets.token_hex(8), *only_first), (b"GET", key)])
    good(written)
    return str(good(word).decode())


def remember_history(base: bytes, word: str) -> Command:
    """Gives Redis this word again."""
    return (b"SET", base + b":history", word)


class Restoring:
    """Restores the engines of one partition.

    Args:
        store: holds the checkpoints.
        identity: of the partition as it is now.
        telemetry: metrics.
        discard_before_ms: what was saved before it is not used; milliseconds since the epoch, UTC.
    """

    def __init__(
        self, store: CheckpointStore, identity: Identity, telemetry: Telemetry, discard_before_ms: int | None = None
    ) -> None:
        self._store = store
        self._identity = identity
        self._telemetry = telemetry
        self._discard_before_ms = discard_before_ms

    def restore(
        self,
        engines: Mapping[str, StatefulEngine],
        standing: Standing,
        commit: Callable[[list[Command]], None],
        on_wait: Callable[[], None],
    ) -> Restored | None:
        """Restore the engines from the newest checkpoint that will do.

        Args:
            engines: fresh ones, by group.
            standing: of the streams.
            commit: carries commands out, fenced.
            on_wait: keeps the lease; called several times a second.

        Returns:
            What they were restored from; none where they are as fresh as before.

        Raises:
            StateUnreadable: the newest one is of a model of another shape, or the store cannot be read at all.
        """
        refused: list[Generation] = []
        restored = None
        for generation in self._generations():
            try:
                state = self._read(generation, engines, standing, on_wait)
            except CheckpointUnsound as reason:
                self._refuse(generation.name, reason)
                refused.append(generation)
            else:
                for group, snapshot in state.snapshots.items():
                    engines[group].restore(snapshot)
                restored = Restored(state.marks, generation.size_bytes, state.saved_ms)
                log.info("state_restored", generation=generation.name, size_bytes=generation.size_bytes)
                break
        if refused and (commands := self._store.forget(refused)):
            commit(commands)
        return restored

    def _generations(self) -> list[Generation]:
        try:
            return self._store.generations()
        except CheckpointUnsound as reason:
            self._refuse("all", reason)
            return []

    def _refuse(self, name: str, reason: CheckpointUnsound) -> None:
        self._telemetry.count_checkpoint_failure()
        log.warning("checkpoint_refused", generation=name, reason=str(reason))

    def _read(
        self,
        generation: Generation,
        engines: Mapping[str, StatefulEngine],
        standing: Standing,
        on_wait: Callable[[], None],
    ) -> State:
        state = unpack_state(unpack(self._store.read(generation, on_wait)))
        on_wait()
        self._check_whose(state)
        _check_positions(state, standing)
        if found := differences(state.identity.layouts, self._identity.layouts):
            raise StateUnreadable(
                f"the stored state of partition {self._identity.partition} is of another model: {found}. "
                "Put that back, or start once with --discard-state: the new model then learns from the stream again"
            )
        for group, snapshot in state.snapshots.items():
            check_fit(engines[group], snapshot)
        return state

    def _check_whose(self, state: State) -> None:
        if state.identity.partition != self._identity.partition:
            raise CheckpointUnsound(f"it is of partition {state.identity.partition}")
        if state.identity.history != self._identity.history:
            raise CheckpointUnsound("it is of another Redis, or of one that was emptied since")
        if self._discard_before_ms is not None and state.saved_ms < self._discard_before_ms:
            raise CheckpointUnsound("it is discarded, as asked for")
        if state.snapshots.keys() != state.identity.layouts.keys():
            raise CheckpointUnsound("its groups are not those that it says it has")


def _check_positions(state: State, standing: Standing) -> None:
    """See that Redis still knows of all that the checkpoint has seen.

    One stream of several that was created anew is no reason to forget the others: its series go on where they were.
    """
    beyond = [
        mark
        for stream, mark in state.marks.items()
        if stream in standing.positions and later(mark.position, standing.positions[stream])
    ]
    if beyond and (len(beyond) == len(state.marks) or any(mark.stream not in standing.reborn for mark in beyond)):
        stream, committed = beyond[0].stream, standing.positions[beyond[0].stream]
        raise CheckpointUnsound(
            f"it stands at {beyond[0].position.decode()} of {stream.decode(errors='backslashreplace')}, "
            f"beyond the committed {committed.decode()}"
        )


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> str:
    """What differs, in words; a group that came is no difference, it begins anew.

    Series would be with another network than the one that learned from them, where a group is gone or where groups
    stand in another order, since the first that fits a series has it.
    """
    found: list[str] = []
    if [group for group in now if group in before] != [group for group in before if group in now]:
        found.append("groups stood in the order " + ", ".join(map(repr, before)))
    for group, layout in before.items():
        found += _changes(group, layout, now[group]) if group in now else [f"group {group} is gone"]
    return "; ".join(found[:DIFFERENCES_MAX]) + ("; and more" if found[DIFFERENCES_MAX:] else "")


def _changes(group: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    names = [name for name in sorted((before.keys() | now.keys()) - RETIRED) if before.get(name) != now.get(name)]
    told = [name for name in names if name != "record"] or names  # the record follows from the others
    return [
        f"{name} was {before.get(name)!r:.40}, is {now.get(name)!r:.40}" + (f" in group {group}" * (group != "default"))
        for name in told
    ]
