"""Series that were forgotten leave the hash of last forecasts as well, some at a time.

The engine tells whom it forgets, and is asked again when their turn comes: a series that has come back meanwhile stays,
so a replay, which sees old departures once more, takes nothing away. What is still to be done when the process dies
stays in the hash, until the series ticks and is forgotten again.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.app.answers import StreamState
    from foretick.ports.connection import Command

LEAVE_MAX = 2000  # series in one commit: about a millisecond of the server's time
WAITING_MAX = 1_000_000  # as many as a partition remembers by default; a long replay meets more, and drops the oldest


class Departures:
    """The series that an engine forgot and that the hashes of last forecasts may still hold.

    Args:
        engine: as it was made, or a test's that forgets nothing.
    """

    def __init__(self, engine: Any) -> None:
        engines = getattr(engine, "engines", {"": engine}).values()  # of groups
        self._engines = [one for one in engines if hasattr(one, "on_forget")]
        self._names: deque[bytes] = deque(maxlen=WAITING_MAX)
        for one in self._engines:
            one.on_forget = self._names.extend

    def commands(self, streams: Mapping[bytes, StreamState]) -> list[Command]:
        """What the next commit has to carry, behind its forecasts.

        Args:
            streams: those that are read.
        """
        if not self._names:
            return []
        names = {self._names.popleft() for _ in range(min(LEAVE_MAX, len(self._names)))}
        for engine in self._engines:
            names = engine.unknown(names)
        leaving: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for stream, series in map(split_series_key, sorted(names)):
            if stream in streams:
                leaving[streams[stream].keys.latest].append(series)
        return [(b"HDEL", latest, *series) for latest, series in leaving.items()]
