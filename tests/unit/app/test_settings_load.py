"""All sources together: precedence, origins, unknown names, secrets, contradictions, and the one message."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretick.app.check import setting_lines
from foretick.app.settings import catalogue
from foretick.app.settings_load import load, require_redis
from foretick.app.settings_sources import DEFAULT_FILES, Flag
from foretick.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


ODD_TEXTS = ("~nobody-here/x", "redis://[", "\ud800", "a\u2028b", "a\x85b", "\x7f", "\0", '"', "\\", "\U0001f600", "")


def outcome(flag: Flag) -> str:
    """The complaint, or how `check` writes the setting; what that prints has to be TOML."""
    try:
        lines = list(setting_lines(load([flag], environ={})))
    except UsageError as error:
        return str(error)
    tomllib.loads("\n".join(lines))
    return next(line for line in lines if flag.name in line)


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "some.toml"
        path.write_text(text)
        return path

    return write


def complaint(*flags: Flag, config: Path | None = None, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(flags, config=config, environ=environ)
    return str(caught.value)


def test_flags_beat_the_environment_and_the_environment_beats_the_file(toml):
    config = toml("batch = 1\nmax_series = 1\nprefix = 'one'\n")
    loaded = load(
        [Flag("batch", "3", "--set batch")],
        config=config,
        environ={"FORETICK_BATCH": "2", "FORETICK_MAX_SERIES": "2"},
    )
    settings = loaded.settings
    assert (settings.batch, settings.max_series, settings.prefix, settings.latest) == (3, 2, "one", True)
    assert {name: str(loaded.origins[name]) for name in ("batch", "max_series", "prefix", "latest")} == {
        "batch": "flag --set batch",
        "max_series": "environment FORETICK_MAX_SERIES",
        "prefix": f"file {config}",
        "latest": "default",
    }


def test_a_table_in_the_file_does_not_hide_its_neighbours(toml):
    settings = load(
        config=toml("[redis]\nconnect_deadline = '5s'\n"), environ={"FORETICK_REDIS__URL": "redis://h"}
    ).settings
    assert (settings.redis.connect_deadline, settings.redis.url) == (5.0, "redis://h")


def test_foretick_toml_in_the_working_folder_is_read_without_being_named(tmp_path):
    (tmp_path / "foretick.toml").write_text("batch = 42")
    loaded = load(environ={})
    assert (loaded.settings.batch, str(loaded.origins["batch"])) == (42, "file foretick.toml")


def test_etc_comes_after_the_working_folder():
    assert [str(path) for path in DEFAULT_FILES] == ["foretick.toml", "/etc/foretick/foretick.toml"]


def test_a_later_flag_wins():
    assert load([Flag("batch", "1", "--set batch"), Flag("batch", "2", "--set batch")], environ={}).settings.batch == 2


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FORETICK_REDIS_URL", "FORETICK_REDIS__URL"),
        ("FORETICK_HTTP_PORT", "FORETICK_HTTP__PORT"),
        ("foretick_redis__url", "FORETICK_REDIS__URL"),
        ("FORETICK_CONNECT_DEADLINE", "FORETICK_REDIS__CONNECT_DEADLINE"),
        ("FORETICK_STREAM", "FORETICK_STREAMS"),
        ("FORETICK_REDIS_PASSWORD_FILE", "FORETICK_REDIS__PASSWORD_FILE"),
    ],
)
def test_an_unknown_variable_is_named_with_the_one_that_was_meant(variable, meant):
    assert complaint(**{variable: "9464"}) == f"{variable} (environment) is no setting: did you mean {meant}?"


def test_an_unknown_variable_that_resembles_nothing_is_refused_too():
    assert "FORETICK_XYZZY (environment) is no setting: `foretick check` lists" in complaint(FORETICK_XYZZY="1")


def test_kubernetes_service_links_and_test_variables_pass():
    load(
        environ={
            "FORETICK_TEST_REQUIRE": "all",
            "FORETICK_SERVICE_HOST": "10.96.0.7",
            "FORETICK_SERVICE_PORT": "9464",
            "FORETICK_SERVICE_PORT_METRICS": "9464",
            "FORETICK_PORT": "tcp://10.96.0.7:9464",
            "FORETICK_PORT_9464_TCP": "tcp://10.96.0.7:9464",
            "FORETICK_PORT_9464_TCP_PROTO": "tcp",
            "FORETICK_PORT_9464_TCP_PORT": "9464",
            "FORETICK_PORT_9464_TCP_ADDR": "10.96.0.7",
            "FORETICK_REDIS_SERVICE_HOST": "10.96.0.8",
            "FORETICK_REDIS_PORT": "tcp://10.96.0.8:6379",
        }
    )


def test_what_only_looks_like_a_service_link_is_refused():
    assert "FORETICK_PORT (environment) is no setting: did you mean FORETICK_HTTP__PORT?" in complaint(
        FORETICK_PORT="9464"
    )


def test_an_unknown_key_in_the_file_is_named_with_the_file(toml):
    config = toml("[redis]\nulr = 'redis://h'\n")
    assert complaint(config=config) == f"redis.ulr (file {config}) is no setting: did you mean redis.url?"


def test_a_group_is_no_setting_and_a_setting_no_group(toml):
    message = complaint(config=toml("redis = 'redis://h'\n[streams]\nx = 1\n[reddis]\n[http]\n"))
    assert "redis (file" in message.splitlines()[0]
    assert "is a group of settings: write one of redis.url, " in message
    assert "streams.x" in message
    assert "reddis" in message
    assert len(message.splitlines()) == 3


def test_an_unknown_name_on_the_command_line_is_named():
    assert complaint(Flag("lease.tll", "5", "--set lease.tll")) == (
        "lease.tll (flag --set lease.tll) is no setting: did you mean lease.ttl?"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("http.port = true", "http.port cannot be true (file "),
        ("http.port = 70000", "http.port cannot be 70000 (file "),
        ("http.host = 7", "http.host cannot be 7 (file "),
        ("batch = 1.5", "batch cannot be 1.5 (file "),
        ("latest = 'perhaps'", 'latest cannot be "perhaps" (file '),
        ("streams = 5", "streams cannot be 5 (file "),
        ("streams = ['']", 'streams cannot be [""] (file '),
        ("lease.ttl = '500ms'", 'lease.ttl cannot be "500ms" (file '),
        ("lease.ttl = nan", "lease.ttl cannot be nan (file "),
        ("start = 'now'", 'start cannot be "now" (file '),
        ("season = 'weekly'", 'season cannot be "weekly" (file '),
        ("prefix = 'a{b}'", 'prefix cannot be "a{b}" (file '),
        ("fields.ts_unit = 'min'", 'fields.ts_unit cannot be "min" (file '),
        ("redis.url = 'http://u:hunter2@h'", 'redis.url cannot be "http://u:***@h" (file '),
        ("redis.url = 2020-01-01", 'redis.url cannot be "2020-01-01" (file '),
        ("redis.password = 5", "redis.password cannot be what was given (file "),
        ("redis.password_file = 5", "redis.password_file (file "),
        ("log.level = 'loud'", 'log.level cannot be "loud" (file '),
        ("model.seed = -1", "model.seed cannot be -1 (file "),
        ("state_dir = 5", "state_dir cannot be 5 (file "),
    ],
)
def test_a_wrong_value_is_one_line_with_name_value_place_and_remedy(toml, line, message):
    said = complaint(config=toml(line))
    assert said.startswith(message)
    assert "write " in said
    assert len(said.splitlines()) == 1
    assert not any(word in said for word in ("pydantic", "validation", "hunter2", "Input"))


def test_all_problems_are_told_at_once(toml):
    said = complaint(config=toml("batch = 0\nfoo = 1\n"), FORETICK_HTTP__PORT="x", FORETICK_REDIS_URL="y")
    assert [line.split()[0] for line in said.splitlines()] == ["foo", "FORETICK_REDIS_URL", "batch", "http.port"]


def test_a_long_wrong_value_is_cut():
    assert len(complaint(FORETICK_START="x" * 100_000)) < 200


def test_lines_in_a_wrong_value_do_not_break_the_message():
    assert len(complaint(FORETICK_START="a\nb\rc").splitlines()) == 1


def test_a_file_that_is_no_toml_is_told_with_the_line(toml):
    assert "is no TOML: Invalid value (at line 2, column 9)" in complaint(config=toml("batch = 5\nstart = \n"))


def test_a_number_or_a_nesting_without_end_is_no_toml(toml):
    assert "is no TOML" in complaint(config=toml("batch = " + "9" * 5000))
    assert "is no TOML" in complaint(config=toml("batch = " + "[" * 100_000))


def test_a_file_that_is_no_text_or_no_file_is_told(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b'prefix = "\xff"')
    assert "is no UTF-8 text: byte 10" in complaint(config=tmp_path / "bytes.toml")
    assert "cannot be read: Is a directory" in complaint(config=tmp_path)
    assert "(--config) does not exist" in complaint(config=tmp_path / "none.toml")


def test_a_default_file_that_cannot_be_read_is_not_passed_over(tmp_path):
    (tmp_path / "foretick.toml").mkdir()
    assert complaint() == "foretick.toml cannot be read: Is a directory"


@pytest.mark.parametrize("source", ["file", "environment", "flag", "credential"])
def test_a_secret_comes_from_a_file_named_by_any_source(toml, tmp_path, source):
    secret = tmp_path / "redis-password"
    secret.write_text("hunter2\n")
    loaded = load(
        [Flag("redis.password_file", str(secret), "--set redis.password_file")] if source == "flag" else [],
        config=toml(f"redis.password_file = '{secret}'" if source == "file" else ""),
        environ={
            "environment": {"FORETICK_REDIS__PASSWORD_FILE": str(secret)},
            "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
        }.get(source, {}),
    )
    assert loaded.settings.redis.password is not None
    assert loaded.settings.redis.password.get_secret_value() == "hunter2"
    assert loaded.origins["redis.password"].kind == source


def test_the_environments_password_beats_the_credentials(tmp_path):
    (tmp_path / "redis-password").write_text("from the unit")
    loaded = load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path), "FORETICK_REDIS__PASSWORD": "mine"})
    assert loaded.settings.redis.password is not None
    assert loaded.settings.redis.password.get_secret_value() == "mine"


def test_credentials_of_others_are_ignored(tmp_path):
    (tmp_path / "tls-key").write_text("x")
    assert load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}).settings.redis.password is None


def test_a_secret_file_that_is_missing_empty_endless_or_no_text_is_told(tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, why in (
        ("none", "cannot be read: No such file or directory"),
        ("empty", "is empty"),
        ("bytes", "it is no UTF-8 text"),
        ("/dev/zero", "is too long"),
    ):
        assert why in complaint(FORETICK_REDIS__PASSWORD_FILE=str(tmp_path / name))


def test_a_secret_given_twice_or_on_the_command_line_is_refused(tmp_path):
    both = complaint(FORETICK_REDIS__PASSWORD="hunter2", FORETICK_REDIS__PASSWORD_FILE=str(tmp_path / "x"))
    assert both == (
        "redis.password (environment FORETICK_REDIS__PASSWORD) and redis.password_file "
        "(environment FORETICK_REDIS__PASSWORD_FILE) exclude each other: drop one"
    )
    shown = complaint(Flag("redis.password", "hunter2", "--set redis.password"))
    assert "use redis.password_file, or FORETICK_REDIS__PASSWORD_FILE" in shown
    assert "hunter2" not in shown


def test_settings_that_exclude_each_other_are_told_with_both_places():
    assert complaint(FORETICK_EMBEDDED="true", FORETICK_REDIS__URL="redis://h") == (
        "embedded (environment FORETICK_EMBEDDED) and redis.url (environment FORETICK_REDIS__URL) "
        "exclude each other: drop one"
    )
    assert "embedded" in complaint(FORETICK_EMBEDDED="true", FORETICK_REDIS__PASSWORD="x")
    two = complaint(FORETICK_REDIS__URL="redis://:hunter2@h", FORETICK_REDIS__PASSWORD="hunter3")
    assert "differs from the password in redis.url" in two
    assert "hunter" not in two


def test_our_own_keys_are_never_input():
    assert "keys that begin with foretick: are foretick's own" in complaint(FORETICK_STREAMS="foretick:{t}:forecasts")
    assert load(environ={"FORETICK_STREAMS": "foreticks"}).settings.streams == ("foreticks",)


def test_fields_need_different_names():
    assert "three different names" in complaint(FORETICK_FIELDS__TS="value")


def test_two_streams_on_the_command_line_are_two_streams():
    two = [Flag("streams", "a", "--stream"), Flag("streams", "b:*", "--stream")]
    assert load(two, environ={}).settings.streams == ("a", "b:*")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(catalogue())),
    value=st.recursive(
        st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ODD_TEXTS),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
)
def test_no_value_whatever_breaks_out_of_the_message(name, value):
    flag = Flag(name, value, f"--set {name}")
    said = outcome(flag)
    assert len(said.splitlines()) == 1
    assert "Error" not in said


def test_without_redis_both_ways_out_are_told():
    with pytest.raises(UsageError, match="--embedded starts a private server") as caught:
        require_redis(load(environ={}).settings)
    for place in ("--redis-url redis://", "FORETICK_REDIS__URL", 'redis.url = "redis://'):
        assert place in str(caught.value)
    require_redis(load(environ={"FORETICK_EMBEDDED": "1"}).settings)
    require_redis(load(environ={"FORETICK_REDIS__URL": "redis://h"}).settings)
