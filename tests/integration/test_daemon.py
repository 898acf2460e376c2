"""The daemon as a process of its own, with the real engine: start, stop, statuses, and the same bits after a crash."""

from __future__ import annotations

import re
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from servers import free_port, server_binary, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servers import DaemonProcess, Server

pytestmark = pytest.mark.redis
FORECASTS = "foretick:{ticks}:forecasts"


def push(client: redis.Redis, n: int) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(n):
        pipe.xadd("ticks", {"series": f"s{i % 5}", "value": (i * 7919) % 1000 / 8 + (i % 5) * 100})
    pipe.execute()


def answers(client: redis.Redis) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return client.xrange(FORECASTS)


def wait_for_answers(client: redis.Redis, n: int) -> None:
    wait_until(lambda: client.xlen(FORECASTS) >= n, 60, f"{n} forecasts")


def test_sigterm_commits_what_was_read_releases_the_lease_and_ends_with_0(
    server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = server.client()
    daemon = start_daemon(server.url)
    push(client, 100)
    wait_for_answers(client, 1)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 5
    assert client.get("foretick:{default}:lease") is None
    group = client.xinfo_groups("ticks")[0]
    assert group["last-delivered-id"] == answers(client)[-1][0]
    assert group["entries-read"] == client.xlen(FORECASTS)


def test_sigint_is_a_clean_end_too(redis_server: Server, start_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = start_daemon(redis_server.url)
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_a_second_signal_forces(
    private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess]
) -> None:
    server = private_server("redis")
    daemon = start_daemon(server.url)
    server.pause()  # nothing answers, so the first signal has to wait
    try:
        # Two signals sent at once are one to the kernel, so they are sent until it has counted to two.
        wait_until(lambda: daemon.signal(signal.SIGTERM) or daemon.returncode is not None)
        assert daemon.returncode == 130
    finally:
        server.resume()


def test_a_server_that_never_answers_is_status_3_at_the_deadline(start_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = start_daemon(f"redis://127.0.0.1:{free_port()}/0", ready=False, redis__connect_deadline="1s")
    assert daemon.wait() == 3
    assert "did not answer within 1 s" in daemon.output()


def test_a_server_that_comes_up_late_is_waited_for(
    private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess]
) -> None:
    server = private_server("redis")
    server.stop()
    daemon = start_daemon(server.url, ready=False)
    wait_until(lambda: "redis_unreachable" in daemon.output(), 30)
    assert daemon.get("/livez")[0] == 200
    assert daemon.get("/readyz")[0] == 503
    server.start()
    daemon.wait_ready()


def test_a_stop_while_waiting_for_the_server_is_a_clean_end(start_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = start_daemon(f"redis://127.0.0.1:{free_port()}/0", ready=False)
    wait_until(lambda: "redis_unreachable" in daemon.output(), 30)
    assert daemon.terminate(5) == 0


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "redis://:wrong@127.0.0.1:{port}/0"])
def test_a_wrong_password_is_told_at_once(
    private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess], url: str
) -> None:
    server = private_server("redis", requirepass="secret")
    daemon = start_daemon(url.format(port=server.port), ready=False)
    assert daemon.wait() == 3
    assert "does not let us in" in daemon.output()
    assert "wrong@" not in daemon.output()


def test_a_password_of_its_own_takes_the_place_of_the_urls(
    private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess]
) -> None:
    server = private_server("redis", requirepass="secret")
    daemon = start_daemon(server.url, redis__password="secret")
    assert daemon.terminate() == 0


def test_a_unix_socket_will_do(
    private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess]
) -> None:
    server = private_server("redis")
    path = server.folder / "socket"
    server.stop()
    server.options["unixsocket"] = str(path)
    server.start()
    daemon = start_daemon(f"unix://{path}")
    push(server.client(), 3)
    wait_for_answers(server.client(), 3)
    assert daemon.terminate() == 0


def test_a_server_of_its_own_ends_with_the_daemon_and_keeps_its_stream(
    start_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    server_binary("valkey")
    daemon = start_daemon(None, "--embedded", state_dir=tmp_path)
    assert "foretick_embedded_server_up 1.0" in daemon.get("/metrics")[1]
    with redis.Redis(port=embedded_port(daemon)) as client:
        push(client, 10)
        wait_for_answers(client, 10)
        before = answers(client)
    assert daemon.terminate() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", embedded_port(daemon)))
    daemon.start()
    with redis.Redis(port=embedded_port(daemon)) as client:
        assert answers(client) == before
    assert daemon.terminate() == 0


def embedded_port(daemon: DaemonProcess) -> int:
    """The port that it printed at its last start."""
    return int(re.findall(r"redis://127\.0\.0\.1:(\d+)", daemon.output())[-1])


def test_a_taken_http_port_is_a_usage_error(redis_server: Server, start_daemon: Callable[..., DaemonProcess]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = start_daemon(redis_server.url, ready=False, http__port=taken.getsockname()[1])
        assert daemon.wait() == 2


def test_forecasts_after_kills_and_restarts_are_bit_equal_to_an_undisturbed_run(
    redis_server: Server, private_server: Callable[..., Server], start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    options: dict[str, Any] = {"model__hidden": 16, "lease__ttl": "1s", "batch": 20}
    daemon = start_daemon(redis_server.url, **options)
    for i in range(4):
        push(client, 200)
        wait_for_answers(client, 200 * i + 50)
        if i % 2:
            assert daemon.terminate() == 0
        else:
            daemon.kill()
        daemon.start()
    wait_for_answers(client, 800)
    assert [entry_id for entry_id, _ in answers(client)] == [entry_id for entry_id, _ in client.xrange("ticks")]
    undisturbed = private_server("redis").client()
    for entry_id, fields in client.xrange("ticks"):
        undisturbed.xadd("ticks", fields, id=entry_id)
    start_daemon(f"redis://127.0.0.1:{undisturbed.connection_pool.connection_kwargs['port']}/0", **options)
    wait_for_answers(undisturbed, 800)
    assert answers(undisturbed) == answers(client)


def test_metrics_tell_ticks_forecasts_latency_and_lag(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    push(client, 10)
    daemon = start_daemon(redis_server.url)
    wait_for_answers(client, 10)
    wait_until(lambda: 'foretick_stream_lag_ticks{stream="ticks"} 0.0' in daemon.get("/metrics")[1])
    push(client, 10)
    wait_for_answers(client, 20)
    page = wait_until(lambda: (page := daemon.get("/metrics")[1]) and "latency_seconds_count 10.0" in page and page)
    assert 'foretick_ticks_total{stream="ticks"} 20.0' in page
    assert "foretick_leases_held 1.0" in page
    assert "foretick_redis_reconnects_total 0.0" in page
    status, text = daemon.get("/readyz?verbose")
    assert (status, "lease" in text, "state" in text) == (200, True, True)
