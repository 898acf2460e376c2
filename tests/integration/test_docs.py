"""The documentation: every command in it runs, every link in it leads somewhere.

Of `foretick run` and `foretick demo` only arguments and settings are read, of `make` only whether it would run: other
tests run these. What needs more than a Redis says so above its block (see `doc_blocks`).
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tomllib

import pytest

from doc_blocks import Shell, blocks
from forked import ForkedDaemon
from partitions import run_loop
from servers import REPOSITORY, wait_until

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "deploy").rglob("*.md")),
]
RUN_ELSEWHERE = {"wire.md", "quickstart.md"}
LINK = re.compile(r"\[(?:[^\]`]|`[^`]*`)*\]\(([^)\s]+)\)")
CHEAP = {"learn__enabled": False, "model__hidden": 8, "learn__trainer": "inline"}  # settings of all commands here


def pages(*without):
    return [pytest.param(page, id=str(page.relative_to(REPOSITORY))) for page in PAGES if page.name not in without]


@functools.cache
def anchors(page):
    """What headings of a page are called in links, as GitHub does it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        names.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return names


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(target)
    assert wrong == []


def recording(rows, columns):
    head = ",".join(("series", "ts", *columns))
    lines = [f"{name},{i * 60_000}," + ",".join(str((i * 7 + k) % 11) for k in range(len(columns))) for name, i in rows]
    return "\n".join([head, *lines]) + "\n"


@pytest.fixture
def shell(redis_server, tmp_path):
    """With the files that the examples name, and a daemon that has answered what they send."""
    hours = [(name, i) for i in range(120) for name in ("boiler-7", "pump")]
    (tmp_path / "history.csv").write_text(recording(hours, ["value"]))
    (tmp_path / "prices.csv").write_text(recording(hours, ["open", "high", "low", "close"]))
    (tmp_path / "counts.csv").write_text("value\n" + "\n".join(str(10 * i % 100) for i in range(60)) + "\n")
    daemon = ForkedDaemon(redis_server.url, streams="ticks", **CHEAP)
    daemon.start()
    try:
        with Shell(redis_server, tmp_path, **CHEAP) as opened:
            yield opened
    finally:
        daemon.discard()


@pytest.mark.redis
def test_every_command_runs(shell, redis_server):
    client = redis_server.client()
    for page in PAGES:
        if page.name in RUN_ELSEWHERE:
            continue
        for block in blocks(page, "sh", "bash", "console"):
            kind, _, what = block.note.partition(": ")
            if kind == "tested":
                assert (REPOSITORY / what).exists(), f"{page.name}: {what}"
            elif kind != "not run":
                try:
                    shell.run(runnable(block.text))
                except AssertionError as error:
                    raise AssertionError(f"{page.name}: {error}") from None
            wait_until(lambda: answered(client) == client.xlen("ticks"), what="answers")


def answered(client):
    return client.xlen("foretick:{ticks}:forecasts") + client.xlen("foretick:{ticks}:dead")


def runnable(text):
    """The block with what needs a network or minutes replaced by a look at whether it could be done."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = []
    for line in text.splitlines():
        if named := re.search(r"pip install .*foretick\[([\w,]+)\]", line):
            assert set(named[1].split(",")) <= extras.keys(), line
            lines.append("true")
        else:
            dry = re.sub(r"^make ", f"make --dry-run --silent -C {REPOSITORY} ", line)
            lines.append(re.sub(r"^(make .*?)(?=$|\s+#)", r"\1 >/dev/null", dry))
    return "\n".join(lines)


@pytest.mark.redis
def test_the_quick_start_joins_each_forecast_with_its_actual(redis_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    client, names = redis_server.client(), {}
    loop = run_loop(redis_server)
    try:
        with Shell(redis_server, tmp_path) as shell:
            for block in blocks(REPOSITORY / "docs/quickstart.md", "sh", "python"):
                if block.language == "sh":
                    shell.run(block.text)
                else:
                    exec(block.text, names)
                wait_until(lambda: answered(client) == client.xlen("ticks"), what="answers")
    finally:
        if "client" in names:
            names["client"].close()
        loop.stop()
    said = capsys.readouterr().out
    assert client.xlen("foretick:{ticks}:dead") == 0
    assert re.search(r"boiler-7: 1 settled, .*\nboiler-8: 59 settled, .*\npump: 59 settled, .*\npump will be ", said)


def test_the_go_program_is_go(tmp_path):
    gofmt = shutil.which("gofmt")
    if gofmt is None:
        pytest.skip("no Go here")  # the gate has none either: the page says so
    (block,) = blocks(REPOSITORY / "docs/quickstart.md", "go")
    (tmp_path / "main.go").write_text(block.text)
    done = subprocess.run([gofmt, "-l", "main.go"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_node_program_is_javascript(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here")  # as above
    (block,) = blocks(REPOSITORY / "docs/quickstart.md", "js")
    (tmp_path / "main.mjs").write_text(block.text)
    done = subprocess.run([node, "--check", "main.mjs"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
