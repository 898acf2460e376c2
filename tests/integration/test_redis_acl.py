"""deploy/redis/foretick.acl: its rights suffice for all that the daemon does, and each of them is needed."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import redis

from forked import ForkedDaemon
from servers import REPOSITORY, Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.redis
PASSWORD = "correct horse"
USER = (REPOSITORY / "deploy" / "redis" / "foretick.acl").read_text().split(maxsplit=3)[3]
RULES = re.findall(r"\([^)]*\)|\S+", USER)
LETS_IN = frozenset({"AUTH", "HELLO", "RESET", "QUIT"})  # nobody can be kept from these
ON_A_CLUSTER = [["CLUSTER", "SLOTS"]]  # see test_redis_cluster.py
DAY_MS = 86_400_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server("redis", unixsocket=str(tmp_path / "redis.sock"))
    try:
        one.start()
        with one.client() as client:
            digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
            client.execute_command("ACL", "SETUSER", "foretick", "reset", "on", f"#{digest}", *RULES)
        yield one
    finally:
        one.discard()


class Overheard:
    """What the daemon says, by MONITOR: it comes through the socket, everybody else by TCP."""

    LAST = "that was all"  # word of ours: what comes before it has been heard

    def __init__(self, server: Server) -> None:
        self.commands: dict[tuple[str, ...], list[str]] = {}
        self._heard_all = threading.Event()
        self._client = redis.Redis(port=server.port, socket_timeout=None)
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while True:
                line = self._monitor.connection.read_response().decode(errors="replace")
                if f'"{self.LAST}"' in line:
                    self._heard_all.set()
                if " unix:" not in line.partition("]")[0]:
                    continue
                words = [word[:200] for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line)]
                if words[0].upper() not in LETS_IN:
                    self.commands.setdefault((words[0].upper(), *words[1:3]), words)
        except (redis.RedisError, OSError, ValueError):
            pass

    def hear_out(self) -> None:
        """Wait until all is heard that was said until now: the last words, at a stop, are said once only."""
        self._client.echo(self.LAST)
        assert self._heard_all.wait(30), "the listener lags"

    def close(self) -> None:
        self._monitor.connection.disconnect()
        self._thread.join(10)
        self._client.close()


def push(client: redis.Redis, n: int, *, at_ms: int, series: str = "s") -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(n):
        pipe.xadd("ticks", {"series": f"{series}{i % 3}", "value": i}, id=f"{at_ms + i}-0")
    pipe.execute()


def live_a_full_life(server: Server, client: redis.Redis, daemon: ForkedDaemon) -> None:
    """Every command that a daemon ever sends: start, forecast, checkpoint, forget, repair, crash, recover, stop."""
    answered = "foretick:{ticks}:forecasts"
    begun = int(time.time() * 1000) - 40 * DAY_MS
    push(client, 30, at_ms=begun)
    client.xadd("ticks:other", {"value": 1})
    daemon.start()
    wait_until(lambda: client.xlen(answered) == 30, 20, "the first forecasts")
    push(client, 30, at_ms=begun + 20 * DAY_MS, series="later")  # the first series are forgotten
    wait_until(lambda: client.hlen("foretick:{ticks}:latest") == 3, 20, "the end of forgotten series")
    client.xadd(answered, {"foreign": "1"})
    push(client, 3, at_ms=begun + 20 * DAY_MS + 100)
    wait_until(lambda: client.keys("*:aside:*"), 20, "a stream set aside")
    look_at_the_page(daemon)
    see_three_checkpoints(client)
    client.xgroup_destroy("ticks", "foretick")
    push(client, 3, at_ms=int(time.time() * 1000) + 1000)
    wait_until(lambda: client.xinfo_groups("ticks"), 20, "the group")
    daemon.kill()
    push(client, 3, at_ms=int(time.time() * 1000) + 2000)
    client.delete("foretick:{default}:lease")
    daemon.start()
    wait_until(lambda: client.xinfo_groups("ticks")[0]["lag"] == 0, 20, "the rest")
    assert daemon.terminate(20) == 0


def look_at_the_page(daemon: ForkedDaemon) -> None:
    """Watch a series: its past is read from Redis."""
    listed = json.loads(daemon.get("/series")[1])["rows"]
    address = f"http://127.0.0.1:{daemon.http_port}/events?series={quote(listed[0]['id'])}"
    with urllib.request.urlopen(address, timeout=10) as events:
        while not events.readline().startswith(b"event: past"):
            pass


def see_three_checkpoints(client: redis.Redis) -> None:
    """So that the first is removed again; each needs a tick of its own."""
    key = "foretick:{default}:checkpoint:generations"
    first = wait_until(lambda: client.smembers(key), 20, "a checkpoint")

    def is_gone() -> bool:
        client.xadd("ticks", {"series": "later0", "value": 1})
        return not client.smembers(key) & first

    wait_until(is_gone, 30, "the third checkpoint")


def test_the_users_rights_suffice_and_none_of_them_is_needless(server: Server, tmp_path: Path) -> None:
    client = server.client()
    (tmp_path / "password").write_text(PASSWORD + "\n")
    overheard = Overheard(server)
    daemon = ForkedDaemon(
        f"unix://{tmp_path / 'redis.sock'}",
        redis__user="foretick",
        redis__password_file=tmp_path / "password",
        series__ttl="10d",
        profile="lean",  # its checkpoints are small
        checkpoint__every="0.2s",
        lease__ttl="2s",
    )
    try:
        live_a_full_life(server, client, daemon)
        overheard.hear_out()
    finally:
        daemon.discard()
        overheard.close()
    log = client.acl_log()
    assert [(entry["reason"], entry["object"]) for entry in log] == []
    commands = [*overheard.commands.values(), *ON_A_CLUSTER]
    assert denied(client, RULES, commands) == []
    for rule in permissions(RULES):
        assert denied(client, without(RULES, rule), commands), f"{rule} is needless"


def permissions(rules: list[str]) -> list[str]:
    """What the rules grant, one by one, the selectors' parts as well."""
    parts = [part for rule in rules for part in rule.strip("()").split()]
    return [part for part in dict.fromkeys(parts) if part[0] in "+~%"]


def without(rules: list[str], taken: str) -> list[str]:
    """The rules without one permission."""
    left = []
    for rule in rules:
        if rule.startswith("("):
            left.append(f"({' '.join(part for part in rule.strip('()').split() if part != taken)})")
        elif rule != taken:
            left.append(rule)
    return left


def denied(client: redis.Redis, rules: list[str], commands: list[list[str]]) -> list[Any]:
    """The commands that a user with these rules may not send."""
    client.execute_command("ACL", "SETUSER", "trial", "reset", *rules)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command("ACL", "DRYRUN", "trial", *command)
    answers = pipe.execute()
    return [(answer, command) for answer, command in zip(answers, commands, strict=True) if b"OK" not in _bytes(answer)]


def _bytes(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else str(answer).encode()
