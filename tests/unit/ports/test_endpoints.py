from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from foretick.errors import UsageError
from foretick.ports import endpoints, web
from foretick.ports.endpoints import Health, HttpServer
from foretick.ports.telemetry import Telemetry

DEADLINE_SECONDS = 10.0


@contextmanager
def serving(metrics=lambda: b"m 1\n", health=None, host="127.0.0.1"):
    server = HttpServer(host, 0, metrics, health or Health())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(endpoints, "POLL_SECONDS", 0.02)  # stopping takes as long


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def server(health):
    with serving(health=health) as server:
        yield server


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def raw(server, sent):
    """What comes back for some bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as client:
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(65536), b""))


def status(answer):
    return int(answer.split()[1])


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("http")]


def test_metrics_are_those_of_the_daemon_with_the_type_that_prometheus_expects():
    telemetry = Telemetry()
    telemetry.count_answers(b"ticks", 3)
    with serving(telemetry.exposition) as server:
        code, body, headers = ask(server, "/metrics")
    assert code == 200
    assert 'foretick_ticks_total{stream="ticks"} 3.0' in body
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Server"] == "foretick"


def test_live_while_the_loop_keeps_its_promise_and_not_after(server, health):
    health.beat(60.0)
    assert ask(server, "/livez")[:2] == (200, "ok\n")
    health.beat(-1.0)
    code, body, _ = ask(server, "/livez")
    assert code == 503
    assert body.startswith("loop silent for ")
    health.beat(60.0)
    assert ask(server, "/livez")[0] == 200


def test_a_promise_runs_out_by_itself(health):
    health.beat(0.02)
    assert health.live()
    wait_until(lambda: not health.live())


def test_nothing_is_ready_before_a_condition_has_been_told(server):
    assert ask(server, "/readyz")[:2] == (503, "[+]loop ok\n[-]start: not begun\nreadyz check failed\n")


def test_ready_when_all_conditions_hold(server, health):
    health.set("redis", True)
    health.set("lease", True, "held")
    assert ask(server, "/readyz")[:2] == (200, "ok\n")
    assert ask(server, "/readyz?verbose")[:2] == (
        200,
        "[+]loop ok\n[+]redis ok\n[+]lease ok: held\nreadyz check passed\n",
    )
    assert health.ready()


def test_not_ready_says_why_even_when_not_asked(server, health):
    health.set("redis", True)
    health.set("lease", False, "held by\nanother")
    failed = "[+]loop ok\n[+]redis ok\n[-]lease: held by another\nreadyz check failed\n"
    assert ask(server, "/readyz")[:2] == (503, failed)
    assert ask(server, "/readyz?x=1&verbose")[:2] == (503, failed)
    health.set("lease", True)
    assert ask(server, "/readyz")[0] == 200
    assert health.checks() == {"loop": (True, ""), "redis": (True, ""), "lease": (True, "")}


def test_a_loop_that_hangs_is_not_ready(server, health):
    health.set("redis", True)
    health.beat(-1.0)
    code, body, _ = ask(server, "/readyz")
    assert code == 503
    assert body.startswith("[-]loop: silent for ")
    assert not health.ready()


def test_the_page_leads_to_every_endpoint_that_exists(server):
    code, body, headers = ask(server, "/")
    assert code == 200
    assert headers["Content-Type"].startswith("text/html")
    links = [part.split('"')[0] for part in body.split('href="')[1:]]
    assert len(links) == 3
    assert all(ask(server, "/" + link)[0] in {200, 503} for link in links)


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "//metrics/x", "/..", "*", "/%2e"])
def test_other_paths_are_not_found(server, path):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"])
def test_only_reading_is_allowed(server, method):
    code, _, headers = ask(server, "/metrics", method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


def test_head_answers_as_get_without_the_body(server):
    code, body, headers = ask(server, "/metrics", "HEAD")
    assert (code, body, headers["Content-Length"]) == (200, "", "4")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\n" + b"X: " + b"a" * 16500 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X: 1\r\n" * 150 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + (b"X: " + b"a" * 2000 + b"\r\n") * 9 + b"\r\n", 431),
        (b"GET http://[/ HTTP/1.0\r\n\r\n", 404),
        (b"GET /livez HTTP/9.9\r\n\r\n", 505),
        (b"\x00\xff nonsense here at all\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nConnection: keep-alive\r\nCookie: " + b"a" * 8000 + b"\r\n\r\n", 200),
    ],
)
def test_requests_are_bounded_and_each_connection_answers_once(server, sent, code):
    assert status(raw(server, sent)) == code


def test_a_client_that_says_nothing_or_little_is_cut(server, monkeypatch):
    monkeypatch.setattr(web, "CONNECTION_MAX_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as client:
        assert client.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as client:
        wait_until(lambda: _refused(client))


def _refused(client):
    """Whether one more byte is met with a closed connection."""
    try:
        client.sendall(b"G")
    except OSError:
        return True
    return False


def test_slow_clients_cannot_keep_a_probe_out_and_threads_stay_few(server):
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * web.CONNECTIONS_MAX)]
    assert ask(server, "/livez")[0] == 200
    assert len(our_threads()) <= web.CONNECTIONS_MAX + 1
    for client in crowd:
        client.close()


def test_a_client_that_never_reads_does_not_keep_the_server_from_stopping():
    with serving(lambda: b"x" * 50_000_000) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(100)
    client.close()
    assert our_threads() == []


def test_a_fault_in_the_metrics_is_an_answer_and_not_the_end():
    faults = iter((True, False))

    def metrics():
        if next(faults):
            raise ValueError("secret")
        return b"fine\n"

    with serving(metrics) as server:
        code, body, _ = ask(server, "/metrics")
        assert (code, body) == (500, "500 Internal Server Error\n")
        assert ask(server, "/metrics")[:2] == (200, "fine\n")


def test_stop_leaves_no_thread_no_socket_and_frees_the_port():
    me = psutil.Process()
    before = me.num_fds()
    server = HttpServer("127.0.0.1", 0, bytes, Health())
    server.start()
    port = server.port
    assert port > 0
    lingering = socket.create_connection(("127.0.0.1", port))
    wait_until(lambda: len(our_threads()) == 2)
    server.stop()
    server.stop()
    lingering.close()
    assert our_threads() == []
    assert me.num_fds() == before
    again = HttpServer("127.0.0.1", port, bytes, Health())
    again.start()
    again.stop()


def test_stop_without_start_is_harmless():
    HttpServer("127.0.0.1", 0, bytes, Health()).stop()


def test_a_taken_port_names_the_setting_to_change(server):
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{server.port} is taken.*http\.port.*FORETICK_HTTP__PORT"):
        HttpServer("127.0.0.1", server.port, bytes, Health()).start()


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_a_foreign_address_names_the_setting_to_change(host):
    with pytest.raises(UsageError, match=r"http\.host.*FORETICK_HTTP__HOST"):
        HttpServer(host, 0, bytes, Health()).start()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "127.0.0.1"])
def test_names_and_wildcards_can_be_listened_on(host):
    with serving(host=host) as server:
        assert ask(server, "/livez")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_can_be_listened_on():
    try:
        with (
            serving(host="::1") as server,
            socket.create_connection(("::1", server.port), timeout=DEADLINE_SECONDS) as client,
        ):
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert status(client.recv(100)) == 200
    except UsageError as error:
        pytest.skip(str(error))


def test_a_standby_is_ready_for_whoever_asks_for_one_and_only_as_long_as_all_else_is(server, health):
    health.set("redis", True)
    health.set("partitions", False, "all are owned by others (2 daemons)")
    assert ask(server, "/readyz?standby")[0] == 503  # it may still be starting
    health.is_standby = True
    assert ask(server, "/readyz?standby")[0] == 200
    assert ask(server, "/readyz")[0] == 503
    status, text, _ = ask(server, "/readyz?verbose&standby")
    assert (status, "[-]partitions: all are owned by others" in text) == (200, True)
    health.set("redis", False, "Connection refused")
    assert ask(server, "/readyz?standby")[0] == 503
