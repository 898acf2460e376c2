"""The return of a partition's streams to service: find their positions, and make Redis and us agree on them.

`replay` then leads the engine to these positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from foretick.app.answers import StreamState
from foretick.app.replay import Span
from foretick.errors import LeaseLost
from foretick.ports.positions import (
    aside_name,
    create_group,
    holds_entries,
    later,
    remember_origin,
    set_position,
    survey,
)
from foretick.ports.streams import HEAD, Commit, id_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.app.commits import Committer
    from foretick.app.marks import Mark
    from foretick.ports.connection import Command
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys, Survey
    from foretick.ports.telemetry import Telemetry

ATTEMPTS_MAX = 10  # to set streams up; each is spoiled only by somebody who changes one of them at the same moment
STREAMS_AT_ONCE = 250  # 1250 questions and up to 1000 writes a time: a few milliseconds of the server's

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
class Settled:
    """A stream whose group, origin and own streams agree.

    Attributes:
        keys: of the stream.
        plan: what was carried out.
        gone: entries that were deleted or trimmed from the input.
        first: id of the first entry that the input still holds.
        has_history: whether the input may still hold entries from the plan's origin to its position.
    """

    keys: StreamKeys
    plan: Plan
    gone: int
    first: bytes | None
    has_history: bool

    def state(self, mark: Mark | None = None, replayed: int = 0) -> StreamState:
        """Where it stands after its start; what Redis has forgotten of its past is counted anew.

        Args:
            mark: of the checkpoint that was restored, if there was one.
            replayed: entries that were read again since.
        """
        read = self.plan.entries_read
        entries_read = read if read is not None else (mark.entries_read if mark else self.gone) + replayed
        return StreamState(self.keys, self.plan.position, entries_read)


class Recovery:
    """Puts the streams of a partition in order.

    Args:
        committer: exchange, lease and the ways out of trouble.
        telemetry: metrics.
        health: heartbeat.
    """

    def __init__(self, committer: Committer, *, telemetry: Telemetry, health: Health) -> None:
        self._exchange = committer.exchange
        self._telemetry = telemetry
        self._health = health

    def settle_in(self, streams: Sequence[StreamKeys], start: Literal["earliest", "latest"]) -> list[Settled]:
        """Make group, origin and our own streams agree, in a few round trips for all.

        Args:
            streams: keys of each.
            start: where a stream begins that was never read.

        Raises:
            CommandFailed: an input is no stream (`WRONGTYPE`).
            LeaseLost: another process owns the partition.
        """
        settled: list[Settled] = []
        for first in range(0, len(streams), STREAMS_AT_ONCE):
            self._health.beat(30.0)
            settled += self._settle_some(streams[first : first + STREAMS_AT_ONCE], start)
        return settled

    def spans(self, settled: Sequence[Settled], marks: Mapping[bytes, Mark]) -> list[Span]:
        """What the engine has to be led through.

        Args:
            settled: the streams.
            marks: where the streams stood that the engine knows already, from a checkpoint.
        """
        spans = []
        for one in settled:
            plan, mark = one.plan, marks.get(one.keys.stream)
            # A mark beyond the position is of a stream that was created anew: of this one the engine knows nothing.
            after = mark.position if mark and not later(mark.position, plan.position) else plan.origin
            spans.append(Span(one.keys.stream, after, plan.position))
        return spans

    def report_missing(
        self, settled: Sequence[Settled], spans: Sequence[Span], marks: Mapping[bytes, Mark], found: Mapping[bytes, int]
    ) -> None:
        """Tell which replays missed entries that were trimmed away: of these the engine knows nothing.

        Args:
            settled: the streams.
            spans: what was replayed of each.
            marks: where the streams stood that the engine knew before.
            found: entries found, by stream.
        """
        for one, span in zip(settled, spans, strict=True):
            mark, read = marks.get(span.stream), one.plan.entries_read
            known = mark.entries_read if mark else 0
            reaches = one.first is not None and not later(one.first, span.after)
            if reaches or read is None or not later(span.until, span.after) or (mark is None and span.after != HEAD):
                continue
            missing = read - known - found.get(span.stream, 0)
            if missing > 0:
                self._telemetry.count_history_trimmed()
                log.warning("history_trimmed", stream=_name(span.stream), known_up_to=span.after, missing=missing)

    def _settle_some(self, streams: Sequence[StreamKeys], start: Literal["earliest", "latest"]) -> list[Settled]:
        connection = self._exchange.connection
        for _ in range(ATTEMPTS_MAX):
            self._exchange.lease.raise_fence(connection)
            found = survey(connection, streams)
            witnesses = self._witnesses(streams, found)
            plans = [decide(one, start, witnesses.get(keys.stream)) for keys, one in zip(streams, found, strict=True)]
            facts = list(zip(streams, plans, found, strict=True))
            outcome = self._exchange.commit_alone(
                Commit([command for keys, plan, one in facts for command in self._set_up(keys, plan, one)])
            )
            if outcome.refused:
                raise outcome.refused
            if outcome.is_committed:
                for fact in facts:
                    self._report(*fact)
                return [
                    Settled(
                        keys,
                        plan,
                        one.input.gone if one.input else 0,
                        one.input.first if one.input else None,
                        _has_history(plan, one),
                    )
                    for keys, plan, one in facts
                ]
        names = ", ".join(_name(keys.stream) for keys in streams[:3])
        raise LeaseLost(f"somebody else keeps changing {names} or their forecasts")

    def _witnesses(self, streams: Sequence[StreamKeys], found: Sequence[Survey]) -> dict[bytes, bytes]:
        """By stream without a group: the later of our own tops that it holds; what was published was committed."""
        tops = [
            (keys.stream, top)
            for keys, one in zip(streams, found, strict=True)
            if one.group is None and one.input is not None
            for top in sorted(filter(None, one.tops.values()), key=id_order)
            if later(top, HEAD)
        ]
        held = holds_entries(self._exchange.connection, tops)
        return dict(pair for pair, is_held in zip(tops, held, strict=True) if is_held)

    def _set_up(self, keys: StreamKeys, plan: Plan, found: Survey) -> list[Command]:
        gone = found.input.gone if found.input else 0
        read = plan.entries_read if plan.entries_read is not None else gone
        commands: list[Command] = [(b"RENAME", key, aside_name(key)) for key in plan.aside]
        if plan.regressed:
            commands.append((b"HSET", keys.origins, keys.stream, plan.origin))
        elif found.origin is None:
            commands.append(remember_origin(keys, plan.origin))
        if not plan.has_group:
            commands.append(create_group(keys.stream, plan.position, read))
        elif plan.regressed:
            commands.append(set_position(keys.stream, plan.position, read))
        return commands

    def _report(self, keys: StreamKeys, plan: Plan, found: Survey) -> None:
        name = _name(keys.stream)
        if plan.regressed:
            self._telemetry.count_position_regression()
            log.error("input_recreated", stream=name, position=found.group and found.group.position, input=found.input)
        for key in plan.aside:
            log.error("stream_set_aside", stream=key, reason="entries beyond the committed position")
        if found.group is None and not plan.regressed and later(plan.position, HEAD):
            log.warning("group_missing", stream=name, position=plan.position)


def _has_history(plan: Plan, found: Survey) -> bool:
    """Whether a replay from the origin would find anything."""
    first = found.input.first if found.input else None
    return first is not None and later(plan.position, plan.origin) and not later(first, plan.position)


def _name(stream: bytes) -> str:
    return stream.decode(errors="backslashreplace")
