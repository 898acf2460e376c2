from __future__ import annotations

import socket

import pytest

from servers import wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    """The socket of a supervisor that started this process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", channel.getsockname())
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        yield channel


def heard_until(channel, line):
    """Every line up to the datagram that holds this one."""
    lines = []
    while line not in lines:
        lines += channel.recv(4096).decode().splitlines()
    return lines


def test_a_supervised_daemon_says_ready_after_the_replay_feeds_the_watchdog_and_says_goodbye(
    redis_server, start_daemon, supervisor
):
    client = redis_server.client()
    for number in range(60):
        client.xadd("ticks", {"series": f"s{number % 20}", "value": number % 7})
    daemon = start_daemon(redis_server.url, ready=False, checkpoint__every="0", learn__enabled=False)
    heard_until(supervisor, "READY=1")
    assert daemon.get("/readyz")[0] == 200
    wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 60, what="the history's forecasts")
    assert daemon.terminate() == 0
    assert "STOPPING=1" in heard_until(supervisor, "STOPPING=1")

    daemon.start(ready=False)  # reads the 60 again, without publishing, before it is ready
    heard = heard_until(supervisor, "READY=1")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in heard)
    assert any(line.startswith("STATUS=not ready: ") for line in heard)
    heard_until(supervisor, "WATCHDOG=1")
    assert '"event": "replayed"' in daemon.output()
