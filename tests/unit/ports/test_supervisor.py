from __future__ import annotations

import os
import socket

import pytest

from foretick.ports.supervisor import Supervisor


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        yield channel


def heard(channel):
    return channel.recv(4096).decode().splitlines()


def test_what_is_told_arrives_as_lines_of_one_datagram(listener):
    assert Supervisor({"NOTIFY_SOCKET": listener.getsockname()}).tell("READY=1", "STATUS=serving")
    assert heard(listener) == ["READY=1", "STATUS=serving"]


def test_an_at_sign_stands_for_the_abstract_name_space():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0foretick-{os.getpid()}")
        channel.settimeout(5)
        assert Supervisor({"NOTIFY_SOCKET": f"@foretick-{os.getpid()}"}).tell("READY=1")
        assert heard(channel) == ["READY=1"]


def test_children_do_not_inherit_the_protocol(listener):
    environ = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1", "HOME": "/"}
    Supervisor(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("pid", "usec", "seconds"),
    [("", "30000000", 30.0), ("ours", "500000", 0.5), ("1", "30000000", None), ("", "", None), ("", "often", None)],
)
def test_the_watchdog_counts_where_it_is_meant_for_us(pid, usec, seconds):
    pid = str(os.getpid()) if pid == "ours" else pid
    assert Supervisor({"WATCHDOG_PID": pid, "WATCHDOG_USEC": usec}).watchdog_seconds == seconds


def test_without_a_supervisor_nothing_is_sent():
    supervisor = Supervisor({})
    assert not supervisor.is_listening
    assert not supervisor.tell("READY=1")


def test_a_supervisor_that_went_away_harms_nobody(tmp_path):
    assert not Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")
