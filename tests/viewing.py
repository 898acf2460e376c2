"""A viewer of the live page without a browser: reads its server-sent events one by one."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE_SECONDS = 10.0


def get(port: int, path: str, **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    """Status, body and headers of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_SECONDS)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def listed(port: int, **asked: str) -> dict[str, Any]:
    """What `/series` answers."""
    status, body, _ = get(port, f"/series?{urlencode(asked)}")
    assert status == 200, body
    return json.loads(body)


class Viewing:
    """One stream of events."""

    def __init__(self, port: int, series_id: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_SECONDS)
        self._connection.request("GET", f"/events?series={series_id}" if series_id else "/events")
        self.answer = self._connection.getresponse()
        self.retry_ms: int | None = None

    def events(self) -> Iterator[tuple[str, Any]]:
        """Name and value of each event, until the stream ends."""
        name = ""
        while line := self.answer.readline():
            field, _, text = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = text
            elif field == "retry":
                self.retry_ms = int(text)
            elif field == "data":
                yield name, json.loads(text)

    def until(self, wanted: str) -> Any:
        """The value of the next event of this name."""
        return next(value for name, value in self.events() if name == wanted)

    def close(self) -> None:
        self.answer.close()
        self._connection.close()
