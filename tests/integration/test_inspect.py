"""`foretick inspect` tells what really is in Redis, and changes nothing."""

from __future__ import annotations

import json

import pytest

from foretick import __version__, cli
from foretick.ports.checkpoints.container import SCHEMA
from servers import daemon_process, wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def inspect(redis_server, tmp_path, monkeypatch, capsys):
    """Runs the verb in this process; its status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORETICK_REDIS__URL", redis_server.url)

    def run(*arguments):
        status = cli.main(["inspect", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def furnished(redis_server):
    """A stream of 100 ticks, 90 of them answered, with everything that a daemon leaves beside it."""
    client = redis_server.client()
    for k in range(100):
        client.xadd("ticks", {"series": f"s{k % 3}", "value": k}, id=f"{1_700_000_000_000 + 100 * k}-0")
    client.xtrim("ticks", maxlen=80, approximate=False)
    position = f"{1_700_000_000_000 + 100 * 89}-0"
    client.execute_command("XGROUP", "CREATE", "ticks", "foretick", position, "ENTRIESREAD", 90)
    client.xadd("foretick:{ticks}:forecasts", {"series": "s0", "y": 1}, id=position)
    client.hset("foretick:{ticks}:latest", "s0", "{}")
    for k, reason in enumerate(["late", "bad_ts", "late"]):
        client.xadd("foretick:{ticks}:dead", {"reason": reason, "detail": "", "fields": "{}"}, id=f"5-{k + 1}")
    client.set("foretick:{default}:lease", "host-1-ab 1700000000000", px=60_000)
    client.hset("foretick:{default}:checkpoint:origin", "ticks", "0-0")
    client.set("foretick:{default}:checkpoint:1:0", b"x" * 2500)
    client.set("foretick:{other}:checkpoint:1:0", b"x")
    return client


def test_all_of_it_is_told_in_lines(furnished, inspect):
    status, said, warned = inspect()
    assert (status, warned) == (0, "")
    found = {" ".join(line.split()) for line in said.splitlines()}
    assert {
        "stream ticks",
        "entries 80 (20 more were trimmed or deleted)",
        "rate 10.0 ticks/s in the newest 80",
        "fields series, value",
        "series 3 in the newest 80",
        "position 1700000008900-0 lag 10 ticks, 1.0 s of arrival time",
        "forecasts 1 entries, up to 1700000008900-0",
        "latest 1 series",
        "dead 3 letters, up to 5-3",
        "late 2, bad_ts 1",
        "lease of partition default",
        "owner host-1-ab",
        "since 2023-11-14 22:13:20 UTC",
    } <= found
    assert any(line.startswith("first 1700000002000-0 2023-11-14 22:13:22 UTC, ") for line in found)
    assert any(line.startswith("foretick:{default}:checkpoint:1:0 string, 2.5 kB") for line in found)
    assert "other" not in said
    assert max(map(len, said.splitlines())) <= 90


def test_json_holds_the_same(furnished, inspect):
    status, said, _ = inspect("--json")
    assert status == 0
    report = json.loads(said)
    stream = report["streams"][0]
    assert (stream["name"], stream["lag_ticks"], stream["position"]) == ("ticks", 10, "1700000008900-0")
    assert stream["input"] | {"series": None} == {
        "entries": 80,
        "added": 100,
        "first_id": "1700000002000-0",
        "last_id": "1700000009900-0",
        "ticks_per_second": 10.0,
        "fields": {"series": 80, "value": 80},
        "series": None,
        "recent": 80,
    }
    assert stream["input"]["series"] == {"s2": 27, "s0": 27, "s1": 26}
    assert stream["dead_by_reason"] == {"late": 2, "bad_ts": 1}
    assert report["leases"][0]["owner"] == "host-1-ab"
    assert 0 < report["leases"][0]["left_ms"] <= 60_000
    assert [key["length"] for key in report["checkpoints"]["default"]] == [2500, 1]


@pytest.mark.parametrize("part", ["stream", "lease", "checkpoint"])
def test_one_part_can_be_asked_for(furnished, inspect, part):
    status, said, _ = inspect(part)
    assert status == 0
    assert [line.split()[0] for line in said.splitlines() if line and not line.startswith(" ")] == [part]


def test_nothing_is_changed(furnished, inspect):
    before = {key: furnished.dump(key) for key in furnished.keys()}  # noqa: SIM118  redis-py iterates over nothing
    assert inspect()[0] == 0
    assert {key: furnished.dump(key) for key in furnished.keys()} == before  # noqa: SIM118  as above


def test_a_stream_that_no_daemon_read_is_told_so(redis_server, inspect):
    redis_server.client().xadd("ticks", {"value": 1})
    status, said, _ = inspect()
    assert status == 0
    assert "none: no daemon has read this stream" in said
    assert "none: no daemon runs, or none has taken it yet" in said


def test_globs_stand_for_streams_and_never_for_the_daemons_own(redis_server, inspect):
    from foretick.app.access import connected
    from foretick.app.settings import Settings
    from foretick.app.settings_groups import RedisSettings
    from foretick.ports.inspection import stream_names

    client = redis_server.client()
    for key in ("ticks:b", "ticks:a", "other", "foretick:ticks:x"):
        client.xadd(key, {"value": 1})
    client.set("ticks:text", "x")
    with connected(Settings(redis=RedisSettings(url=redis_server.url))) as connection:
        assert stream_names(connection, ["ticks", "*ticks*"], "foretick") == ["ticks", "ticks:a", "ticks:b"]


@pytest.mark.parametrize(("key", "message"), [(None, "there is no stream ticks"), ("ticks", "WRONGTYPE")])
def test_what_is_no_stream_is_status_2(redis_server, inspect, key, message):
    if key:
        redis_server.client().set(key, "x")
    status, said, warned = inspect()
    assert (status, said) == (2, "")
    assert message in warned
    assert warned.count("\n") == 1


STORES = [None, "state"]  # Redis, and a folder under the working one


@pytest.fixture
def checkpointed(redis_server):
    """Two groups in one partition, with a checkpoint taken at the end of `ticks`: as a daemon leaves it."""

    def make(store):
        client = redis_server.client()
        for k in range(60):
            client.xadd("ticks", {"series": f"s{k % 3}", "value": k % 7}, id=f"{1_700_000_000_000 + 100 * k}-0")
        settings = {"groups": '{"s2": {"hidden": 8}}', "model__hidden": 16, "learn__enabled": False}
        if store:
            settings["checkpoint__store"] = str(store)
        with daemon_process(redis_server.url, streams="ticks", **settings) as daemon:
            wait_until(
                lambda: client.exists("foretick:{ticks}:forecasts") and client.xlen("foretick:{ticks}:forecasts") == 60
            )
            assert daemon.terminate() == 0
        return client

    return make


@pytest.mark.parametrize("store", STORES)
def test_a_checkpoint_is_decoded_and_one_that_is_damaged_says_why(checkpointed, inspect, tmp_path, monkeypatch, store):
    folder = tmp_path / store if store else None
    client = checkpointed(folder)
    if folder:
        monkeypatch.setenv("FORETICK_CHECKPOINT__STORE", str(folder))
    seen = json.loads(inspect("checkpoint", "--json")[1])["generations"]["default"][0]
    assert seen["unsound"] == ""
    assert seen["groups"] == {"s2": 1, "default": 2}
    assert seen["positions"] == {"ticks": "1700000005900-0"}
    assert (seen["schema"], seen["version"], seen["entries_read"]) == (SCHEMA, __version__, {"ticks": 60})
    found = {" ".join(line.split()) for line in inspect("checkpoint")[1].splitlines()}
    assert {"holds 3 series: s2 1, default 2", "state sound"} <= found
    assert "position 1700000005900-0 of ticks, 60 entries read" in found

    if folder:
        for path in folder.rglob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
    else:
        for key in client.keys("foretick:{default}:checkpoint:0*"):
            piece = client.hget(key, 0)
            client.hset(key, 0, bytes([piece[0] ^ 1]) + piece[1:])
    before = {key: client.dump(key) for key in client.keys()}  # noqa: SIM118  redis-py iterates over nothing
    damaged = inspect("checkpoint")[1]
    assert "not used by a start: its checksum does not fit" in damaged
    assert "state sound" not in " ".join(damaged.split())
    assert {key: client.dump(key) for key in client.keys()} == before  # noqa: SIM118  as above


def test_a_checkpoint_of_a_redis_that_was_emptied_is_told_so(checkpointed, inspect, tmp_path, monkeypatch):
    client = checkpointed(tmp_path / "state")
    monkeypatch.setenv("FORETICK_CHECKPOINT__STORE", str(tmp_path / "state"))
    client.flushall()
    client.xadd("ticks", {"value": 1})
    assert "it is of another Redis, or of one that was emptied since" in inspect("checkpoint")[1]


def test_a_folder_that_is_not_there_is_not_made(redis_server, inspect, tmp_path, monkeypatch):
    redis_server.client().xadd("ticks", {"value": 1})
    monkeypatch.setenv("FORETICK_CHECKPOINT__STORE", str(tmp_path / "state"))
    assert "generations none" in " ".join(inspect("checkpoint")[1].split())
    assert not (tmp_path / "state").exists()
