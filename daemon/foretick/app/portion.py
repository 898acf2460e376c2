"""How many entries a turn takes: many while they are quick, few where each takes long.

A turn has fixed costs, and of many ticks of a series only the last goes into the hash of last forecasts: in a backlog
4,000 at a time cost 6 to 13% less per tick than 1,000. But nothing of a turn is seen before its end, the commit that
ends it holds Redis for 3 to 5 µs per tick, and an engine may need a millisecond for each. So turns grow while they are
full, until they take about as long as is aimed at. The forecasts do not depend on it.

The aim is of the loop's own time on the core. By the clock, a turn lasts longer where it waits: for learning, for a
renewal, or for the other partitions of a daemon, all of which have a core between them. Fewer entries would not make
that wait shorter, only each of them dearer; so it counts when turns come to last so long that a lease is in danger.
"""

from __future__ import annotations

AIM_SECONDS = 0.1  # on the core, of a turn in a backlog: no pause to the eye, and fixed costs are below a tenth of it
FIRST_ENTRIES = 256  # a quarter of a second of the slowest engine; three turns later it may be 2,000
BEARABLE_SECONDS = 2.0  # by the clock: a turn of 16 ms among 128 partitions, and a fifth of the usual lease's life
LEAST_ENTRIES = 16  # however long a turn lasted: a wait of a minute says nothing about the entries


class Portion:
    """The number of entries that one turn may take, over all streams."""

    def __init__(self) -> None:
        self._entries = FIRST_ENTRIES

    def ask(self, most: int) -> int:
        """How many to take.

        Args:
            most: however quick they are.
        """
        self._entries = min(self._entries, most)
        return self._entries

    def took(self, entries: int, core_seconds: float, clock_seconds: float) -> None:
        """Learn from a turn how many to take next: half as many at the least, twice as many at the most.

        Args:
            entries: that it took.
            core_seconds: that its thread was at work.
            clock_seconds: that it lasted, with all that it waited for.
        """
        seconds = max(core_seconds, clock_seconds * AIM_SECONDS / BEARABLE_SECONDS)
        fitting = int(entries * AIM_SECONDS / seconds) if seconds > 0 else 2 * self._entries
        if seconds > AIM_SECONDS:
            self._entries = max(fitting, self._entries // 2, LEAST_ENTRIES)
        elif entries >= self._entries:
            self._entries = min(fitting, 2 * self._entries)
