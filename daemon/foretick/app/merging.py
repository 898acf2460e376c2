"""Entries of several streams, one after another in the order of their ids, whatever pieces they were read in.

A read is cut short in a stream that gave as many entries as were asked for: what follows there is not known yet, only
that it lies beyond the last id. So of all that was read only what does not lie beyond the smallest of these last ids
can be taken; the rest is held until the cut streams are read further. Equal ids go by the streams' keys.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from foretick.ports.streams import id_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from foretick.ports.streams import Entry


class Merge:
    """Puts what is read from several streams into one order.

    Streams of which entries are held need not be read meanwhile: those lie beyond what the cut streams may still give.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, int, bytes, Entry]] = []  # sorted; ms, seq, stream: no two are equal
        self._cut: dict[bytes, bytes] = {}  # by stream whose last read was cut short: its last id
        self._held_of: Counter[bytes] = Counter()

    @property
    def holds(self) -> bool:
        """Whether entries are held, so that nobody should wait for new ones."""
        return bool(self._held)

    @property
    def is_behind(self) -> bool:
        """Whether more is known to stand in the streams, or may stand there, than was taken."""
        return bool(self._held or self._cut)

    def to_read(self, streams: Iterable[bytes]) -> list[bytes]:
        """Those of the streams that have to be read next."""
        return [stream for stream in streams if stream not in self._held_of]

    def advance(
        self, read: Mapping[bytes, Sequence[Entry]], *, count: int, limit: int
    ) -> tuple[Sequence[Entry], list[bytes]]:
        """Take in a read of all streams that `to_read` named, and give the next entries and the stream of each.

        Args:
            read: what came; streams without new entries may be left out.
            count: entries of a stream that were asked for at most.
            limit: entries to give at most.
        """
        if len(read) == 1 and not self._held:
            [(stream, entries)] = read.items()
            if 0 < len(entries) <= limit:  # the usual case: in order as it is, and nothing else to wait for
                self._cut = {stream: entries[-1][0]} if len(entries) >= count else {}
                return entries, [stream] * len(entries)
        self._cut = {stream: last for stream, last in self._cut.items() if stream in self._held_of}
        fresh = {stream: entries for stream, entries in read.items() if entries}
        self._cut |= {stream: entries[-1][0] for stream, entries in fresh.items() if len(entries) >= count}
        for stream, entries in fresh.items():
            self._held += [(*id_order(entry[0]), stream, entry) for entry in entries]
            self._held_of[stream] += len(entries)
        self._held.sort()  # of sorted runs: nearly linear
        return self._take(limit)

    def _take(self, limit: int) -> tuple[list[Entry], list[bytes]]:
        n = len(self._held)
        if self._cut:
            ms, seq = min(map(id_order, self._cut.values()))
            n = bisect_left(self._held, (ms, seq + 1))
        taken = self._held[: min(n, limit)]
        del self._held[: len(taken)]
        streams = [stream for _, _, stream, _ in taken]
        self._held_of -= Counter(streams)  # which drops the streams of which none are left
        return [entry for *_, entry in taken], streams

    def forget(self, stream: bytes) -> None:
        """Drop what is held of a stream that is gone."""
        self._cut.pop(stream, None)
        if self._held_of.pop(stream, 0):
            self._held = [item for item in self._held if item[2] != stream]
