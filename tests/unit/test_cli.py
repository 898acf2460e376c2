"""The real command in a process of its own: what it says, where it says it, and its exit status."""

from __future__ import annotations

import socket
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from foretick import __version__, cli
from foretick.ports.embedded import free_port
from servers import daemon_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Server


@pytest.fixture
def foretick(tmp_path):
    """Runs `foretick …` in an empty folder, with no other settings than these."""

    def run(*arguments: str, folder=tmp_path, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "foretick", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=folder,
            env=daemon_environment(**settings) | {"HOME": str(tmp_path), "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
        )

    return run


def test_the_version_is_told(foretick):
    done = foretick("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"foretick {__version__}\n", "")


@pytest.mark.parametrize("verb", ["run", "check", "demo", "backtest", "fit", "produce", "watch", "inspect", "resend"])
def test_help_comes_with_examples(foretick, verb):
    done = foretick(verb, "--help")
    assert done.returncode == 0
    assert f"\n  foretick {verb}" in done.stdout


def test_without_a_verb_help_comes_and_the_status_says_wrong(foretick):
    done = foretick()
    assert (done.returncode, done.stdout) == (2, "")
    assert "foretick run --embedded" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["run"], ["check"], ["fit", "--help"]]
)
def test_nobody_waits_for_torch_who_does_not_need_it(arguments, tmp_path):
    program = (
        "import sys\nfrom foretick.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, cwd=tmp_path, env=daemon_environment()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "argument VERB: invalid choice: 'rnu'"),
        (["run", "--embeded"], "unknown argument --embeded: did you mean --embedded? (see foretick run --help)"),
        (["--vresion"], "unknown argument --vresion: did you mean --version?"),
        (["run", "surplus"], "unknown argument surplus (see foretick run --help)"),
        (["run", "--set", "batch"], "--set batch has no =: write --set name=value"),
        (["run", "--redis-url"], "argument --redis-url: expected one argument"),
        (["run", "--set", "bach=5"], "bach (flag --set bach) is no setting: did you mean batch?"),
        (
            ["run", "--http-port", "99999"],
            'http.port cannot be "99999" (flag --http-port): write a port from 0 to 65535',
        ),
        (["run", "--config", "none.toml"], "none.toml (--config) does not exist"),
        (["demo", "--seconds", "soon"], "'soon' is no time"),
        (["backtest"], "the following arguments are required: FILE"),
        (["backtest", "x.csv", "--burn-in", "-1"], "--burn-in"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(foretick, arguments, message):
    done = foretick(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("foretick: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_redis_run_says_both_ways_out(foretick):
    done = foretick("run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("foretick: no Redis is named. Two ways out: --embedded starts a private server")
    assert done.stderr.count("\n") == 1


def test_every_wrong_setting_has_its_line(foretick, tmp_path):
    (tmp_path / "foretick.toml").write_text("[lease]\nttl = '1ms'\n[htpp]\nport = 1\n")
    done = foretick("run", "--log-level", "loud", redis_url="redis://h")
    assert done.returncode == 2
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == [
        "foretick: htpp.port",
        "foretick: FORETICK_REDIS_URL",
        'foretick: lease.ttl cannot be "1ms"',
        'foretick: log.level cannot be "loud"',
    ]


def test_a_password_is_in_no_message(foretick):
    done = foretick("run", "--redis-url", "redis://u:hunter2/x@h", redis__password="hunter2")
    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr


def test_a_bug_ends_with_its_traceback_and_status_70(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("at redis://u:hunter2@h")

    monkeypatch.setattr(cli, "_check", broken)
    assert cli.main(["check"]) == 70
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "RuntimeError: at redis://u:***@h" in said
    assert said.splitlines()[-1].startswith("foretick: this is a bug in foretick")


def test_an_interrupt_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_check", interrupted)
    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err == ""


def test_check_prints_toml_with_origins_that_reads_back(foretick, tmp_path):
    (tmp_path / "foretick.toml").write_text("season = ['24h', 604800]\nfields.value = 'price'\n")
    done = foretick("check", "--set", "lease.ttl=1500ms", "--http-port", "0", batch="7")
    table = tomllib.loads(done.stdout)
    assert (table["season"], table["fields"]["value"]) == (["1d", "7d"], "price")
    assert (table["lease"]["ttl"], table["batch"], table["http"]["port"]) == ("1500ms", 7, 0)
    lines = {line.partition(" = ")[0]: line.rpartition("  # ")[2] for line in done.stdout.splitlines() if " = " in line}
    assert lines["season"] == "file foretick.toml"
    assert lines["batch"] == "environment FORETICK_BATCH"
    assert lines["lease.ttl"] == "flag --set lease.ttl"
    assert lines["http.port"] == "flag --http-port"
    assert lines["max_series"] == "default"
    again = tmp_path / "again.toml"
    again.write_text(done.stdout)
    done = foretick("check", "--config", str(again), folder=tmp_path.parent)
    assert tomllib.loads(done.stdout) == table


def test_check_without_redis_prints_the_settings_and_says_what_is_missing(foretick):
    done = foretick("check", http__port="0")
    assert done.returncode == 2
    assert "# redis.url is not set" in done.stdout
    assert "# redis    FAIL  no Redis is named. Two ways out" in done.stdout


def test_check_of_a_sound_server_is_clean(foretick, server: Server):
    server.client().xadd("ticks", {"value": 1})
    done = foretick("check", redis__url=server.url, http__port="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"# redis    ok    {server.kind} " in done.stdout
    assert "# stream   ok    ticks has 1 entries" in done.stdout
    assert "# http     ok    127.0.0.1, port any free one: free" in done.stdout


def test_check_changes_nothing(foretick, redis_server: Server):
    assert foretick("check", redis__url=redis_server.url, http__port="0").returncode == 0
    assert redis_server.client().dbsize() == 0


def test_check_tells_a_key_that_is_no_stream(foretick, redis_server: Server):
    redis_server.client().set("ticks", "x")
    done = foretick("check", redis__url=redis_server.url, http__port="0")
    assert done.returncode == 2
    assert "# stream   FAIL  ticks is a string, no stream" in done.stdout


def test_check_tells_that_nobody_answers(foretick):
    done = foretick("check", "--http-port", "0", "--redis-url", f"redis://u:hunter2@127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "# redis    FAIL  redis://u:***@127.0.0.1:" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_check_logs_in_with_a_secret_from_a_file(foretick, private_server: Callable[..., Server], tmp_path):
    server = private_server("redis", requirepass="hunter2")
    assert foretick("check", redis__url=server.url, http__port="0").returncode == 3
    (tmp_path / "secret").write_text("hunter2\n")
    done = foretick("check", redis__url=server.url, http__port="0", redis__password_file=str(tmp_path / "secret"))
    assert done.returncode == 0
    assert '# redis.password = "***"' in done.stdout
    assert "hunter2" not in done.stdout


def test_check_works_for_a_user_who_may_hardly_ask_anything(foretick, redis_server: Server):
    redis_server.client().acl_setuser(
        "narrow", enabled=True, nopass=True, commands=["+ping", "+client|setname"], keys=["*"]
    )
    url = redis_server.url.replace("redis://", "redis://narrow:any@")
    done = foretick("check", redis__url=url, http__port="0")
    assert done.returncode == 0, done.stdout
    assert "of unknown version (INFO is not allowed)" in done.stdout
    assert "ticks: this user may not ask for its type" in done.stdout


def test_check_tells_a_port_that_is_taken(foretick, redis_server: Server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = foretick("check", redis__url=redis_server.url, http__port=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "# http     FAIL  127.0.0.1, port " in done.stdout
    assert "somebody listens there already" in done.stdout


def test_check_tells_a_host_that_is_not_here(foretick, redis_server: Server):
    done = foretick("check", redis__url=redis_server.url, http__port="0", http__host="192.0.2.1")
    assert done.returncode == 2
    assert "Cannot assign requested address" in done.stdout


def test_check_of_the_embedded_server_looks_at_the_folder(foretick, tmp_path, valkey_server: Server):
    done = foretick("check", "--embedded", http__port="0", state_dir=str(tmp_path / "state"))
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "state").exists()
    (tmp_path / "file").write_text("")
    done = foretick("check", "--embedded", http__port="0", state_dir=str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert f"# embedded FAIL  {tmp_path / 'file'} is no folder" in done.stdout


def test_a_reader_that_leaves_early_is_no_bug(tmp_path):
    program = f"{sys.executable} -m foretick check | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", program], check=False, capture_output=True, text=True, cwd=tmp_path, env=daemon_environment()
    )
    assert done.stdout == "# redis.url is not set\n"
    assert done.stderr == ""
    assert done.returncode in {2, 141}  # 2 when all was written before the reader left
