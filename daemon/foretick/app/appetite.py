"""How many entries to ask for, so that a read takes little memory whatever producers write.

Nobody can ask Redis for so many bytes, only for so many entries, and nobody knows how large they are before they are
here. So a read that turns out large is followed by smaller ones; one that turns out huge is broken off, and tried again
with an eighth of the entries. A single entry of each stream is always taken.
"""

from __future__ import annotations

COMFORT_BYTES = 16_000_000  # of a reply; 100,000 ticks of usual size
REPLY_MAX_BYTES = 64_000_000  # of a reply; what is parsed from it takes two or three times as much
SHRINK = 8  # a burst of entries of 1 MB is met with 500, 62, 7


class Appetite:
    """The number of entries of each stream that one read may bring.

    Args:
        most: entries, where they are small.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = most

    @property
    def limit_bytes(self) -> int | None:
        """At which a reply is to be broken off; none where nothing less could be asked for."""
        return REPLY_MAX_BYTES if self.count > 1 else None

    def lower(self, most: int) -> None:
        """Ask for no more than this many, as there are more streams now."""
        self._most = most
        self.count = min(self.count, most)

    def took(self, reply_bytes: int) -> None:
        """Learn from a reply how many to ask for next: fewer at once, more again only by and by."""
        if reply_bytes > COMFORT_BYTES:
            self.count = max(1, self.count * COMFORT_BYTES // reply_bytes)
        elif self.count < self._most and 2 * reply_bytes <= COMFORT_BYTES:
            self.count = min(2 * self.count, self._most)

    def choked(self) -> None:
        """Learn from a reply that was broken off."""
        self.count = max(1, self.count // SHRINK)
