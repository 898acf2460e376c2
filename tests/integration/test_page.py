"""The live page without a browser: files, series, and events of a loop on a real server."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from foretick.app import live, live_viewer
from foretick.app.live_page import LivePage
from foretick.app.live_series import names_of
from foretick.ports import endpoints, web
from foretick.ports.connection import RedisConnection
from foretick.ports.endpoints import Health, HttpServer
from foretick.ports.history import History
from foretick.ports.telemetry import Telemetry
from foretick.ports.wire import series_key
from partitions import Loop, push, wait_answered
from servers import wait_until
from viewing import Viewing, get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server

pytestmark = pytest.mark.redis
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u2028 \N{RIGHT-TO-LEFT OVERRIDE}%00{}[]"


def identity(series: str, stream: str = "ticks") -> str:
    return names_of(series_key(stream.encode(), series.encode()))["id"]


class Shown:
    """A loop, its page, and the viewers of a test."""

    def __init__(self, loop: Loop, page: LivePage, http: HttpServer) -> None:
        self.loop, self.page, self.http = loop, page, http
        self.viewings: list[Viewing] = []

    def view(self, series: str = "s1") -> Viewing:
        self.viewings.append(Viewing(self.http.port, identity(series)))
        return self.viewings[-1]


@pytest.fixture
def shown(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    monkeypatch.setattr(endpoints, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    loop = Loop(redis_server.url)
    history = History(lambda _key: RedisConnection(redis_server.url, timeout_seconds=2), b"foretick")
    page = LivePage("127.0.0.1", loop.telemetry, loop.health, history)
    loop.partition._live = page.live
    http = HttpServer("127.0.0.1", 0, loop.telemetry.exposition, loop.health)
    http.page = page
    http.start()
    made = Shown(loop.start(), page, http)
    yield made
    for viewing in made.viewings:
        viewing.close()
    http.stop()
    loop.stop()


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """The page of a daemon that has nothing to show."""
    monkeypatch.setattr(endpoints, "POLL_SECONDS", 0.02)
    telemetry, health = Telemetry(), Health()
    http = HttpServer("127.0.0.1", 0, telemetry.exposition, health)
    http.page = LivePage("127.0.0.1", telemetry, health, None)
    http.start()
    yield http
    http.stop()


def test_the_page_and_its_files_are_served_with_their_types_and_may_do_nothing_else(idle: HttpServer) -> None:
    status, body, headers = get(idle.port, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    found = dict.fromkeys(re.findall(r'(?:src|href)="([^"#]+)"', body))
    files = [path for path in found if path.startswith("page/")]
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    assert len(files) >= 5
    for path in files:
        status, _, headers = get(idle.port, f"/{path}")
        assert (status, headers["Content-Type"]) == (200, types[path[path.rindex(".") :]])
        assert "immutable" in headers["Cache-Control"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert not re.search(r"<script>|<style|style=|\son\w+=", body), "the policy would keep it from working"
    assert all(get(idle.port, "/" + path)[0] in {200, 503} for path in found if not path.startswith("page/"))
    assert get(idle.port, "/page/0/page.js")[0] == 404
    assert "Access-Control-Allow-Origin" not in headers


def test_a_viewer_sees_every_forecast_once_the_past_first_and_then_as_they_come(
    shown: Shown, server_client: Any
) -> None:
    push(server_client, 90)
    wait_answered(server_client, 90)
    viewing = shown.view("s1")
    assert viewing.until("hello") | {"version": ""} == {
        "version": "",
        "id": identity("s1"),
        "stream": "ticks",
        "series": "s1",
    }
    assert viewing.retry_ms == 2000
    seen = viewing.until("past")
    assert seen.pop("trouble") == ""
    for _ in range(3):
        push(server_client, 60)
    events = viewing.events()
    while len(seen["y"]) < 90:
        name, value = next(events)
        if name == "points":
            assert value.pop("gap") is False
            for column in ("ts", "y", "yhat", "warm", "anomaly"):
                seen[column] += value[column]
    wanted = [fields for _, fields in server_client.xrange("foretick:{ticks}:forecasts") if fields[b"series"] == b"s1"]
    for column, field in (("ts", b"ts"), ("y", b"y"), ("yhat", b"yhat")):
        assert seen[column] == [float(fields[field]) for fields in wanted]
    vitals = next(value for name, value in events if name == "vitals")
    assert vitals["failing"] == {}
    assert {
        "ticks_per_second",
        "latency_p50_ms",
        "latency_p99_ms",
        "lag_ticks",
        "lag_seconds",
        "skill",
        "coverage",
    } < set(vitals)


def test_the_loop_offers_nothing_while_nobody_looks(shown: Shown, server_client: Any) -> None:
    push(server_client, 30)
    wait_answered(server_client, 30)
    assert not shown.page.live.is_watched
    viewing = shown.view()
    viewing.until("past")
    assert shown.page.live.is_watched
    viewing.close()
    push(server_client, 30)
    wait_until(lambda: not shown.page.live.is_watched, what="that nobody looks")
    assert not shown.page.live._offers
    assert not [thread for thread in threading.enumerate() if thread.name == "live"]


def test_beyond_the_most_viewers_one_is_told_so_and_the_probes_still_answer(shown: Shown) -> None:
    shown.page.live.viewers_max = 20
    for _ in range(20):
        shown.view().until("hello")
    late = shown.view()
    assert list(late.events()) == [("full", {"viewers": 20})]
    assert late.retry_ms == 15_000
    assert shown.page.live.viewers == 20
    assert get(shown.http.port, "/livez")[0] == 200
    shown.viewings[0].close()
    wait_until(lambda: shown.page.live.viewers < 20, what="a free place")
    assert shown.view().until("hello")["series"] == "s1"


def test_a_viewer_who_does_not_read_is_sent_away_and_holds_up_nobody(
    shown: Shown, server_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_viewer, "MAIL_MAX", 3)
    monkeypatch.setattr(web._Handler, "timeout", 0.3)
    deaf = socket.create_connection(("127.0.0.1", shown.http.port))
    with contextlib.closing(deaf):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(f"GET /events?series={identity('s0')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: shown.page.live.viewers == 1, what="the deaf viewer")
        wait_until(lambda: push(server_client, 300) and shown.page.live.viewers == 0, 30, "that it is sent away")
    assert shown.view("s1").until("past")["ts"]


def test_a_stop_ends_every_stream_at_once(shown: Shown) -> None:
    viewing = shown.view()
    viewing.until("past")
    shown.http.stop()
    list(viewing.events())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("http", "live"))]


def test_hostile_names_are_data_and_nothing_else(shown: Shown, server_client: Any) -> None:
    for value in (1, 2, 3):
        server_client.xadd("ticks", {"series": HOSTILE, "value": value})
    wait_answered(server_client, 3)
    viewing = shown.view(HOSTILE)
    assert viewing.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert viewing.until("hello")["series"] == HOSTILE
    assert viewing.until("past")["y"] == [1.0, 2.0, 3.0]


def test_a_redis_that_is_away_is_told_and_the_present_is_still_shown(
    shown: Shown, server_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shown.page._history, "_connect", lambda _key: RedisConnection("redis://127.0.0.1:1", timeout_seconds=1)
    )
    viewing = shown.view("s1")
    assert "refused" in viewing.until("past")["trouble"]
    push(server_client, 3)
    assert len(viewing.until("points")["y"]) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/events?series=%00", 400),
        ("/events?series=bm8tbWFyaw", 400),
        ("/events?series=" + "a" * 2100, 414),
        ("/series?order=best", 400),
        ("/series?order=newest&text=" + "x" * 1500, 200),
        ("/events/", 404),
    ],
)
def test_what_makes_no_sense_is_refused(idle: HttpServer, path: str, status: int) -> None:
    assert get(idle.port, path)[0] == status


@pytest.mark.parametrize("path", ["/", "/series", "/events"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:9464"}, 421),
        ({"Host": "localhost:9464"}, 200),
        ({"Host": "[::1]:9464"}, 200),
        ({"Host": "10.1.2.3"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_only_pages_of_ours_on_names_of_this_machine_may_ask(
    idle: HttpServer, path: str, headers: dict[str, str], status: int
) -> None:
    if path == "/events" and status == 200:
        return  # it would not end
    assert get(idle.port, path, **headers)[0] == status


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/series", 403), ("/events", 403)])
def test_another_sites_page_may_lead_here_but_take_nothing(idle: HttpServer, path: str, status: int) -> None:
    assert get(idle.port, path, Sec_Fetch_Site="cross-site")[0] == status


def test_a_head_request_takes_no_viewers_place(idle: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", idle.port), timeout=10) as client:
        client.sendall(b"HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"text/event-stream" in b"".join(iter(lambda: client.recv(4096), b""))
    assert isinstance(idle.page, LivePage)
    assert idle.page.live.viewers == 0


@pytest.fixture
def server_client(redis_server: Server) -> Any:
    return redis_server.client()


def test_json_has_no_number_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="JSON"):
        live_viewer.as_json({"y": float("nan")})
    assert json.loads(live_viewer.as_json({"y": None})) == {"y": None}
