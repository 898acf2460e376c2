"""The names of foretick's own keys, as bytes; which partition a stream belongs to.

All keys of one stream lie in one Redis Cluster slot: they carry its `{tag}`, or the whole stream key as their tag.
"""

from __future__ import annotations

from foretick.ports.slots import tag_of

DEFAULT_PARTITION = b"default"  # streams without a tag are owned, learned from and checkpointed together


def partition_of(stream: bytes) -> bytes:
    """The partition of a stream: its tag, or `default`."""
    return tag_of(stream) or DEFAULT_PARTITION


def series_key(stream: bytes, series: bytes) -> bytes:
    """What the engine knows a series by: the pair of stream and series id, whatever other streams there are.

    A series id holds no control character, so the last zero byte always parts the two.
    """
    return b"%b\0%b" % (stream, series)


def split_series_key(key: bytes) -> tuple[bytes, bytes]:
    """Stream and series id of what `series_key` made."""
    stream, _, series = key.rpartition(b"\0")
    return stream, series


def forecasts_key(prefix: bytes, stream: bytes) -> bytes:
    """The stream that takes the forecasts of `stream`, under the entry ids of their ticks."""
    return _stream_key(prefix, stream, b"forecasts")


def dead_key(prefix: bytes, stream: bytes) -> bytes:
    """The stream that takes the dead letters of `stream`, under their own entry ids."""
    return _stream_key(prefix, stream, b"dead")


def latest_key(prefix: bytes, stream: bytes) -> bytes:
    """The hash of the last forecast of every series of `stream`."""
    return _stream_key(prefix, stream, b"latest")


def lease_key(prefix: bytes, partition: bytes) -> bytes:
    """The expiring ownership of a partition."""
    return _partition_key(prefix, partition, b"lease")


def checkpoint_key(prefix: bytes, partition: bytes) -> bytes:
    """What the keys of a partition's checkpoints begin with, before a colon."""
    return _partition_key(prefix, partition, b"checkpoint")


def origin_key(prefix: bytes, partition: bytes) -> bytes:
    """The positions at which a partition's streams were first read: where a replay without a checkpoint begins."""
    return _partition_key(prefix, partition, b"checkpoint:origin")


def skipped_key(prefix: bytes, partition: bytes) -> bytes:
    """The ticks at which the partition's engine failed: every replay leaves them out."""
    return _partition_key(prefix, partition, b"checkpoint:skipped")


def members_key(prefix: bytes) -> bytes:
    """The daemons that share the partitions, by the time at which each of them ceases to count."""
    return b"%b:members" % prefix


def _stream_key(prefix: bytes, stream: bytes, what: bytes) -> bytes:
    own = stream if tag_of(stream) else b"{%b}" % stream
    return b"%b:%b:%b" % (prefix, own, what)


def _partition_key(prefix: bytes, partition: bytes, what: bytes) -> bytes:
    return b"%b:{%b}:%b" % (prefix, partition, what)
