"""What Redis holds of one stream, one partition: a look that changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretick.errors import CommandFailed, ForetickError
from foretick.ports.connection import good
from foretick.ports.streams import GROUP
from foretick.ports.wire import dead_key, forecasts_key, latest_key, lease_key, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretick.ports.connection import Command, RedisConnection, Reply

RECENT_ENTRIES = 1000  # the newest ones are looked into: 0.1 MB
DEAD_ENTRIES = 2000  # dead letters that are counted by reason: 0.5 MB usually, 130 MB at the very worst
SCAN_COUNT = 1000  # keys a SCAN looks at per round trip
KEYS_MAX = 1000  # of one kind that are told
_SIZE_COMMANDS = {b"string": b"STRLEN", b"hash": b"HLEN", b"list": b"LLEN", b"stream": b"XLEN", b"zset": b"ZCARD"}


@dataclass(frozen=True, slots=True)
class InputSeen:
    """The input stream.

    Attributes:
        entries: there now.
        added: ever.
        first_id: of the oldest entry; none in an empty stream.
        last_id: last id given out.
        ticks_per_second: over the newest entries, by their ids; none when there are too few.
        fields: names in the newest entries, most frequent first.
        series: ids in the newest entries, most frequent first, each with its count.
        recent: how many the newest entries are.
    """

    entries: int
    added: int
    first_id: str | None
    last_id: str
    ticks_per_second: float | None
    fields: dict[str, int]
    series: dict[str, int]
    recent: int


@dataclass(frozen=True, slots=True)
class OutputSeen:
    """A stream that the daemon writes.

    Attributes:
        entries: there now.
        last_id: last id ever written; none when the stream is not there.
    """

    entries: int
    last_id: str | None


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """One stream and what became of it.

    Attributes:
        name: its key.
        partition: that it belongs to.
        input: none when there is no such stream.
        position: last entry that was answered; none when no daemon ever read it.
        lag_ticks: entries after it; none when Redis lost count.
        forecasts: the forecasts.
        latest_series: series with a last forecast.
        dead: the dead letters.
        dead_by_reason: the newest of them, by reason.
    """

    name: str
    partition: str
    input: InputSeen | None
    position: str | None
    lag_ticks: int | None
    forecasts: OutputSeen
    latest_series: int
    dead: OutputSeen
    dead_by_reason: dict[str, int]


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """Who owns a partition.

    Attributes:
        partition: its name.
        owner: as the lease says it; none when nobody owns it.
        epoch_ms: when the owner took it, by the server's clock.
        left_ms: until it expires.
    """

    partition: str
    owner: str | None
    epoch_ms: int | None
    left_ms: int | None


@dataclass(frozen=True, slots=True)
class KeySeen:
    """One key of a checkpoint.

    Attributes:
        key: its name.
        kind: Redis' type.
        length: bytes of a string, members of anything else.
        memory_bytes: what Redis needs for it; none where this user may not ask.
    """

    key: str
    kind: str
    length: int | None
    memory_bytes: int | None


def stream_names(connection: RedisConnection, patterns: Sequence[str], prefix: str) -> list[str]:
    """The streams that names and globs stand for; a plain name stands for itself, there or not."""
    found = [name for name in patterns if not set("*?[]") & set(name)]
    for glob in patterns:
        if glob in found:
            continue
        keys = sorted(text(key) for key in _scan(connection, b"MATCH", glob.encode(), b"TYPE", b"stream"))
        found += [key for key in keys if key not in found and not key.startswith(f"{prefix}:")]
    return found


def look_at_stream(connection: RedisConnection, name: str, prefix: str, series_field: str) -> StreamSeen:
    """Everything about one stream.

    Args:
        connection: to the server.
        name: the stream's key.
        prefix: of the daemon's own keys.
        series_field: name of the field with the series id.

    Raises:
        CommandFailed: one of its keys is of another type, or this user may not read it.
    """
    stream, own = name.encode(), prefix.encode()
    forecasts, dead, latest = forecasts_key(own, stream), dead_key(own, stream), latest_key(own, stream)
    info, groups = connection.call_all([(b"XINFO", b"STREAM", stream), (b"XINFO", b"GROUPS", stream)])
    facts = _facts(info)
    group = next((one for one in map(_pairs, groups) if one[b"name"] == GROUP), {}) if facts else {}
    return StreamSeen(
        name=name,
        partition=text(partition_of(stream)),
        input=_input(connection, stream, facts, series_field.encode()) if facts else None,
        position=text(group[b"last-delivered-id"]) if group else None,
        lag_ticks=group.get(b"lag"),
        forecasts=_output(connection, forecasts),
        latest_series=connection.call(b"HLEN", latest),
        dead=_output(connection, dead),
        dead_by_reason=_reasons(connection, dead),
    )


def look_at_lease(connection: RedisConnection, partition: str, prefix: str) -> LeaseSeen:
    """Who owns the partition, and for how long."""
    key = lease_key(prefix.encode(), partition.encode())
    holder, left_ms = map(good, connection.call_all([(b"GET", key), (b"PTTL", key)]))
    if holder is None:
        return LeaseSeen(partition, None, None, None)
    owner, _, epoch = text(holder).rpartition(" ")
    return LeaseSeen(partition, owner or text(holder), int(epoch) if epoch.isdecimal() else None, max(left_ms, 0))


def look_at_checkpoints(connection: RedisConnection, partition: str, prefix: str) -> list[KeySeen]:
    """The keys under which the partition's state is kept."""
    pattern = b"%b:{%b}:checkpoint:*" % (prefix.encode(), _escaped(partition).encode())
    found = sorted(key for key, _ in zip(_scan(connection, b"MATCH", pattern), range(KEYS_MAX), strict=False))
    kinds = connection.call_all([(b"TYPE", key) for key in found])
    seen = []
    for key, kind in zip(found, map(good, kinds), strict=True):
        command = _SIZE_COMMANDS.get(kind)
        length, memory = connection.call_all(
            [(command, key) if command else (b"EXISTS", key), (b"MEMORY", b"USAGE", key)]
        )
        seen.append(KeySeen(text(key), text(kind), _number(length), _number(memory)))
    return seen


def text(raw: bytes) -> str:
    """Bytes of Redis as people can read them."""
    return raw.decode(errors="backslashreplace")


def id_ms(entry_id: str) -> int:
    """The time of an entry id, milliseconds since the epoch."""
    return int(entry_id.partition("-")[0])


def _input(connection: RedisConnection, stream: bytes, facts: dict[bytes, Any], series_field: bytes) -> InputSeen:
    entries: list[Any] = connection.call(b"XREVRANGE", stream, b"+", b"-", b"COUNT", RECENT_ENTRIES)
    fields: Counter[str] = Counter()
    series: Counter[str] = Counter()
    for _, flat in entries:
        by_name = _pairs(flat)
        fields.update(map(text, by_name))
        series[text(by_name.get(series_field, stream))] += 1
    return InputSeen(
        entries=facts[b"length"],
        added=facts[b"entries-added"],
        first_id=text(facts[b"first-entry"][0]) if facts[b"first-entry"] else None,
        last_id=text(facts[b"last-generated-id"]),
        ticks_per_second=_rate([text(entry[0]) for entry in entries]),
        fields=dict(fields.most_common()),
        series=dict(series.most_common()),
        recent=len(entries),
    )


def _rate(newest_first: list[str]) -> float | None:
    if len(newest_first) < 2:
        return None
    span_ms = id_ms(newest_first[0]) - id_ms(newest_first[-1])
    return (len(newest_first) - 1) * 1000.0 / span_ms if span_ms else None


def _reasons(connection: RedisConnection, key: bytes) -> dict[str, int]:
    letters = connection.call(b"XREVRANGE", key, b"+", b"-", b"COUNT", DEAD_ENTRIES)
    reasons = Counter(text(_pairs(flat).get(b"reason", b"?")) for _, flat in letters)
    return dict(reasons.most_common())


def _output(connection: RedisConnection, key: bytes) -> OutputSeen:
    facts = _facts(connection.call_all([(b"XINFO", b"STREAM", key)])[0])
    return OutputSeen(facts[b"length"], text(facts[b"last-generated-id"])) if facts else OutputSeen(0, None)


def _facts(reply: Reply) -> dict[bytes, Any]:
    """What XINFO STREAM says; nothing where there is no such key."""
    return {} if isinstance(reply, CommandFailed) and "no such key" in str(reply) else _pairs(good(reply))


def _pairs(flat: Reply) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _scan(connection: RedisConnection, *options: bytes) -> Iterator[bytes]:
    for line in connection.lines:
        cursor = None
        while cursor != b"0":
            command: Command = (b"SCAN", cursor or b"0", *options, b"COUNT", SCAN_COUNT)
            cursor, keys = line.call(*command)
            yield from keys


def _escaped(name: str) -> str:
    """A name as a glob that stands for itself."""
    return "".join(f"\\{character}" if character in "*?[]\\^" else character for character in name)


def _number(reply: Reply) -> int | None:
    if isinstance(reply, ForetickError) and not isinstance(reply, CommandFailed):
        raise reply
    return reply if isinstance(reply, int) else None
