"""Which streams there are, and which partitions they form; looked up again and again, a little at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from foretick.errors import ConnectionLost, ServerRefused, UsageError
from foretick.ports.keyspace import StreamScan, has_our_group, types_of
from foretick.ports.wire import DEFAULT_PARTITION, partition_of, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from foretick.ports.connection import RedisConnection

RESCAN_SECONDS = 5.0  # a new stream is found within it
STEPS_AT_ONCE = 100  # calls of SCAN, 1000 keys each: about 30 ms in which our own word to the others waits

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The streams that are input.

    Attributes:
        partitions: streams by partition, in the order of their keys.
        refused: why, by stream that is asked for and cannot be input.
    """

    partitions: dict[bytes, tuple[bytes, ...]]
    refused: dict[bytes, str]

    @property
    def streams_count(self) -> int:
        """Streams of all partitions."""
        return sum(map(len, self.partitions.values()))


def is_glob(name: str) -> bool:
    """Whether a setting names many streams."""
    return bool(set("*?[") & set(name))


def arrange(streams: Iterable[bytes], was_read: Callable[[bytes], bool], *, needs_tags: bool = False) -> Catalogue:
    """The partitions that these streams form.

    `a` and `{a}` would share the keys of their forecasts, so only one of them can be input: the one that was read
    before, else `a`. A stream with the tag `default` would have to share the partition of those without a tag.

    Args:
        streams: all of them.
        was_read: whether a stream has our group; asked only about such pairs.
        needs_tags: on a Redis Cluster the keys of a partition have to share a slot.
    """
    asked = set(streams)
    refused: dict[bytes, str] = {}
    for stream in sorted(asked):
        if needs_tags and tag_of(stream) is None:
            refused[stream] = f"on a Redis Cluster a stream needs a {{tag}}: call it {{site}}:{_text(stream)}, say"
            continue
        if tag_of(stream) == DEFAULT_PARTITION:
            refused[stream] = "the tag {default} is the name of the partition of the streams without a tag"
        wrapped = b"{%b}" % stream
        if wrapped not in asked or wrapped in refused or tag_of(stream) is not None:
            continue
        loser, winner = (stream, wrapped) if was_read(wrapped) and not was_read(stream) else (wrapped, stream)
        refused[loser] = f"its forecasts would have the same keys as those of {_text(winner)}"
    partitions: dict[bytes, list[bytes]] = {}
    for stream in sorted(asked - refused.keys()):
        partitions.setdefault(partition_of(stream), []).append(stream)
    return Catalogue({partition: tuple(members) for partition, members in partitions.items()}, refused)


class Discovery:
    """Keeps a catalogue of the streams that the settings name.

    A stream that is named is input from the beginning, also while it does not exist; a glob finds those that do.

    Args:
        streams: names and globs.
        prefix: of our own keys, which are never input.
    """

    def __init__(self, streams: Sequence[str], prefix: bytes) -> None:
        self._prefix = prefix + b":"
        self._scanned_at = 0.0
        self.catalogue: Catalogue | None = None
        self.change(streams)

    def change(self, streams: Sequence[str]) -> None:
        """Look for these from now on; until they are found, the catalogue stays as it is."""
        self._names = [name.encode() for name in streams if not is_glob(name)]
        self._globs = [name.encode() for name in streams if is_glob(name)]
        self._scan: StreamScan | None = StreamScan(self._globs)

    @property
    def names(self) -> frozenset[bytes]:
        """The streams that the settings name."""
        return frozenset(self._names)

    def pursue(self, connection: RedisConnection) -> None:
        """Look a little further, if it is time; `catalogue` changes when all keys have been seen.

        Raises:
            CommandFailed: this user may not look.
            UsageError: on this Redis none of the streams that are named can be input.
        """
        if self._scan is None:
            if time.monotonic() - self._scanned_at < RESCAN_SECONDS:
                return
            self._scan = StreamScan(self._globs)
        try:
            for _ in range(STEPS_AT_ONCE):
                if self._scan.is_over:
                    break
                self._scan.step(connection)
        except (ConnectionLost, ServerRefused):
            self._scan = StreamScan(self._globs)  # a cursor means nothing to another server
            raise
        if self._scan.is_over:
            found, self._scan = self._scan.found, None
            self._conclude(connection, found | self._overlooked(connection, found))
            self._scanned_at = time.monotonic()

    def forgo_globs(self) -> None:
        """Be content with the streams that are named."""
        self._globs = []
        self._scan = StreamScan([])

    def _overlooked(self, connection: RedisConnection, found: set[bytes]) -> set[bytes]:
        """Streams that are still there: one that changes its node while we look may be seen on neither."""
        if not connection.is_cluster or self.catalogue is None:
            return set()
        known = {stream for members in self.catalogue.partitions.values() for stream in members}
        missed = sorted(known - found - set(self._names)) if self._globs else []
        kinds = types_of(connection, missed)
        return {stream for stream, kind in zip(missed, kinds, strict=True) if kind == "stream"}

    def _require_tags(self) -> bool:
        """Refuse settings that name no stream that a cluster can have: at start by an error, later one by one."""
        is_vain = not self._globs and all(tag_of(name) is None for name in self._names)
        if is_vain and self.catalogue is None:
            names = ", ".join(_text(name) for name in self._names)
            raise UsageError(f"streams: on a Redis Cluster give {names} a {{tag}}, as in {{site}}:ticks")
        return not is_vain

    def _conclude(self, connection: RedisConnection, found: set[bytes]) -> None:
        leaves_absent = connection.is_cluster and self._require_tags()
        types = dict(zip(self._names, types_of(connection, self._names), strict=True))
        wrong = {name: f"it is a {kind}, no stream" for name, kind in types.items() if kind not in {"stream", "none"}}
        ours = {stream for stream in found if stream.startswith(self._prefix)}
        # On a cluster the default name `ticks` does no harm as long as there is no such stream.
        absent = {name for name, kind in types.items() if kind == "none" and tag_of(name) is None}
        arranged = arrange(
            {*self._names, *found} - wrong.keys() - ours - (absent if leaves_absent else set()),
            lambda stream: has_our_group(connection, stream),
            needs_tags=connection.is_cluster,
        )
        made = Catalogue(arranged.partitions, {**arranged.refused, **wrong})
        known = self.catalogue.refused if self.catalogue else {}
        for stream, reason in made.refused.items():
            if known.get(stream) != reason:
                log.error("stream_refused", stream=_text(stream), reason=reason)
        self.catalogue = made


def _text(stream: bytes) -> str:
    return stream.decode(errors="backslashreplace")
