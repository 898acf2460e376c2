"""What `foretick produce` is given arrives in the stream, in order, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import zlib

import pytest

from commands import Terminal, foretick, started
from cutting import CuttingProxy
from foretick import cli
from foretick.ports.recordings import read_recordings
from foretick.ports.wire import decode
from servers import free_port, wait_until

pytestmark = pytest.mark.redis


def history(folder, n=3000, series=7):
    path = folder / "history.csv"
    rows = "".join(f"s{k % series},{1_700_000_000_000 + 10 * k},{(k * 7919) % 1000 / 8}\n" for k in range(n))
    path.write_text("series,ts,value\n" + rows)
    return path


def values(client, stream="ticks"):
    return [float(fields[b"value"]) for _, fields in client.xrange(stream)]


def test_a_recording_arrives_as_the_ticks_that_a_backtest_reads(server, tmp_path):
    path = history(tmp_path)
    done = foretick("produce", str(path), "--speed", "max", folder=tmp_path, redis__url=server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sent 3,000 ticks to ticks in ")
    assert "3,000 ticks of 7 series, 2023-11-14 22:13 to 2023-11-14 22:13 UTC" in done.stderr
    raw = [[i, [part for pair in fields.items() for part in pair]] for i, fields in server.client().xrange("ticks")]
    arrived, recorded = decode(raw, b"ticks").ticks, read_recordings([path]).ticks
    assert arrived.series == recorded.series
    assert arrived.ts.tolist() == recorded.ts.tolist()
    assert arrived.y.tolist() == recorded.y.tolist()


def test_series_are_spread_over_partitions_each_in_the_order_of_its_ticks(redis_server, tmp_path):
    path = history(tmp_path, n=300)
    done = foretick(
        "produce", str(path), "--speed", "max", "--partitions", "4", folder=tmp_path, redis__url=redis_server.url
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sent 300 ticks to ticks:{0} … ticks:{3} in ")
    client = redis_server.client()
    for k in range(7):
        stream = f"ticks:{{{zlib.crc32(f's{k}'.encode()) % 4}}}"
        came = [float(fields[b"value"]) for _, fields in client.xrange(stream) if fields[b"series"] == b"s%d" % k]
        assert came == [(i * 7919) % 1000 / 8 for i in range(k, 300, 7)]
    assert sum(client.xlen(key) for key in client.keys("ticks*")) == 300


def test_bad_rows_are_named_counted_and_left_out_unless_strict(redis_server, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("series,ts,value\na,1,1\na,2,nope\na,3,3\n")
    options = {"folder": tmp_path, "redis__url": redis_server.url}
    done = foretick("produce", "a.csv", "--speed", "max", "--strict", **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a.csv:3: value is no decimal number: 'nope'" in done.stderr
    assert redis_server.client().xlen("ticks") == 0
    done = foretick("produce", "a.csv", "--speed", "max", **options)
    assert done.returncode == 0
    assert "left out a.csv:3: value is no decimal number: 'nope'" in done.stderr
    assert done.stdout.splitlines()[1] == "1 rows were no ticks and left out"
    assert values(redis_server.client()) == [1.0, 3.0]


def test_the_pace_is_the_recordings_own_times_the_speed(redis_server, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("series,ts,value\na,0,1\na,6000,2\na,6000,3\na,12000,4\n")
    done = foretick("produce", "a.csv", "--speed", "20x", folder=tmp_path, redis__url=redis_server.url)
    assert done.returncode == 0
    assert "at this speed it takes 0.6 s" in done.stderr
    came = [int(i.partition(b"-")[0]) for i, _ in redis_server.client().xrange("ticks")]
    assert came[1] - came[0] >= 290  # never early; how late a busy machine is, nobody can promise
    assert came[3] - came[0] >= 590


def test_fields_are_called_and_timed_as_the_settings_say(redis_server, tmp_path):
    given = '{"series": "a", "value": 1, "ts": 1700000000123}\n{"value": 2}\n'
    settings = {"fields__series": "sensor", "fields__value": "reading", "fields__ts": "at", "fields__ts_unit": "us"}
    done = foretick("produce", "-", folder=tmp_path, given=given, redis__url=redis_server.url, **settings)
    assert done.returncode == 0
    assert [fields for _, fields in redis_server.client().xrange("ticks")] == [
        {b"sensor": b"a", b"reading": b"1.0", b"at": b"1700000000123000"},
        {b"reading": b"2.0"},
    ]


def test_without_ts_a_recording_can_be_played_again_and_again(redis_server, tmp_path):
    path = history(tmp_path, 20)
    for _ in range(2):
        arguments = ("produce", str(path), "--speed", "max", "--without-ts")
        assert foretick(*arguments, folder=tmp_path, redis__url=redis_server.url).returncode == 0
    entries = redis_server.client().xrange("ticks")
    assert len(entries) == 40
    assert all(set(fields) == {b"series", b"value"} for _, fields in entries)


def test_the_stream_is_trimmed_where_that_is_wanted(redis_server, tmp_path):
    arguments = ("produce", str(history(tmp_path)), "--speed", "max", "--maxlen", "100")
    assert foretick(*arguments, folder=tmp_path, redis__url=redis_server.url).returncode == 0
    assert 100 <= redis_server.client().xlen("ticks") < 1000


def test_a_line_arrives_while_the_pipe_stays_open_and_ctrl_c_ends_it_cleanly(redis_server, tmp_path):
    client = redis_server.client()
    with started("produce", "-", folder=tmp_path, redis__url=redis_server.url) as one:
        one.stdin.write(b'{"series": "a", "value": 1}\nnonsense\n')
        one.stdin.flush()
        wait_until(lambda: client.xlen("ticks") == 1, 30)
        one.stdin.write(b'{"series": "a", "value": 2}\n')
        one.stdin.flush()
        wait_until(lambda: client.xlen("ticks") == 2)
        one.send_signal(signal.SIGINT)
        said, warned = one.communicate(timeout=10)
        assert one.returncode == 0
        assert said.startswith(b"sent 2 ticks to ticks in ")
        assert b"left out standard input:2: no JSON: 'nonsense'" in warned
        assert b"Traceback" not in warned


def test_ctrl_c_in_a_recording_tells_what_was_sent_and_is_no_success(redis_server, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("series,ts,value\na,0,1\na,0,2\na,86400000,3\n")
    terminal = Terminal("produce", str(path), folder=tmp_path, redis__url=redis_server.url)
    try:
        wait_until(lambda: redis_server.client().xlen("ticks") == 2, 30)
        wait_until(lambda: "h left" in terminal.text, what="the time left")
        terminal.press(b"\x03")
        assert terminal.process.wait(10) == 130
        wait_until(lambda: "sent 2 of 3 ticks to ticks" in terminal.text)
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()


def test_this_computers_sensors_are_a_source(redis_server, tmp_path):
    pytest.importorskip("psutil")
    client = redis_server.client()
    with started("produce", "--sensors", folder=tmp_path, redis__url=redis_server.url) as one:
        wait_until(lambda: client.xlen("ticks") > 10, 30)
        one.send_signal(signal.SIGTERM)
        said, _ = one.communicate(timeout=10)
        assert one.returncode == 0
        assert said.startswith(f"sent {client.xlen('ticks'):,} ticks to ticks".encode())
        assert {fields[b"series"] for _, fields in client.xrange("ticks")} >= {b"memory_percent", b"cpu0_percent"}


def test_a_restarted_server_loses_no_tick(private_server, tmp_path):
    server = private_server("redis", appendonly="yes", appendfsync="always")
    with started("produce", "-", folder=tmp_path, redis__url=server.url) as one:
        one.stdin.write(b'{"value": 0}\n')
        one.stdin.flush()
        wait_until(lambda: server.client().xlen("ticks") == 1, 30)
        server.stop()
        one.stdin.write(b"".join(b'{"value": %d}\n' % k for k in range(1, 6)))
        one.stdin.flush()
        wait_until(lambda: b"trying again" in one.stderr.readline(), 30)
        server.restart()
        one.stdin.close()
        one.stdin = None
        said, warned = one.communicate(timeout=30)
        assert one.returncode == 0
        assert b"the server is back" in warned
        assert sorted(set(values(server.client()))) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        assert b"sent 6 ticks" in said


def test_a_batch_whose_answer_is_lost_is_sent_again_and_said_to_be(redis_server, tmp_path):
    proxy = CuttingProxy(redis_server.port)
    proxy.cut("reply", 400)
    done = foretick("produce", str(history(tmp_path, 500)), "--speed", "max", folder=tmp_path, redis__url=proxy.url)
    proxy.close()
    assert done.returncode == 0
    assert proxy.cuts == 1
    assert "500 were sent when a connection was lost, and sent again: some may be there twice" in done.stdout
    sent = [(k * 7919) % 1000 / 8 for k in range(500)]
    assert values(redis_server.client()) == sent + sent


def test_a_full_server_is_waited_for_and_the_order_kept(private_server, tmp_path):
    server = private_server("redis")
    client = server.client()
    client.config_set("maxmemory", "1")
    with started(
        "produce", str(history(tmp_path, 2500)), "--speed", "max", folder=tmp_path, redis__url=server.url
    ) as one:
        wait_until(lambda: b"OOM" in one.stderr.readline(), 30)
        client.config_set("maxmemory", "0")
        one.communicate(timeout=30)
        assert one.returncode == 0
        assert values(client) == [(k * 7919) % 1000 / 8 for k in range(2500)]


def test_a_daemon_that_is_too_far_behind_is_waited_for(redis_server, tmp_path):
    client = redis_server.client()
    client.xgroup_create("ticks", "foretick", "0", mkstream=True)
    arguments = ("produce", str(history(tmp_path, 4000)), "--speed", "max", "--max-lag", "1500")
    with started(*arguments, folder=tmp_path, redis__url=redis_server.url) as one:
        wait_until(lambda: client.xlen("ticks") == 2000, 30)
        seen = client.xinfo_stream("ticks")["last-generated-id"]
        client.execute_command("XGROUP", "SETID", "ticks", "foretick", seen, "ENTRIESREAD", 2000)
        wait_until(lambda: client.xlen("ticks") == 4000)
        one.communicate(timeout=10)
        assert one.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to send"),
        (["a.csv", "--sensors"], "--sensors and files exclude each other"),
        (["--sensors", "--speed", "2x"], "--sensors have their own pace"),
        (["a.csv", "-"], "- stands alone"),
        (["none.csv"], "none.csv: cannot be read"),
        (["a.csv", "--speed", "fast"], "'fast' is no speed"),
        (["a.csv", "--speed", "0x"], "'0x' is no speed"),
        (["a.csv", "--maxlen", "0"], "'0' is no count"),
        (["a.csv", "--set", "streams=text"], "text is a string, no stream"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(redis_server, tmp_path, monkeypatch, capsys, arguments, message):
    redis_server.client().set("text", "x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORETICK_REDIS__URL", redis_server.url)
    assert cli.main(["produce", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["produce", "watch", "inspect", "resend"])
def test_a_server_that_is_not_there_is_status_3_and_none_named_is_status_2(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    arguments = [verb, *(["-"] if verb == "produce" else [])]
    assert cli.main([*arguments, "--redis-url", f"redis://u:hunter2@127.0.0.1:{free_port()}"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "hunter2" not in said.err
    assert said.err.count("\n") == 1
    assert cli.main(arguments) == 2
    assert "no Redis is named" in capsys.readouterr().err


def test_a_producer_that_may_only_write_is_enough(redis_server, tmp_path):
    client = redis_server.client()
    commands = ["+client|setname", "+multi", "+xadd", "+exec"]
    client.acl_setuser("meter", enabled=True, nopass=True, keys=["ticks"], commands=commands)
    url = redis_server.url.replace("redis://", "redis://meter:any@")
    done = foretick("produce", "-", folder=tmp_path, given=json.dumps({"value": 1}), redis__url=url)
    assert done.returncode == 0, done.stderr
    assert values(client) == [1.0]
