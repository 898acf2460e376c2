"""Every example of docs/wire.md runs, in order, on an empty server with a daemon beside it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from partitions import forecasts, run_loop
from servers import REPOSITORY, daemon_environment, wait_until

pytestmark = pytest.mark.redis

WIRE = (REPOSITORY / "docs" / "wire.md").read_text()
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TICKS = 44  # that the examples push, the unusable one included


def test_every_example_runs(redis_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    client = redis_server.client()
    loop = run_loop(redis_server)
    names: dict[str, object] = {}
    try:
        for kind, text in BLOCK.findall(WIRE):
            if "foretick:" in text:  # reads what the daemon writes
                wait_until(lambda: answered(client) == client.xlen("ticks"))
            if kind == "sh":
                run_shell(text, redis_server, tmp_path)
            else:
                exec(text, names)
    finally:
        names["client"].close()
        loop.stop()
    assert client.xlen("ticks") == answered(client) == TICKS
    assert "40 forecasts settled" in capsys.readouterr().out


def answered(client):
    return len(forecasts(client)) + client.xlen("foretick:{ticks}:dead")


def run_shell(text, server, folder):
    """Runs a block; redis-cli and foretick mean the test's own."""
    prelude = (
        "set -eo pipefail\n"
        f'redis-cli() {{ local out; out=$(command redis-cli -p {server.port} "$@"); echo "$out"; '
        "[[ $out != *ERR* && $out != *WRONG* ]]; }\n"
        f'foretick() {{ {sys.executable} -m foretick "$@"; }}\n'
    )
    done = subprocess.run(
        ["bash", "-c", prelude + text],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=daemon_environment(redis__url=server.url),
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
