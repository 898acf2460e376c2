"""How many entries to ask for, so that a read takes little memory whatever producers write.

Nobody can ask Redis for so many bytes, only for so many entries, and nobody knows how large they are before they are
here. So a read that turns out large is followed by smaller ones; one that turns out huge is broken off, and tried again
with an eighth of the entries. A single entry of each stream is always taken.
"""

from __future__ import annotations

COMFORT_BYTES = 16_000_000  # of a reply; 100,000 ticks of usual size
REPLY_MAX_BYTES = 64_000_000  # of a reply; what is parsed from it takes about as much again
SHRINK = 8  # a burst of entries of 1 MB is met with 500, 62, 7
HELD_ENTRIES = 50_000  # read at once over all streams, at most: about 30 MB
LEAST_COUNT = 8  # of one stream: with fewer, the cut rule lets hardly more than one entry of each pass


def share_of(streams: int) -> int:
    """How many entries of each of so many streams may be read at once."""
    return max(LEAST_COUNT, HELD_ENTRIES // max(streams, 1))


class Appetite:
    """The number of entries of each stream that one read may bring."""

    def __init__(self) -> None:
        self._bearable: int | None = None  # entries; any number if absent
        self._asked = 1

    def ask(self, most: int) -> int:
        """How many to ask for.

        Args:
            most: if they were small.
        """
        if self._bearable is not None and self._bearable >= most:
            self._bearable = None
        self._asked = most if self._bearable is None else self._bearable
        return self._asked

    @property
    def limit_bytes(self) -> int | None:
        """At which the reply is to be broken off; none where nothing less could be asked for."""
        return REPLY_MAX_BYTES if self._asked > 1 else None

    def took(self, reply_bytes: int) -> None:
        """Learn from a reply how many to ask for next: fewer at once, more again only by and by."""
        if reply_bytes > COMFORT_BYTES:
            self._bearable = max(1, self._asked * COMFORT_BYTES // reply_bytes)
        elif self._bearable is not None and 2 * reply_bytes <= COMFORT_BYTES:
            self._bearable *= 2

    def choked(self) -> None:
        """Learn from a reply that was broken off."""
        self._bearable = max(1, self._asked // SHRINK)
