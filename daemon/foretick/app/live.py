"""What people see of the running daemon while they look: the series that they watch, and how the daemon fares.

    loop ── offer(columns of a committed turn) ──▶ a short queue ──▶ our thread, five times a second:
        cuts out the series that somebody watches, writes each event once ──▶ the mailbox of every viewer ──▶ HTTP

The loop pays one look at `is_watched` a turn, and one append while that is true. There are few viewers, and each has a
bounded mailbox; whoever does not empty it is sent away, and finds the same again by asking anew.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

import structlog

from foretick.app.live_engines import Engines
from foretick.app.live_viewer import Mail, Viewer, event
from foretick.core.records import Verdict
from foretick.ports.points import Place, Points, points_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.core.records import Forecasts
    from foretick.ports.wire import Decoded

VIEWERS_MAX = 32  # a thread and a connection each
LOOK_SECONDS = 0.2  # five events of points a second and viewer: motion to the eye
VITALS_EVERY = 5  # looks between two words about the daemon and about a series
OFFERS_MAX = 512  # turns between two looks: of a tick or a few each, for those of a backlog come ten to a second
POINTS_MAX = 500  # of a series in one event: of more the newest are shown, after a gap

log = structlog.get_logger()


class Live:
    """The viewers, and what they are shown.

    Args:
        engines: whose series are watched.
        vitals: how the daemon fares, as JSON values; asked once a second while somebody looks.

    Attributes:
        is_watched: whether anybody looks, so that the loop should offer its turns.
        viewers_max: how many may.
        engines: whose series are watched; to be told of partitions that come and go.
    """

    def __init__(self, engines: Engines | None = None, vitals: Callable[[], dict[str, Any]] = dict) -> None:
        self.is_watched = False
        self.viewers_max = VIEWERS_MAX
        self.engines = engines or Engines()
        self._vitals = vitals
        self._lock = threading.Lock()
        self._offers: deque[tuple[Decoded, Forecasts]] = deque(maxlen=OFFERS_MAX)
        self._lost = False  # turns, because too many were offered between two looks
        self._viewers: list[Viewer] = []
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    # For the loop.

    def offer(self, decoded: Decoded, forecasts: Forecasts) -> None:
        """Show a turn that is committed; the columns must not change any more."""
        self._lost |= len(self._offers) == OFFERS_MAX
        self._offers.append((decoded, forecasts))

    # For the viewers' threads.

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def admit(self, key: bytes | None) -> Viewer | None:
        """A new viewer of this series, or of none; nobody where there are too many, or at the end."""
        viewer = Viewer(key)
        with self._lock:
            if len(self._viewers) >= self.viewers_max or self._closing.is_set():
                return None
            self._viewers.append(viewer)
            self.is_watched = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
        return viewer

    def dismiss(self, viewer: Viewer) -> None:
        """The viewer looks no more."""
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    def close(self) -> None:
        """Send all viewers away."""
        self._closing.set()
        with self._lock:
            thread, viewers = self._thread, list(self._viewers)
        for viewer in viewers:
            viewer.end()
        if thread is not None:
            thread.join()

    # Our own thread, which lives while somebody looks.

    def _run(self) -> None:
        looks = 0
        while not self._closing.wait(LOOK_SECONDS):
            with self._lock:
                viewers = list(self._viewers)
                if not viewers:
                    self.is_watched, self._thread = False, None
                    self._offers.clear()
                    return
            try:
                self._look(viewers, speaks=looks % VITALS_EVERY == 0)
            except Exception:  # the loop must not suffer, and the next look may be better
                log.exception("live_page_failed")
            looks += 1

    def _look(self, viewers: list[Viewer], *, speaks: bool) -> None:
        """Show what is new; once in a while also how everything fares."""
        by_key: dict[bytes, list[Viewer]] = defaultdict(list)
        for viewer in viewers:
            if viewer.key is not None:
                by_key[viewer.key].append(viewer)
        for key, mail in self._news(list(by_key)):
            for viewer in by_key[key]:
                viewer.put(mail)
        if not speaks:
            return
        vitals = Mail(event("vitals", self._vitals() | {"viewers": len(viewers)}))
        for viewer in viewers:
            viewer.put(vitals)
        for key, watching in by_key.items():
            mail = Mail(event("mix", {"weights": self.engines.weights(key)}))
            for viewer in watching:
                viewer.put(mail)

    def _news(self, keys: list[bytes]) -> list[tuple[bytes, Mail]]:
        """What was offered since the last look of the series with these keys."""
        lost, self._lost = self._lost, False
        batches = [self._offers.popleft() for _ in range(len(self._offers))]
        by_place: dict[tuple[bytes, bytes], list[tuple[bytes, str]]] = defaultdict(list)
        for key in keys:
            place = Place.of(key)
            by_place[place.stream, place.series].append((key, place.suffix))
        names = {series for _, series in by_place}
        news: dict[bytes, list[Points]] = defaultdict(list)
        for decoded, forecasts in batches:
            for pair, at in _positions(decoded, forecasts, names).items():
                for key, suffix in by_place.get(pair, ()):
                    news[key].append(points_at(decoded.ids, decoded.ticks, forecasts, at[-POINTS_MAX - 1 :], suffix))
        found = []
        for key, parts in news.items():
            points = Points.joined(parts)
            has_gap = lost or len(points) > POINTS_MAX
            found.append((key, Mail.of(points.slice(-POINTS_MAX), has_gap=has_gap)))
        return found


def _positions(decoded: Decoded, forecasts: Forecasts, names: set[bytes]) -> dict[tuple[bytes, bytes], list[int]]:
    """Where in a batch the series of these names were forecast, by stream and name."""
    found: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for i, series in enumerate(decoded.ticks.series):
        if series in names and forecasts.verdict[i] == Verdict.FORECAST:
            found[decoded.streams[i], series].append(i)
    return found
