"""What Redis has forgotten: whether it still holds what we have read and what we have committed.

A server that comes back from an older copy of its memory, and an input that was deleted and created anew, look alike
from far away: some ids that we know are not there. Going on would answer ticks that nobody can read any more, or pass
over some that nobody has answered; so in doubt the partition is recovered from what Redis holds now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretick.ports.positions import committed_positions, holds_entries, later, stream_infos, tops_of
from foretick.ports.streams import HEAD, id_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.ports.connection import Command, RedisConnection
    from foretick.ports.positions import StreamInfo
    from foretick.ports.streams import Commit


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is missing.

    Attributes:
        stream: the input.
        ours: an id that we had read or committed there.
        found: what Redis tells instead: its committed position, or the last id of the input.
        reason: in words.
    """

    stream: bytes
    ours: bytes
    found: bytes
    reason: str


def forgotten(connection: RedisConnection, commit: Commit, guarded: Mapping[bytes, bytes]) -> Forgotten | None:
    """The first thing that Redis does not know any more, after a connection was lost; none where it knows all.

    Args:
        connection: to it.
        commit: not known to be carried out; tells where the streams stood before it, and where they are to stand.
        guarded: input stream by stream of ours: the last answers witness the position where the group is gone.
    """
    found = committed_positions(connection, list(commit.before))
    for stream, position in found.items():
        if later(commit.before[stream], position):
            return Forgotten(stream, commit.before[stream], position, "Redis came back with an older position")
    reached = reached_by(commit.commands)
    asked = [stream for stream in commit.before if stream in reached or stream not in found]
    infos = dict(zip(asked, stream_infos(connection, asked), strict=True))
    held = dict(zip(reached, holds_entries(connection, list(reached.items())), strict=True))
    for stream, info in infos.items():
        position = reached.get(stream, commit.before[stream])
        if info is None or not info.added:  # deleted: what comes next may still have later ids than ours
            if later(position, found.get(stream, position)):  # but our group would be gone with it
                return Forgotten(stream, position, HEAD, "Redis came back without ticks that it had given us")
            continue
        if later(position, info.top) or (not held.get(stream, True) and not _is_removed(info, position)):
            return Forgotten(stream, position, info.top, "Redis came back without ticks that it had given us")
        if stream not in found and (top := _last_answer(connection, stream, guarded)) is not None:
            before = commit.before[stream]
            if later(before, top):
                return Forgotten(stream, before, top, "Redis came back without answers of ours")
    return None


def _last_answer(connection: RedisConnection, stream: bytes, guarded: Mapping[bytes, bytes]) -> bytes | None:
    """The last id that was ever answered; none where that cannot be told."""
    keys = [key for key, answered in guarded.items() if answered == stream]
    tops = [top for top in tops_of(connection, keys).values() if top is not None]
    return max(tops, key=id_order, default=HEAD) if keys else None


def reached_by(commands: Sequence[Command]) -> dict[bytes, bytes]:
    """Where the streams are to stand, by what moves their positions."""
    return {
        stream: position
        for name, _, stream, _, position, *_ in (command for command in commands if command[0] == b"XGROUP")
        if isinstance(stream, bytes) and isinstance(position, bytes)
    }


def is_created_anew(connection: RedisConnection, stream: bytes, before: bytes) -> bool:
    """Whether an input without our group is another one than before, with entries that we have passed over.

    With later ids only, it goes on as if nothing had happened.

    Args:
        connection: to Redis.
        stream: the input.
        before: our position there, as last committed.
    """
    [info] = stream_infos(connection, [stream])
    if info is None or info.first is None or _is_removed(info, before):
        return False
    return not holds_entries(connection, [(stream, before)])[0]


def _is_removed(info: StreamInfo, entry_id: bytes) -> bool:
    """Whether an entry that is not there may have been trimmed or deleted on purpose."""
    return info.first is None or later(info.first, entry_id) or not later(entry_id, info.deleted_up_to)


def answers_of(connection: RedisConnection, stream: bytes, guarded: Mapping[bytes, bytes]) -> list[bytes]:
    """Those of our own streams for this input that exist."""
    return list(tops_of(connection, [key for key, answered in guarded.items() if answered == stream]))
