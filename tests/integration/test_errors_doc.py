"""Each message of docs/errors.md is met, and what is met is in docs/errors.md."""

from __future__ import annotations

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch

from deployed import Certificates
from foretick import cli
from foretick.app.initial import save_knowledge
from foretick.app.recipes import recipe_of
from foretick.app.settings import Settings
from foretick.core.engine import Engine
from foretick.core.learner import Knowledge
from foretick.ports.embedded import EmbeddedServer, free_port
from forked import ForkedDaemon
from partitions import push, wait_answered
from servers import REPOSITORY, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.redis

ROW = re.compile(r"^\| (`{1,2})(.+?)\1 \| (\d+) \| ", re.MULTILINE)
NOBODY, TLS_NOBODY = "redis://127.0.0.1:1", "rediss://127.0.0.1:1"
AT_ONCE = ("--set", "learn.trainer=inline", "--set", "redis.connect_deadline=0", "--set", "http.port=0")


class Message(NamedTuple):
    text: str
    pattern: re.Pattern[str]
    status: int


def messages():
    page = (REPOSITORY / "docs/errors.md").read_text()
    return [
        Message(text, re.compile(".+".join(map(re.escape, text.split("…")))), int(status))
        for _, text, status in ROW.findall(page)
    ]


MESSAGES = messages()


class Attempt(NamedTuple):
    arguments: tuple[str, ...]
    message: str  # its beginning, in the page's words
    environment: Mapping[str, str] = MappingProxyType({})
    toml: str | None = None


def run(*arguments, message, toml=None, **environment):
    return Attempt(("run", *arguments), message, environment, toml)


SETTING = ("run", "--redis-url", NOBODY)
ATTEMPTS = [
    Attempt(("rnu",), "argument VERB"),
    run("--embeded", message="unknown argument …: did"),
    run("surplus", message="unknown argument … (see"),
    run("--redis-url", message="argument …: expected"),
    run("--set", "batch", message="--set … has no ="),
    run(message="no Redis is named"),
    run("--set", "bach=5", message="… is no setting: did"),
    run(FORETICK_REDIS_URL=NOBODY, message="… is no setting: did"),
    run("--set", "xyzzy=5", message="… is no setting: `foretick check`"),
    run(toml="redis = 1", message="… is a group"),
    run("--set", "lease.ttl=1ms", message="… cannot be … (…): write …"),
    run("--redis-url", "localhost:6379", message="… cannot be … (…): …; write …"),
    run("--config", "none.toml", message="… (--config)"),
    run("--config", "/", message="… cannot be read"),
    run(toml="a =", message="… is no TOML"),
    run("--config", "bytes", message="… is no UTF-8"),
    run("--set", "redis.password=x", message="redis.password (…) would show"),
    run("--set", "redis.password_file=none", message="redis.password_file (…): … cannot be read"),
    run("--set", "redis.password_file=empty", message="redis.password_file (…): … is empty"),
    run(toml="redis.password_file = 1", message="redis.password_file (…) is no path"),
    run(toml="redis.password = 'a'\nredis.password_file = 'b'", message="redis.password (…) and"),
    run("--redis-url", "redis://:a@h", FORETICK_REDIS__PASSWORD="b", message="redis.password (…) differs"),
    run("--redis-url", NOBODY, "--embedded", message="embedded (…) and"),
    run("--redis-url", NOBODY, "--stream", "foretick:x", message="streams cannot be"),
    run("--redis-url", NOBODY, "--set", "fields.value=ts", message="fields.series, fields.value"),
    run("--redis-url", NOBODY, "--set", "features=series", message="features cannot hold"),
    run("--redis-url", NOBODY, "--set", "targets=x", message="targets cannot hold"),
    run("--set", 'groups={"a": {"hiden": 8}}', message="groups.… is no setting"),
    run("--set", 'groups={"a": {"hidden": 9}}', message="groups.… cannot be"),
    run("--embedded", "--set", "state_dir=/proc/x", *AT_ONCE, message="the embedded server cannot write"),
    run("--redis-url", NOBODY, "--device", "cuda", *AT_ONCE, message="device cannot be …: this torch"),
    run("--redis-url", NOBODY, "--set", "model.init=none", *AT_ONCE, message="…: cannot be read: …"),
    run("--redis-url", NOBODY, "--set", "model.init=empty", *AT_ONCE, message="…: no file of"),
    run("--redis-url", NOBODY, "--set", "redis.ca=empty", *AT_ONCE, message="redis.ca needs TLS"),
    run("--redis-url", TLS_NOBODY, "--set", "redis.key=empty", *AT_ONCE, message="redis.key needs redis.cert"),
    run("--redis-url", TLS_NOBODY, "--set", "redis.ca=none", *AT_ONCE, message="redis.ca: … cannot be read"),
    run("--redis-url", TLS_NOBODY, "--set", "redis.ca=empty", *AT_ONCE, message="redis.ca: … holds no"),
    run("--redis-url", NOBODY, *AT_ONCE, message="Redis did not answer within … s: … Connection refused."),
    run("--redis-url", "redis://no.invalid", *AT_ONCE, message="Redis did not answer within … s: … Name or"),
    run("--redis-url", "unix:///none", *AT_ONCE, message="Redis did not answer within … s: … No such file"),
    run("--redis-url", NOBODY, *AT_ONCE, "--set", "http.host=203.0.113.9", message="cannot listen on"),
]
STAGED = (  # need something beside them, below
    "… is taken by another program",
    "another embedded server works",
    "the embedded server cannot read its own file",
    "model.init: … is of another model",
    "device cannot be …: torch finds",
    "device cannot be …: there are",
    "device cannot be …: it takes",
    "Redis did not answer within … s: LOADING",
    "redis.url names several servers",
    "streams: on a Redis Cluster",
    "no Redis answers",
    "no Sentinel answers",
    "Redis did not answer within … s: Timeout",
    "redis.cert, redis.key",
    "Redis does not let us in: its certificate",
    "Redis does not let us in: the TLS handshake",
    "Redis does not let us in: invalid",
    "Redis does not let us in: Auth",
    "Redis does not let us in: …",
    "the stored state of partition",
)


@pytest.fixture
def meet(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder and finds its last line on the page."""
    for name in [name for name in cli.os.environ if name.startswith("FORETICK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    threads = torch.get_num_threads()

    def check(attempt):
        for name, value in attempt.environment.items():
            monkeypatch.setenv(name, value)
        if attempt.toml is not None:
            Path("foretick.toml").write_text(attempt.toml)
        (told,) = [one for one in MESSAGES if one.text.startswith(attempt.message)]
        status = cli.main(list(attempt.arguments))
        said = capsys.readouterr().err.splitlines()
        assert told.pattern.fullmatch(said[-1].removeprefix("foretick: ")), f"{told.text}\n{said}"
        assert status == told.status
        assert len([line for line in said if not line.startswith("{")]) == 1

    yield check
    torch.set_num_threads(threads)


def test_every_message_on_the_page_is_met_by_one_of_these_tests():
    met = {*(one.message for one in ATTEMPTS), *STAGED}
    assert [one.text for one in MESSAGES if not any(one.text.startswith(start) for start in met)] == []
    assert len(MESSAGES) > 40


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda one: f"{one.message} {one.arguments[-1]}")
def test_it_is_said_in_one_line_with_its_status(meet, attempt, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)  # as with the torch that CI installs
    Path("empty").write_bytes(b"")
    Path("bytes").write_bytes(b"\xff")
    meet(attempt)


def test_what_others_hold_is_named(meet, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        meet(run("--redis-url", NOBODY, *AT_ONCE, "--http-port", str(port), message="… is taken by another program"))


def test_an_embedded_server_that_cannot_be_had_is_told(meet, tmp_path, monkeypatch):
    monkeypatch.setattr("foretick.ports.embedded.LOCK_SECONDS", 0.0)
    folder = tmp_path / "embedded"
    asked = ("--embedded", "--set", f"state_dir={tmp_path}", *AT_ONCE)
    with EmbeddedServer(folder):
        meet(run(*asked, message="another embedded server works"))
    for file in (folder / "appendonlydir").glob("*.incr.aof"):
        file.write_bytes(b"*1\r\nnonsense\r\n" * 10)
    meet(run(*asked, message="the embedded server cannot read its own file"))


def test_weights_of_another_model_are_refused(meet, tmp_path):
    recipe = recipe_of(Settings(model={"hidden": 8}))
    save_knowledge(
        tmp_path / "weights.safetensors", recipe, Knowledge.fresh(torch.zeros(Engine.shape_of(recipe).size)), {}
    )
    asked = ("--redis-url", NOBODY, "--set", "model.init=weights.safetensors", "--set", "model.hidden=16", *AT_ONCE)
    meet(run(*asked, message="model.init: … is of another model"))


def test_a_torch_with_cuda_tells_what_it_lacks(meet, monkeypatch):
    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def refuses(device, what):
        meet(run("--redis-url", NOBODY, "--device", device, *AT_ONCE, message=f"device cannot be …: {what}"))

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuses("cuda", "torch finds")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refuses("cuda:1", "there are")
    monkeypatch.setattr(torch, "zeros", no_memory)
    refuses("cuda:0", "it takes")


def test_redis_refusals_are_told_apart(meet, private_server):
    server = private_server("redis", requirepass="right")
    url, asked = f"redis://127.0.0.1:{server.port}", ("run", *AT_ONCE, "--redis-url")
    meet(Attempt((*asked, url), "Redis does not let us in: Auth"))
    meet(Attempt((*asked, url.replace("//", "//:wrong@")), "Redis does not let us in: invalid"))
    client = server.client(password="right")
    client.acl_setuser("idle", enabled=True, passwords=["+x"], commands=["+hello"])
    meet(Attempt((*asked, url.replace("//", "//idle:x@")), "Redis does not let us in: …"))


def test_who_is_not_trusted_is_told_apart(meet, private_server, tmp_path, monkeypatch):
    monkeypatch.setattr("foretick.ports.route.CONNECT_TIMEOUT_SECONDS", 0.5)
    certificates = Certificates(tmp_path)
    certificates.sign("server")
    certificates.sign("client")
    path, port = certificates.path, free_port()
    files = {"tls_ca_cert_file": "ca.crt", "tls_cert_file": "server.crt", "tls_key_file": "server.key"}
    server = private_server(
        "redis",
        tls_port=str(port),
        tls_protocols="TLSv1.2",  # of which a refused client hears in the handshake
        **{name: path(file) for name, file in files.items()},
    )
    asked = ("run", *AT_ONCE, "--redis-url", f"rediss://127.0.0.1:{port}")
    trusted = (*asked, "--set", f"redis.ca={path('ca.crt')}")
    pair = ("--set", f"redis.cert={path('client.crt')}", "--set", f"redis.key={path('server.key')}")
    meet(Attempt(asked, "Redis does not let us in: its certificate"))
    meet(Attempt(trusted, "Redis does not let us in: the TLS handshake"))
    meet(Attempt((*trusted, *pair), "redis.cert, redis.key"))
    plain = f"rediss://127.0.0.1:{server.port}"
    meet(Attempt(("run", *AT_ONCE, "--redis-url", plain), "Redis did not answer within … s: Timeout"))


def test_several_servers_have_to_be_a_cluster(meet, redis_server):
    two = f"redis://127.0.0.1:{redis_server.port},127.0.0.1:1"
    meet(run(*AT_ONCE, "--redis-url", two, message="redis.url names several servers"))


def test_streams_of_a_cluster_need_tags(meet, private_server):
    server = private_server("redis", cluster_enabled="yes", cluster_port=str(free_port()))
    client = server.client()
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
    meet(run("--redis-url", server.url, "--stream", "ticks", *AT_ONCE, message="streams: on a Redis Cluster"))


class Silent(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("url", ["redis://{}", "redis://:x@{}", "redis+sentinel://{}/m"])
def test_another_program_than_redis_is_told(meet, url):
    with HTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = url.format(f"127.0.0.1:{server.server_port}")
            meet(run(*AT_ONCE, "--redis-url", url, message="no Redis answers"))
        finally:
            server.shutdown()
            thread.join()


def test_a_redis_that_is_no_sentinel_is_told(meet, redis_server):
    url = f"redis+sentinel://127.0.0.1:{redis_server.port}/master"
    meet(run(*AT_ONCE, "--redis-url", url, message="no Sentinel answers"))


def test_a_redis_that_loads_its_data_is_told(meet, private_server):
    server = private_server("redis", enable_debug_command="yes", save="3600 1000000")
    client = server.client()
    client.execute_command("DEBUG", "POPULATE", "3000", "key", "100")
    client.set("changed", 1)
    client.close()
    server.stop()  # saves
    server.options |= {"key_load_delay": "1000", "loading_process_events_interval_bytes": "1024"}  # 1 ms a key
    server.start()
    meet(run("--redis-url", server.url, *AT_ONCE, message="Redis did not answer within … s: LOADING"))


def test_state_of_another_model_is_kept_and_told(meet, redis_server):
    push(redis_server.client(), 5)
    daemon = ForkedDaemon(redis_server.url, checkpoint__every="1s")
    try:
        daemon.start()
        wait_answered(redis_server.client(), 5)
        assert daemon.terminate() == 0
    finally:
        daemon.discard()
    asked = ("--redis-url", redis_server.url, *AT_ONCE, "--set", "model.hidden=16")
    meet(run(*asked, message="the stored state of partition"))
