"""The return of a partition to service: find the position, put the streams in order, replay what the engine must know.

Without a checkpoint the engine is led again through everything from the first position to the committed one, without
publishing: it is a function of the stream, so afterwards it is the engine that stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from foretick.errors import ConnectionLost, LeaseLost, ServerRefused
from foretick.ports import wire
from foretick.ports.positions import (
    aside_name,
    create_group,
    holds_entry,
    later,
    remember_origin,
    set_position,
    survey,
)
from foretick.ports.streams import HEAD, Commit, id_order, range_command

if TYPE_CHECKING:
    from foretick.app.answers import ForecastEngine
    from foretick.app.commits import Committer
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys, Survey
    from foretick.ports.streams import Entry, Exchange
    from foretick.ports.telemetry import Telemetry

ATTEMPTS_MAX = 10  # to set a stream up; each is spoiled only by somebody who changes it at the same moment
REPLAY_COUNT = 1000  # entries per read: milliseconds of engine time, so the lease is renewed often enough
PROGRESS_EVERY_TICKS = 100_000  # a log line every few seconds

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a start makes of a survey.

    Attributes:
        position: where reading goes on.
        origin: where the replay begins.
        entries_read: entries up to the position since the stream began; none where only the replay can tell.
        aside: our own streams that hold entries beyond the position.
        has_group: whether the group exists and only needs moving.
        regressed: whether the input is another one than before.
    """

    position: bytes
    origin: bytes
    entries_read: int | None
    aside: tuple[bytes, ...]
    has_group: bool
    regressed: bool


def decide(found: Survey, start: Literal["earliest", "latest"], witness: bytes | None) -> Plan:
    """The plan for a stream, from nothing but what was found.

    Args:
        found: the survey.
        start: where a stream begins that was never read.
        witness: the later of the tops of our own streams whose entry the input holds; asked for only without a group.
    """
    info = found.input
    group = found.group
    position = group.position if group is not None else witness or _without_witness(found, start)
    regressed = info is not None and info.added > 0 and later(position, info.top)
    if regressed:
        position = HEAD
    if found.origin is None and found.group is None and not regressed:
        origin = position
    else:
        origin = HEAD if regressed else min(found.origin or HEAD, position, key=id_order)
    return Plan(
        position=position,
        origin=origin,
        entries_read=_entries_read(found, position, regressed=regressed),
        aside=tuple(key for key, top in found.tops.items() if top is None or later(top, position)),
        has_group=found.group is not None,
        regressed=regressed,
    )


def _without_witness(found: Survey, start: str) -> bytes:
    """The position of a stream that has no group, and that holds none of the entries we answered last."""
    info = found.input
    if found.origin is None:  # never read; whatever stands in our streams is not ours
        return HEAD if start == "earliest" or info is None else info.top
    highest = max((found.origin, *filter(None, found.tops.values())), key=id_order)
    if info is None or info.first is None or later(highest, info.top) or later(info.first, highest):
        return highest  # deleted, re-created or trimmed since: where that matters, its top tells
    return found.origin


def _entries_read(found: Survey, position: bytes, *, regressed: bool) -> int | None:
    info, group = found.input, found.group
    if info is None:
        return 0
    if group is not None and group.entries_read is not None and not regressed:
        return group.entries_read
    if position == HEAD:
        return info.gone
    return info.added if position == info.top else None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream stands after its start."""

    position: bytes
    entries_read: int
    replayed: int


class Recovery:
    """Brings one stream of a partition back to service.

    Args:
        committer: exchange, lease and the ways out of trouble.
        keys: of the stream.
        start: where a stream begins that was never read.
        fields: names of the fields of a tick.
        telemetry: metrics.
        health: heartbeat.
    """

    def __init__(
        self,
        committer: Committer,
        keys: StreamKeys,
        start: Literal["earliest", "latest"],
        *,
        fields: wire.FieldNames,
        telemetry: Telemetry,
        health: Health,
    ) -> None:
        self._committer = committer
        self._exchange: Exchange = committer.exchange
        self._keys = keys
        self._start = start
        self._fields = fields
        self._telemetry = telemetry
        self._health = health
        self._name = keys.stream.decode(errors="backslashreplace")

    def settle_in(self) -> tuple[Plan, int]:
        """Make group, origin and our own streams agree; the plan that was carried out, and the entries trimmed away.

        Raises:
            CommandFailed: the input is no stream (`WRONGTYPE`).
            LeaseLost: another process owns the partition.
        """
        connection = self._exchange.connection
        for _ in range(ATTEMPTS_MAX):
            self._exchange.lease.raise_fence(connection)
            found = survey(connection, self._keys)
            witness = self._witness(found) if found.group is None else None
            plan = decide(found, self._start, witness)
            gone = found.input.gone if found.input else 0
            outcome = self._exchange.commit_alone(self._set_up(plan, gone))
            if outcome.refused:
                raise outcome.refused
            if outcome.is_committed:
                self._report(plan, found)
                return plan, gone
        raise LeaseLost(f"somebody else keeps changing {self._name} or its forecasts")

    def replay(self, engine: ForecastEngine, plan: Plan, gone: int) -> Standing:
        """Lead the engine from the origin to the position, without publishing, renewing the lease as it goes."""
        reached, count = plan.origin, 0
        while later(plan.position, reached):
            entries = self._read(reached, plan.position)
            if entries is None:
                continue
            if not entries:
                break
            engine.advance(wire.decode(entries, self._keys.stream, self._fields).ticks)
            reached = entries[-1][0]
            if count // PROGRESS_EVERY_TICKS != (count + len(entries)) // PROGRESS_EVERY_TICKS:
                log.info("replaying", stream=self._name, entries=count + len(entries), position=reached)
            count += len(entries)
            self._telemetry.count_replayed(len(entries))
        if count:
            log.info("replayed", stream=self._name, entries=count, position=plan.position)
        read = plan.entries_read if plan.entries_read is not None else gone + count
        return Standing(plan.position, read, count)

    def _read(self, after: bytes, until: bytes) -> list[Entry] | None:
        """The next entries of the history; none when the connection or the lease had to be put right first."""
        self._health.beat(30.0)
        renewal = Commit()
        try:
            self._exchange.send_turn(
                renewal, [range_command(self._keys.stream, after=after, until=until, count=REPLAY_COUNT)]
            )
            outcome = self._exchange.read_outcome(renewal)
            held, entries = self._exchange.read_range()
        except (ConnectionLost, ServerRefused) as error:
            self._committer.reconnect(error)
            return None
        if not outcome.is_committed:
            self._committer.settle(renewal, outcome)
            return None
        if not held:
            self._exchange.lease.raise_fence(self._exchange.connection)
        return entries

    def _witness(self, found: Survey) -> bytes | None:
        """The later of the tops of our own streams that the input holds: what was published was committed."""
        if found.input is None:
            return None
        tops = sorted((top for top in found.tops.values() if top is not None), key=id_order, reverse=True)
        for top in tops:
            if later(top, HEAD) and holds_entry(self._exchange.connection, self._keys.stream, top):
                return top
        return None

    def _set_up(self, plan: Plan, gone: int) -> Commit:
        keys = self._keys
        read = plan.entries_read if plan.entries_read is not None else gone
        now_ms = self._exchange.lease.server_ms
        commit = Commit([(b"RENAME", key, aside_name(key, now_ms)) for key in plan.aside])
        if plan.regressed:
            commit.commands.append((b"HSET", keys.origins, keys.stream, plan.origin))
        else:
            commit.commands.append(remember_origin(keys, plan.origin))
        if not plan.has_group:
            commit.commands.append(create_group(keys.stream, plan.position, read))
        elif plan.regressed:
            commit.commands.append(set_position(keys.stream, plan.position, read))
        return commit

    def _report(self, plan: Plan, found: Survey) -> None:
        if plan.regressed:
            self._telemetry.count_position_regression()
            log.error(
                "input_recreated", stream=self._name, position=found.group and found.group.position, input=found.input
            )
        for key in plan.aside:
            log.error("stream_set_aside", stream=key, reason="entries beyond the committed position")
        if found.group is None and not plan.regressed and later(plan.position, HEAD):
            log.warning("group_missing", stream=self._name, position=plan.position)
        info = found.input
        if info is not None and info.gone and later(info.deleted_up_to, plan.origin):
            log.warning("history_trimmed", stream=self._name, origin=plan.origin, trimmed_up_to=info.deleted_up_to)
