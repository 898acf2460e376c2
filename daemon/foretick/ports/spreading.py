"""Ticks over many streams, so that many daemons can share the series: which series goes where.

    partition = CRC-32 of the series id (UTF-8) modulo N;     stream = ticks:{partition}

A series keeps its stream for ever, whoever produces it and in whatever language: docs/scaling.md has it in a few.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from foretick.ports.caller import Caller
from foretick.ports.producer import TickProducer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.ports.recordings import Tick
    from foretick.ports.route import Route
    from foretick.ports.wire.entry import FieldNames


def partition_number(series: bytes, partitions: int) -> int:
    """Which of N partitions a series belongs to: CRC-32 as in zip, gzip and PNG."""
    return zlib.crc32(series) % partitions


def partition_streams(stream: str, partitions: int) -> list[str]:
    """The streams of the partitions: the number is the hash tag, so each has a slot of its own on a cluster."""
    return [f"{stream}:{{{number}}}" for number in range(partitions)]


class SpreadProducer(Caller):
    """Pushes ticks, each series to its partition's stream; for one thread.

    Args:
        route: the way to the server, or its URL.
        stream: the keys' common beginning.
        partitions: how many streams.
        fields: what the fields of a tick are called here.
        maxlen: about so many of the newest entries of each stream are kept; none trims nothing.
    """

    def __init__(
        self, route: Route | str, stream: str, partitions: int, *, fields: FieldNames, maxlen: int | None = None
    ) -> None:
        self._producers = [
            TickProducer(route, key, fields=fields, maxlen=maxlen) for key in partition_streams(stream, partitions)
        ]
        super().__init__(self._producers)
        self._batch: Sequence[Tick] | None = None
        self._left: dict[int, list[Tick]] = {}  # of this batch, by partition, in order

    @property
    def pushed_ticks(self) -> int:
        """Ticks that the servers have taken."""
        return sum(producer.pushed_ticks for producer in self._producers)

    def push_all(self, ticks: Sequence[Tick]) -> None:
        """These ticks, the series' order kept; called again with the same ticks after an error it sends what is left.

        Raises:
            ConnectionLost: a server is gone; whether it took the ticks of that partition is unknown.
            ServerRefused, CommandFailed: a server took none of them.
        """
        if ticks is not self._batch:
            self._batch, self._left = ticks, self._parted(ticks)
        for number in list(self._left):
            self._producers[number].push_all(self._left[number])
            del self._left[number]
        self._batch = None

    def lag_ticks(self) -> int:
        """How many ticks of the worst partition are not answered yet."""
        return max(producer.lag_ticks() for producer in self._producers)

    def key_type(self) -> str:
        """What stands under the keys: `stream`, `none`, or the first other thing."""
        kinds = [producer.key_type() for producer in self._producers]
        return next((kind for kind in kinds if kind not in {"stream", "none"}), kinds[0])

    def _parted(self, ticks: Sequence[Tick]) -> dict[int, list[Tick]]:
        parts: dict[int, list[Tick]] = {}
        for tick in ticks:
            parts.setdefault(partition_number(tick[0] or b"", len(self._producers)), []).append(tick)
        return parts
