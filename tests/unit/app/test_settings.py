"""The model alone: names, defaults, durations, seasons, URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foretick.app.settings import Settings, catalogue, default_state_dir, value_of
from foretick.app.values import (
    check_redis_url,
    parse_duration,
    parse_lifetime,
    parse_season,
    parse_size,
    parse_store,
    parse_streams,
    write_duration,
)
from foretick.ports.masking import mask_passwords, mask_url

DEFAULTS = {
    "redis.url": None,
    "redis.user": None,
    "redis.password": None,
    "redis.ca": None,
    "redis.cert": None,
    "redis.key": None,
    "redis.sentinel_user": None,
    "redis.sentinel_password": None,
    "redis.connect_deadline": 60.0,
    "embedded": False,
    "streams": ("ticks", "ticks:*"),
    "start": "earliest",
    "prefix": "foretick",
    "batch": 4000,
    "fields.series": "series",
    "fields.value": "value",
    "fields.ts": "ts",
    "fields.ts_unit": "ms",
    "profile": "accurate",
    "features": ("value",),
    "targets": (),
    "horizon": 1,
    "interval.levels": (0.8, 0.95),
    "season": "auto",
    "learn.enabled": True,
    "learn.every": 8,
    "learn.trainer": "process",
    "model.hidden": None,
    "model.layers": 1,
    "model.seed": 0,
    "model.init": None,
    "device": "auto",
    "groups": {},
    "max_series": 1_000_000,
    "series.ttl": None,
    "forecasts.maxlen": 1_000_000,
    "dead.maxlen": 100_000,
    "latest": True,
    "lease.ttl": 10.0,
    "checkpoint.every": 60.0,
    "checkpoint.store": "redis",
    "checkpoint.redis_max": 64_000_000,
    "metrics.worst": 10,
    "metrics.series": (),
    "http.host": "127.0.0.1",
    "http.port": 9464,
    "log.level": "info",
    "log.format": "auto",
}


def test_the_names_and_defaults_are_those_of_the_contract():
    settings = Settings()
    assert {name: value_of(settings, name) for name in catalogue() if name != "state_dir"} == DEFAULTS


def test_every_setting_says_what_to_write():
    assert [setting.name for setting in catalogue().values() if not setting.hint] == []


def test_only_passwords_are_secrets():
    secrets = [setting.name for setting in catalogue().values() if setting.is_secret]
    assert secrets == ["redis.password", "redis.sentinel_password"]


def test_settings_do_not_read_the_environment_behind_our_back(monkeypatch):
    monkeypatch.setenv("BATCH", "7")
    monkeypatch.setenv("batch", "7")
    assert Settings().batch == 4000


def test_settings_cannot_be_changed():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.batch = 1
    with pytest.raises(ValidationError):
        settings.redis.url = "redis://elsewhere"


def test_settings_written_out_show_no_password():
    settings = Settings.model_validate({"redis": {"url": "redis://u:hunter2@h", "password": "hunter2"}})
    assert "hunter2" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5s", 5),
        ("10m", 600),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("90", 90),
        (" 5 s ", 5),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_durations_are_read(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "5 weeks", "-5s", "1e3", "5s5s", True, None, [], float("nan"), float("inf"), "9" * 400]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match=r"no duration|longer than a century"):
        parse_duration(written)


@given(st.floats(0, 3e9) | st.integers(0, 10**9).map(lambda ms: ms / 1000) | st.integers(0, 10**6).map(float))
def test_a_duration_written_out_reads_back_equal(seconds):
    assert parse_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("written", "season"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("24h, 7d", (86400.0, 604_800.0)),
        (["24h", 60], (86400.0, 60.0)),
        (3600, (3600.0,)),
    ],
)
def test_seasons_are_read(written, season):
    assert parse_season(written) == season


@pytest.mark.parametrize("written", ["", [], "24h,24h", "0s", [-5], "weekly", {"a": 1}])
def test_what_is_no_season_is_refused(written):
    with pytest.raises(ValueError, match=r"."):
        parse_season(written)


@pytest.mark.parametrize(
    ("written", "streams"),
    [("a", ["a"]), ("a, b", ["a", "b"]), (["a", "t?cks:*"], ["a", "t?cks:*"]), ("a,b,a", ["a", "b"])],
)
def test_streams_are_names_and_globs_each_once(written, streams):
    assert parse_streams(written) == streams


@pytest.mark.parametrize("written", ["", [], " , "])
def test_no_stream_is_no_setting(written):
    with pytest.raises(ValueError, match="no stream is named"):
        parse_streams(written)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/3",
        "redis://user:p%40ss@10.0.0.1:6379",
        "redis://[::1]:6379/0?db=2",
        "rediss://cache.example:6380/?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "redis://node-1,node-2:7000,[::1]:7001",
        "redis+sentinel://user:pw@h1:26379,h2/main/2",
        "rediss+sentinel://h1/main?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock",
        "unix://:pw@/run/redis.sock?db=1",
    ],
)
def test_redis_urls_of_every_kind_are_taken(url):
    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no scheme"),
        ("localhost:6379", "no scheme"),
        ("http://localhost", "the scheme http:// is unknown"),
        ("REDIS://localhost", "the scheme REDIS:// is unknown"),
        ("redis://", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://localhost:65536", "port"),
        ("redis://localhost,other:65536", "port"),
        ("redis://localhost,,other", "names no host"),
        ("redis+sentinel://h1:26379", "names no master"),
        ("redis://localhost:0", "port"),
        ("redis://u:pa/ss@localhost:6379", "%2F"),
        ("redis://u:pa#ss@localhost", "%23"),
        ("redis://local host", "blank"),
        ("redis://localhost/first", "no database number"),
        ("redis://localhost?socket_timeout=1", "no such option"),
        ("redis://localhost?ssl_cert_reqs=none", "no such option"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "ssl_cert_reqs is wrong"),
        ("redis://localhost?db=x", "db is wrong"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis://[::1", "IPv6"),
        ("redis://u:hunter2[@h", "%5B"),
        ("redis://u:[hunter2]@h", "%5B"),
        ("redis://u:hunter2\N{ACCOUNT OF}@h", "cannot be read"),
        ("redis://a..b:6379", "no name"),
        (f"redis://h,{64 * 'a'}.example", "no name"),
    ],
)
def test_a_wrong_redis_url_is_refused_with_its_reason(url, why):
    with pytest.raises(ValueError, match=why) as refusal:
        check_redis_url(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@h:1/0",
        "redis://:hunter2@h",
        "redis://user:hun/hunter2@h",
        "redis://user:hun@hunter2@h",
        "http://user:hunter2@h",
        "user:hunter2@h:6379",
        "redis://h?password=hunter2",
        "redis://user:hunter2@h see redis://user:hunter2@g",
    ],
)
def test_no_shape_of_url_shows_its_password(url):
    assert "hunter2" not in mask_url(url)


def test_text_without_a_password_stays_as_it_is():
    text = "redis://localhost:6379 refused, see http://127.0.0.1:9464/readyz"
    assert mask_passwords(text) == text


def test_the_state_folder_is_systemds_then_xdgs_then_the_homes():
    everything = {"STATE_DIRECTORY": "/var/lib/foretick:/var/lib/other", "XDG_STATE_HOME": "/x", "HOME": "/h"}
    assert default_state_dir(everything) == Path("/var/lib/foretick")
    assert default_state_dir({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/foretick")
    assert default_state_dir({"HOME": "/h"}) == Path("/h/.local/state/foretick")
    assert default_state_dir({}).is_absolute()


@pytest.mark.parametrize(
    ("written", "seconds"), [("none", None), (" None ", None), (None, None), ("90d", 7776000.0), (5, 5)]
)
def test_a_series_is_remembered_for_a_while_or_for_ever(written, seconds):
    assert parse_lifetime(written) == seconds
    assert Settings(series={"ttl": written}).series.ttl == seconds


def test_a_time_to_live_below_a_second_is_refused():
    with pytest.raises(ValidationError):
        Settings(series={"ttl": "900ms"})


def test_series_with_metrics_of_their_own_are_named_once_and_bounded():
    assert Settings(metrics={"series": "a, b-*, a"}).metrics.series == ("a", "b-*")
    with pytest.raises(ValidationError):
        Settings(metrics={"series": [str(i) for i in range(1001)]})


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [("64MB", 64_000_000), ("1.5 gb", 1_500_000_000), ("2MiB", 2_097_152), ("100", 100), (7, 7), ("1kB", 1000)],
)
def test_sizes_are_read(written, size_bytes):
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "MB", "64 MBit", "-1", True, None, "1e6", "0x10", "64,000"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match="no size"):
        parse_size(written)


def test_a_store_is_redis_or_a_folder():
    assert parse_store(" Redis") == "redis"
    assert str(parse_store("/var/lib/foretick")) == "/var/lib/foretick"
    assert Settings.model_validate({"checkpoint": {"store": "./here"}}).checkpoint.store.is_absolute()
    with pytest.raises(ValueError, match="slash"):
        parse_store("rediss")
