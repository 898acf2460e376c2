"""A stream of ticks as a recording: read from Redis entry by entry, with what a daemon published for it; read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from foretick.errors import UsageError
from foretick.ports.connection import good
from foretick.ports.masking import mask_url
from foretick.ports.positions import StreamKeys, stream_infos, survey
from foretick.ports.streams import HEAD, id_order, range_command
from foretick.ports.wire import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.ports.connection import RedisConnection
    from foretick.ports.streams import Entry

SCHEMES = ("redis://", "rediss://", "unix://")
PASS_ENTRIES = 1000  # of one XRANGE: a millisecond of the server's
_FORMS = "write redis://HOST:6379/0?stream=ticks, or redis://HOST:6379/ticks"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a recorded stream is.

    Attributes:
        url: of the server and its database.
        stream: the stream's key; none where the address names none.
    """

    url: str
    stream: str | None


def is_address(text: str) -> bool:
    """Whether this names a stream in Redis and no file."""
    return text.startswith(SCHEMES)


def parse_address(text: str) -> Address:
    """Server and stream of `redis://HOST/0?stream=ticks`, `redis://HOST/ticks`, or `redis://HOST/0/ticks`.

    Raises:
        UsageError: it is no URL, or names two streams, or one that is empty.
    """
    try:
        parts = urlsplit(text)
    except ValueError:  # whose message may quote the password
        raise UsageError(f"{mask_url(text)} is no address: {_FORMS}") from None
    options = parse_qsl(parts.query, keep_blank_values=True)
    named = [value for name, value in options if name == "stream"]
    path = parts.path
    if parts.scheme != "unix":
        first, _, rest = path.removeprefix("/").partition("/")
        if first and not (first.isascii() and first.isdigit()):
            first, rest = "", path.removeprefix("/")
        path = f"/{first}" if first else ""
        named += [unquote(rest)] if rest else []
    if len(named) > 1 or "" in named:
        raise UsageError(f"{mask_url(text)} names {len(named)} streams, or one without a name: {_FORMS}")
    query = urlencode([pair for pair in options if pair[0] != "stream"])
    url = urlunsplit((parts.scheme, parts.netloc, path, query, parts.fragment))
    if parts.scheme == "unix":
        url = url.replace("unix:/", "unix:///", 1) if not url.startswith("unix:///") else url
    return Address(url, named[0] if named else None)


class RecordedStream:
    """A stream and what was published for it.

    Args:
        connection: open.
        stream: the input's key.
        prefix: of the daemon's own keys.

    Attributes:
        keys: of the stream.
        survey: where everything stood when this was made.
        skipped: ids of its ticks that the daemon keeps from its engine, because it failed at them.
        partners: other streams that the daemon answers with the same engine.
    """

    def __init__(self, connection: RedisConnection, stream: bytes, prefix: bytes) -> None:
        self._connection = connection
        self.keys = StreamKeys.of(stream, prefix, partition_of(stream))
        [self.survey] = survey(connection, [self.keys])
        if self.survey.input is None:
            raise UsageError(f"there is no stream {stream.decode(errors='backslashreplace')}")
        own = b"%b\0" % stream
        skipped = good(connection.call(b"HKEYS", self.keys.skipped))
        self.skipped = frozenset(name.removeprefix(own) for name in skipped if name.startswith(own))
        self.partners = [name for name in good(connection.call(b"HKEYS", self.keys.origins)) if name != stream]

    @property
    def length(self) -> int:
        """Entries that it holds."""
        return self.survey.input.length if self.survey.input else 0

    @property
    def top(self) -> bytes:
        """Id of its last entry, as it was when this was made."""
        return self.survey.input.top if self.survey.input else HEAD

    def entries(self, after: bytes, until: bytes) -> Iterator[list[Entry]]:
        """What lies after one id, up to and with another, in passes."""
        while id_order(after) < id_order(until):
            found: list[Entry] = self._connection.call(
                *range_command(self.keys.stream, after=after, until=until, count=PASS_ENTRIES)
            )
            if not found:
                return
            yield found
            after = found[-1][0]

    def forecasts(self, after: bytes, until: bytes) -> dict[bytes, tuple[bytes, ...]]:
        """By id, the fields of what stands in the stream of forecasts after one id, up to and with another."""
        found: dict[bytes, tuple[bytes, ...]] = {}
        while True:
            part: list[Any] = self._connection.call(
                *range_command(self.keys.forecasts, after=after, until=until, count=PASS_ENTRIES)
            )
            found |= {entry_id: tuple(fields) for entry_id, fields in part}
            if len(part) < PASS_ENTRIES:
                return found
            after = part[-1][0]

    def forecasts_kept_from(self) -> bytes:
        """Id before which forecasts may have been trimmed; the head of all streams if none were."""
        [info] = stream_infos(self._connection, [self.keys.forecasts])
        if info is None or not info.gone:
            return HEAD
        return info.first or info.top

    def first_answer(self) -> bytes | None:
        """Id of the oldest forecast or dead letter that is still there."""
        firsts = (self._first(key) for key in (self.keys.forecasts, self.keys.dead))
        return min(filter(None, firsts), key=id_order, default=None)

    def _first(self, key: bytes) -> bytes | None:
        if self.survey.tops.get(key) is None:  # not there, or no stream
            return None
        reply: list[Any] = self._connection.call(b"XRANGE", key, b"-", b"+", b"COUNT", 1)
        return reply[0][0] if reply else None
