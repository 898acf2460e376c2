"""`foretick watch` shows the forecasts of a real stream, on a terminal and without one."""

from __future__ import annotations

import re
import signal

import pytest

from commands import Terminal, foretick, started
from servers import wait_until

pytestmark = pytest.mark.redis

KEY = "foretick:{ticks}:forecasts"


def publish(client, ticks, series="boiler-7", first=1):
    """Forecasts as the daemon writes them; the naive is off by 1, ours by a half."""
    pipe = client.pipeline()
    for k in range(first, first + ticks):
        fields = {"series": series, "ts": k, "y": k, "yhat": k + 0.5, "stage": "warm"}
        pipe.xadd(KEY, fields)
        pipe.hset("foretick:{ticks}:latest", series, "{}")
    pipe.execute()


@pytest.fixture
def terminal(redis_server, tmp_path):
    opened = []

    def watch(*arguments):
        opened.append(Terminal("watch", *arguments, folder=tmp_path, redis__url=redis_server.url))
        return opened[-1]

    yield watch
    for one in opened:
        one.close()


def test_one_series_is_drawn_with_its_past_then_live_until_ctrl_c(redis_server, terminal):
    client = redis_server.client()
    publish(client, 50)
    publish(client, 5, "pump")
    one = terminal("boiler-7")
    wait_until(lambda: "+50.0%" in one.text, 30, f"the skill of the past: {one.text}")
    assert "●" in one.text
    assert "pump" not in one.text
    publish(client, 1, first=77)
    wait_until(lambda: "77.00" in one.text, what="the new tick")
    one.press(b"\x03")
    assert one.process.wait(10) == 0
    assert "Traceback" not in one.text


def test_all_series_are_a_table_and_the_worst_come_first_on_demand(redis_server, terminal):
    client = redis_server.client()
    publish(client, 30, "good")
    pipe = client.pipeline()
    for k in range(30):
        pipe.xadd(KEY, {"series": "bad", "ts": k, "y": k, "yhat": k - 1, "stage": "warm"})
    pipe.execute()
    one = terminal("--worst", "--seconds", "1")
    assert one.process.wait(30) == 0
    assert re.search(r"bad .*-100\.0%.*\n.*good .*\+50\.0%", one.text)


def test_without_a_terminal_each_forecast_is_a_line(redis_server, tmp_path):
    client = redis_server.client()
    publish(client, 30)
    with started("watch", folder=tmp_path, redis__url=redis_server.url) as one:
        assert b"series" in one.stdout.readline()  # what there is already
        assert b"+50.0%" in one.stdout.readline()
        publish(client, 1, first=31)
        line = one.stdout.readline().decode()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:.]{12}  boiler-7  y 31  yhat 31.5  error 0.5  skill \+50.0%\n", line)
        one.send_signal(signal.SIGINT)
        rest, warned = one.communicate(timeout=10)
        assert one.returncode == 0
        assert warned == b""
        assert b"boiler-7" in rest


def test_a_series_that_is_not_there_is_answered_with_those_that_are(redis_server, tmp_path):
    publish(redis_server.client(), 1, "boiler-7")
    arguments = ("watch", "boiler7", "--seconds", "0.1")
    done = foretick(*arguments, folder=tmp_path, redis__url=redis_server.url)
    assert done.returncode == 0
    assert "there are forecasts of boiler-7" in done.stdout


def test_a_foreign_entry_among_the_forecasts_is_passed_over(redis_server, tmp_path):
    client = redis_server.client()
    publish(client, 2)
    client.xadd(KEY, {"x": 1})
    client.xadd(KEY, {"series": "a", "y": "x", "yhat": 1, "stage": "warm"})
    bounds = {"yhat_lower_80": "x", "yhat_upper_80": 1}
    client.xadd(KEY, {"series": "a", "y": 1, "yhat": 1, "stage": "warm", **bounds})
    done = foretick("watch", "--seconds", "0.1", folder=tmp_path, redis__url=redis_server.url)
    assert done.returncode == 0
    assert "boiler-7" in done.stdout


def test_a_server_that_goes_is_waited_for(private_server, tmp_path):
    server = private_server("redis", appendonly="yes", appendfsync="always")
    publish(server.client(), 1)
    with started("watch", "boiler-7", folder=tmp_path, redis__url=server.url) as one:
        assert b"1 forecasts so far" in one.stdout.readline()
        server.stop()
        assert b"the server is away" in one.stdout.readline()
        server.restart()
        assert b"the server is back" in one.stdout.readline()
        publish(server.client(), 1, first=5)
        assert b"y 5  yhat 5.5" in one.stdout.readline()
        one.terminate()
        one.communicate(timeout=10)
        assert one.returncode == 0


def test_the_worst_of_one_series_is_no_question(redis_server, tmp_path):
    done = foretick("watch", "a", "--worst", folder=tmp_path, redis__url=redis_server.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--worst is about all series" in done.stderr
