"""Where a stream stands: its input, the committed position, the tops of what was written, the first position ever read.

The position lives in a consumer group (last-delivered-id), so that XINFO GROUPS and all that is built on it show the
true lag.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ForetickError
from foretick.ports.connection import good, pack
from foretick.ports.streams import GROUP, id_order
from foretick.ports.wire import dead_key, forecasts_key, latest_key, origin_key, skipped_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.ports.connection import Command, RedisConnection, Reply


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """All keys of one input stream.

    Attributes:
        stream: the input itself.
        forecasts: the forecasts, under their ticks' ids.
        dead: the dead letters, under their own ids.
        latest: the last forecast of every series.
        origins: hash of the first positions of the partition's streams.
        skipped: hash of the partition's ticks at which its engine failed.
    """

    stream: bytes
    forecasts: bytes
    dead: bytes
    latest: bytes
    origins: bytes
    skipped: bytes

    @staticmethod
    def of(stream: bytes, prefix: bytes, partition: bytes) -> StreamKeys:
        """The keys that the wire contract gives this stream."""
        return StreamKeys(
            stream,
            forecasts_key(prefix, stream),
            dead_key(prefix, stream),
            latest_key(prefix, stream),
            origin_key(prefix, partition),
            skipped_key(prefix, partition),
        )


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What XINFO STREAM says.

    Attributes:
        length: entries there.
        top: last id ever given out, also if its entry is gone.
        first: id of the first entry; none in an empty stream.
        added: entries ever added.
        deleted_up_to: largest id that was ever deleted or trimmed.
    """

    length: int
    top: bytes
    first: bytes | None
    added: int
    deleted_up_to: bytes

    @property
    def gone(self) -> int:
        """Entries that were deleted or trimmed."""
        return max(self.added - self.length, 0)


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group that holds the committed position.

    Attributes:
        position: id of the last entry that was answered.
        entries_read: entries up to there since the stream began; none when Redis lost count.
    """

    position: bytes
    entries_read: int | None


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that a start has to know of one stream.

    Attributes:
        input: none when the stream does not exist.
        group: none when nobody has read here, or the group was destroyed.
        tops: last id of each of our own streams that exist; none for a key that is no stream.
        origin: first position ever read; none when it was never written.
    """

    input: StreamInfo | None
    group: Group | None
    tops: dict[bytes, bytes | None]
    origin: bytes | None


_SURVEY_REPLIES = 5  # of one stream
_ENTRY_PARTS = 2  # an entry is its id and its fields


def survey(connection: RedisConnection, streams: Sequence[StreamKeys]) -> list[Survey]:
    """Ask for all of it in one round trip.

    Raises:
        CommandFailed: an input key is no stream (`WRONGTYPE`).
    """
    replies = _ask(
        connection,
        [
            command
            for keys in streams
            for command in (
                (b"XINFO", b"STREAM", keys.stream),
                (b"XINFO", b"GROUPS", keys.stream),
                (b"HGET", keys.origins, keys.stream),
                (b"XINFO", b"STREAM", keys.forecasts),
                (b"XINFO", b"STREAM", keys.dead),
            )
        ],
    )
    return [
        Survey(
            input=_stream_info(info),
            group=_our_group(groups),
            tops=dict(_tops({keys.forecasts: forecasts, keys.dead: dead})),
            origin=good(origin),
        )
        for keys, (info, groups, origin, forecasts, dead) in zip(
            streams, zip(*[iter(replies)] * _SURVEY_REPLIES, strict=True), strict=True
        )
    ]


def stream_infos(connection: RedisConnection, streams: Sequence[bytes]) -> list[StreamInfo | None]:
    """The inputs as they are now; none for one that does not exist.

    Raises:
        CommandFailed: one of them is no stream.
    """
    return [_stream_info(reply) for reply in _ask(connection, [(b"XINFO", b"STREAM", key) for key in streams])]


def committed_positions(connection: RedisConnection, streams: Sequence[bytes]) -> dict[bytes, bytes]:
    """Where Redis believes us to be; streams without our group, or that are gone, are left out."""
    found = {}
    replies = connection.call_all([(b"XINFO", b"GROUPS", stream) for stream in streams])
    for stream, reply in zip(streams, replies, strict=True):
        if isinstance(reply, CommandFailed):  # no stream, or no stream any more
            continue
        if group := _our_group(reply):
            found[stream] = group.position
    return found


def tops_of(connection: RedisConnection, streams: list[bytes]) -> dict[bytes, bytes | None]:
    """The last id of each of the streams that exist; none for a key that is no stream."""
    replies = _ask(connection, [(b"XINFO", b"STREAM", stream) for stream in streams])
    return dict(_tops(dict(zip(streams, replies, strict=True))))


def holds_entries(connection: RedisConnection, entries: Sequence[tuple[bytes, bytes]]) -> list[bool]:
    """Whether each of the entries, given by stream and id, exists."""
    replies = _ask(connection, [(b"XRANGE", stream, entry_id, entry_id) for stream, entry_id in entries])
    return [bool(good(reply)) for reply in replies]


def holds_publications(connection: RedisConnection, publications: Sequence[Command]) -> list[bool]:
    """Whether exactly each of these XADDs was carried out."""
    replies = connection.call_all([(b"XRANGE", stream, entry_id, entry_id) for _, stream, entry_id, *_ in publications])
    return [
        # WRONGTYPE: the key is no stream, so the entry is not there
        not isinstance(reply, CommandFailed) and bool(good(reply) == [[entry_id, fields]])
        for reply, (_, _, entry_id, *fields) in zip(replies, publications, strict=True)
    ]


def set_position(stream: bytes, position: bytes, entries_read: int) -> Command:
    """Move the committed position; `entries_read` keeps the lag that Redis reports right."""
    return (b"XGROUP", b"SETID", stream, GROUP, position, b"ENTRIESREAD", entries_read)


def create_group(stream: bytes, position: bytes, entries_read: int) -> Command:
    """Make the group at a position, and the stream with it where there is none."""
    return (b"XGROUP", b"CREATE", stream, GROUP, position, b"MKSTREAM", b"ENTRIESREAD", entries_read)


def remember_origin(keys: StreamKeys, position: bytes) -> Command:
    """Keep the position at which a replay without a checkpoint begins; the first one stands."""
    return (b"HSETNX", keys.origins, keys.stream, position)


def aside_name(key: bytes) -> bytes:
    """Where a stream with foreign entries goes: by microseconds, never the same name twice; in the slot of its tag."""
    return b"%b:aside:%d" % (key, time.time_ns() // 1000)


def _ask(connection: RedisConnection, commands: Sequence[Command]) -> list[Reply]:
    """The replies; of entries in them the ids only, for producers make entries as large as they like."""
    connection.send(pack(commands))
    return [_slim(connection.read()) for _ in commands]


def _slim(reply: Reply) -> Reply:
    if not isinstance(reply, list):
        return reply
    for i, part in enumerate(reply):
        if isinstance(part, list) and len(part) == _ENTRY_PARTS and isinstance(part[1], list):
            reply[i] = [part[0], None]
    return reply


def _is_absent(reply: Reply) -> bool:
    return isinstance(reply, CommandFailed) and "no such key" in str(reply)


def _stream_info(reply: Reply) -> StreamInfo | None:
    if _is_absent(reply):
        return None
    facts = _pairs(good(reply))
    first = facts[b"first-entry"]
    return StreamInfo(
        length=facts[b"length"],
        top=facts[b"last-generated-id"],
        first=first[0] if first else None,
        added=facts[b"entries-added"],
        deleted_up_to=facts[b"max-deleted-entry-id"],
    )


def _our_group(reply: Reply) -> Group | None:
    if _is_absent(reply):
        return None
    for facts in map(_pairs, good(reply)):
        if facts[b"name"] == GROUP:
            return Group(facts[b"last-delivered-id"], facts[b"entries-read"])
    return None


def _tops(replies: dict[bytes, Reply]) -> list[tuple[bytes, bytes | None]]:
    found: list[tuple[bytes, bytes | None]] = []
    for key, reply in replies.items():
        if _is_absent(reply):
            continue
        if isinstance(reply, CommandFailed):  # WRONGTYPE
            found.append((key, None))
        elif isinstance(reply, ForetickError):
            raise reply
        else:
            found.append((key, _pairs(reply)[b"last-generated-id"]))
    return found


def _pairs(flat: list[Reply]) -> dict[bytes, Reply]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def later(one: bytes, other: bytes) -> bool:
    """Whether the first id is after the second."""
    return id_order(one) > id_order(other)
