"""One viewer: a mailbox that the live thread fills and the viewer's own thread empties into its connection."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from foretick.ports.points import Points
from foretick.ports.streams import id_order

if TYPE_CHECKING:
    from collections.abc import Generator

MAIL_MAX = 60  # events: ten seconds of them; a viewer that is further behind asks anew
QUIET_SECONDS = 15.0  # without an event, after which a comment shows that the connection lives
STAY_MAX_SECONDS = 1800.0  # then the browser asks anew by itself, so that nobody is forgotten here for ever


def as_json(value: object) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def event(name: str, value: object) -> bytes:
    """A server-sent event (WHATWG HTML, 9.2) whose data is one line of JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), as_json(value))


@dataclass(frozen=True, slots=True)
class Mail:
    """An event for a viewer.

    Attributes:
        event: as it is sent.
        points: what it tells, if it tells of points; a viewer may know some of them from the past.
        has_gap: whether forecasts before the first of the points are not shown.
    """

    event: bytes = b""
    points: Points = field(default_factory=Points)
    has_gap: bool = False

    @staticmethod
    def of(points: Points, *, has_gap: bool) -> Mail:
        """The event that tells of these points."""
        return Mail(event("points", points.told | {"gap": has_gap}), points, has_gap)

    def after(self, last: bytes) -> Mail | None:
        """What it tells that came after this entry id; none if that is nothing."""
        if not len(self.points) or id_order(self.points.ids[0]) > id_order(last):
            return self
        known = sum(id_order(one) <= id_order(last) for one in self.points.ids)
        rest = self.points.slice(known)
        return Mail.of(rest, has_gap=False) if len(rest) else None


class Viewer:
    """Somebody who looks at a series.

    Args:
        key: of the series, as the engine knows it; none watches only how the daemon fares.
    """

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self._mailbox: Queue[Mail | None] = Queue(MAIL_MAX)
        self._ended = False

    def put(self, mail: Mail) -> None:
        """Show this; a viewer who is too far behind is sent away."""
        try:
            self._mailbox.put_nowait(mail)
        except Full:
            self._ended = True

    def end(self) -> None:
        """Send the viewer away, at once."""
        self._ended = True
        with contextlib.suppress(Full):  # then its thread is awake anyway
            self._mailbox.put_nowait(None)

    def events(self, past: Points) -> Generator[bytes, None, None]:
        """What comes after the past, until the viewer is sent away."""
        last = past.ids[-1] if len(past) else b"0-0"
        leave_at = time.monotonic() + STAY_MAX_SECONDS
        while not self._ended and time.monotonic() < leave_at:
            try:
                mail = self._mailbox.get(timeout=QUIET_SECONDS)
            except Empty:
                yield b":\n\n"
                continue
            shown = mail.after(last) if mail is not None else None
            if shown is not None:
                yield shown.event
