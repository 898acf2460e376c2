"""A recorded stream's ticks as the daemon would take them."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from foretick.app.access import connected, plain_stream
from foretick.app.assembly import fields_of
from foretick.app.progress import progress
from foretick.app.values import check_redis_url
from foretick.core.records import Ticks
from foretick.errors import UsageError
from foretick.ports import wire
from foretick.ports.masking import mask_url
from foretick.ports.recordings import Faults, Recording
from foretick.ports.recordings_stream import RecordedStream, parse_address
from foretick.ports.streams import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretick.app.settings import Settings
    from foretick.ports.streams import Entry


@contextmanager
def open_recorded(settings: Settings, text: str) -> Iterator[RecordedStream]:
    """The stream at this address; the settings name it where the address does not, and may hold the password.

    Raises:
        UsageError: the address is wrong, or there is no such stream.
        RedisUnreachable: nobody answers.
    """
    address = parse_address(text)
    try:
        check_redis_url(address.url)
    except ValueError as why:
        raise UsageError(f"{mask_url(text)}: {why}") from None
    stream = address.stream or plain_stream(settings, "backtest")
    redis = settings.redis.model_copy(update={"url": address.url})
    there = settings.model_copy(update={"redis": redis, "embedded": False})
    with connected(there, key=stream.encode()) as connection:
        yield RecordedStream(connection, stream.encode(), settings.prefix.encode())


def read_recorded(settings: Settings, text: str) -> Recording:
    """All ticks of the stream at this address, in entry-id order; what is no tick is counted by its reason."""
    fields = fields_of(settings)
    parts: list[Ticks] = []
    dead: Counter[str] = Counter()
    with open_recorded(settings, text) as stream, progress(stream.length, "read", "entries") as advance:
        for entries in stream.entries(HEAD, stream.top):
            sound = bearable(entries, stream, dead)
            decoded = wire.decode(sound, stream.keys.stream, fields)
            dead.update(letter.reason for letter in decoded.dead)
            parts.append(decoded.ticks)
            advance(len(entries))
    ticks = joined(parts)
    return Recording(ticks, dict.fromkeys(ticks.series, ""), Faults(), stream.keys.stream, dict(dead))


def bearable(entries: Sequence[Entry], stream: RecordedStream, dead: Counter[str]) -> Sequence[Entry]:
    """The entries without those that the daemon keeps from its engine, which are counted."""
    if not stream.skipped:
        return entries
    kept = [entry for entry in entries if entry[0] not in stream.skipped]
    dead[wire.Reason.ENGINE_ERROR] += len(entries) - len(kept)
    return kept


def joined(parts: Sequence[Ticks]) -> Ticks:
    """Consecutive batches as one."""
    if not parts:
        return wire.decode([], b"").ticks
    ms, ts, stamped, y = (np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS)
    return Ticks([name for part in parts for name in part.series], ms, ts, stamped, y)


_COLUMNS = ("ms", "ts", "stamped", "y")
