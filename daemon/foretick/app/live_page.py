"""The page's paths: its files, `/series` to choose from, `/events` to watch one; and who may ask for them.

GET /series?order=worst&text=boiler     the first hundred, as JSON
GET /events?series=ID                   server-sent events:
    hello    names of the series, the version
    past     its newest forecasts, out of the stream
    points   its forecasts since, up to five times a second
    mix      the weights of its experts, once a second
    vitals   how the daemon fares, once a second
    full     too many look already; the stream ends
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from foretick import __version__
from foretick.app.live import Live
from foretick.app.live_engines import Engines
from foretick.app.live_series import SeriesList, key_of, names_of
from foretick.app.live_viewer import as_json, event
from foretick.app.live_vitals import Vitals
from foretick.errors import ForetickError
from foretick.ports.page_files import SAFETY, PageFiles, refusal
from foretick.ports.points import Place, Points
from foretick.ports.web import Answer

if TYPE_CHECKING:
    from collections.abc import Generator

    from foretick.app.live_series import Order
    from foretick.ports.endpoints import Health
    from foretick.ports.history import History
    from foretick.ports.telemetry import Telemetry
    from foretick.ports.web import Request

EVENTS_TYPE = "text/event-stream; charset=utf-8"
JSON_TYPE = "application/json"
PAST_POINTS = 600  # forecasts shown at once: more than a screen has columns for
TEXT_MAX_CHARS = 200  # of a search; as long as a series id may be
RETRY_MS = 2000  # a browser asks anew so long after a stream has ended
RETRY_FULL_MS = 15_000  # likewise where there was no place

_ORDERS: dict[str, Order] = {"worst": "worst", "newest": "newest", "silent": "silent"}


class LivePage:
    """Answers for the page, on threads of the HTTP server.

    Args:
        host: what the server listens on.
        telemetry: of the daemon.
        health: of the daemon.
        history: the past of a series.

    Attributes:
        live: what the loops hand their turns to.
    """

    def __init__(self, host: str, telemetry: Telemetry, health: Health, history: History | None) -> None:
        self._host = host
        self._history = history
        self._files = PageFiles()
        engines = Engines()
        self.live = Live(engines, Vitals(telemetry.pulse, health, engines.scores))
        self._series = SeriesList(engines.series)

    def answer(self, request: Request) -> Answer | None:
        """The answer to one of our paths; none to others."""
        asked = parse_qs(request.query)
        if (file := self._files.answer(request.path)) is not None:
            return refusal(request, self._host) or file
        match request.path:
            case "/series":
                return refusal(request, self._host) or self._list(asked)
            case "/events":
                return refusal(request, self._host) or self._watch(asked)
        return None

    def close(self) -> None:
        """End every stream."""
        self.live.close()

    def _list(self, asked: dict[str, list[str]]) -> Answer:
        order = _ORDERS.get(asked.get("order", ["worst"])[0])
        if order is None:
            return Answer(b"400 Bad Request: order is worst, newest or silent\n", status=HTTPStatus.BAD_REQUEST)
        text = asked.get("text", [""])[0][:TEXT_MAX_CHARS]
        return Answer(as_json(self._series.ask(order, text)), JSON_TYPE, headers=SAFETY)

    def _watch(self, asked: dict[str, list[str]]) -> Answer:
        series_id = asked.get("series", [""])[0]
        key = key_of(series_id) if series_id else None
        if series_id and key is None:
            return Answer(b"400 Bad Request: series is an id out of /series\n", status=HTTPStatus.BAD_REQUEST)
        return Answer(b"", EVENTS_TYPE, headers=SAFETY, stream=self._stream(key))

    def _stream(self, key: bytes | None) -> Generator[bytes, None, None]:
        """The past, then what is new, for as long as there is a place."""
        viewer = self.live.admit(key)  # not before the first event is asked for: what never begins never ends
        if viewer is None:
            yield b"retry: %d\n" % RETRY_FULL_MS + event("full", {"viewers": self.live.viewers_max})
            return
        try:
            yield b"retry: %d\n" % RETRY_MS + event("hello", {"version": __version__} | (names_of(key) if key else {}))
            past = Points()
            if key is not None:
                past, trouble = self._past(key)
                yield event("past", past.told | {"trouble": trouble})
            yield from viewer.events(past)
        finally:
            self.live.dismiss(viewer)

    def _past(self, key: bytes) -> tuple[Points, str]:
        """The newest forecasts of a series, and why there are none, if that is known."""
        if self._history is None:
            return Points(), ""
        try:
            return self._history.read(Place.of(key), PAST_POINTS), ""
        except ForetickError as error:
            return Points(), str(error)
