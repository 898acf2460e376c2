"""Where streams stood when a checkpoint was taken, as values and as its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.ports.streams import id_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mark:
    """Where one stream stood.

    Attributes:
        stream: its key.
        position: the committed position.
        entries_read: entries up to there since the stream began.
    """

    stream: bytes
    position: bytes
    entries_read: int


def pack_marks(marks: Iterable[Mark]) -> dict[str, NDArray[Any]]:
    """As arrays: the JSON of ten thousand streams would hold up the loop while it is made."""
    marks = list(marks)
    return {
        "streams.bytes": np.frombuffer(b"".join([mark.stream for mark in marks]), np.uint8),
        "streams.length": np.array([len(mark.stream) for mark in marks], np.int64),
        "streams.position": np.array([id_order(mark.position) for mark in marks], np.uint64).reshape(-1, 2),
        "streams.entries_read": np.array([mark.entries_read for mark in marks], np.int64),
    }


def unpack_marks(arrays: Mapping[str, NDArray[Any]]) -> dict[bytes, Mark]:
    """The inverse of `pack_marks`.

    Raises:
        KeyError, TypeError, ValueError: these are not its arrays.
    """
    lengths, joined = arrays["streams.length"].tolist(), arrays["streams.bytes"].tobytes()
    positions, entries_read = arrays["streams.position"].tolist(), arrays["streams.entries_read"].tolist()
    if sum(lengths) != len(joined):
        raise ValueError("the streams' keys do not add up")
    marks: dict[bytes, Mark] = {}
    begin = 0
    for length, (ms, seq), read in zip(lengths, positions, entries_read, strict=True):
        stream = joined[begin : begin + length]
        marks[stream] = Mark(stream, b"%d-%d" % (ms, seq), read)
        begin += length
    return marks
