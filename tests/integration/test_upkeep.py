"""The commands of docs/operations.md that back up, restore and move, carried out; forecasts go on bit by bit."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from doc_blocks import blocks
from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.ports.wire import decode, keyed
from forked import ForkedDaemon
from recount import events, recount
from servers import REPOSITORY, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from servers import Server

pytestmark = pytest.mark.redis
FORECASTS = "foretick:{ticks}:forecasts"
COMMANDS = [
    block.text
    for block in blocks(REPOSITORY / "docs/operations.md", "sh")
    if block.note == "tested: tests/integration/test_upkeep.py"
]


def command(*words: str) -> str:
    """The one block that holds these words."""
    [found] = [text for text in COMMANDS if all(word in text for word in words)]
    return found


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., ForkedDaemon]]:
    made: list[ForkedDaemon] = []

    def make(url: str, **settings: object) -> ForkedDaemon:
        made.append(ForkedDaemon(url, streams="ticks", checkpoint__every="0.1s", lease__ttl="1s", **settings))
        return made[-1].start()

    yield make
    for daemon in made:
        daemon.discard()


def carry_out(text: str, folder: Path, replaced: dict[str, str]) -> None:
    """Run the commands in a folder, with names as they are here."""
    if shutil.which("redis-cli") is None:
        pytest.fail("redis-cli is missing")
    for name, here in replaced.items():
        text = text.replace(name, here)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"


def push(client: redis.Redis, first: int, n: int) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + n):
        pipe.xadd("ticks", {"series": f"s{i % 3}", "value": float(np.sin(i / 9))}, id=f"{1_700_000_000_000 + i}-0")
    pipe.execute()


def wait_answered(client: redis.Redis, n: int) -> None:
    wait_until(lambda: client.xlen(FORECASTS) == n, 30, f"{n} forecasts")


def assert_undisturbed(client: redis.Redis) -> None:
    """Every tick has the one forecast of a daemon that nothing ever happened to."""
    assert recount(client).faults() == []
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    engine = Engine(Recipe(hidden=8, learn=LearnRecipe(enabled=False)))
    wanted = engine.advance(keyed(decode(entries, b"ticks"))).yhat.tolist()
    assert [float(fields[b"yhat"]) for _, fields in client.xrange(FORECASTS)] == wanted


def files_of(store: Path) -> list[str]:
    return [path.name for path in store.rglob("*.safetensors")]


def test_a_folder_of_checkpoints_is_backed_up_beside_the_running_daemon_and_restored(
    redis_server: Server, make_daemon: Callable[..., ForkedDaemon], tmp_path: Path
) -> None:
    client, state = redis_server.client(), tmp_path / "state"
    daemon = make_daemon(redis_server.url, checkpoint__store=str(state / "checkpoints"))
    push(client, 0, 50)
    wait_answered(client, 50)
    wait_until(lambda: files_of(state), what="a checkpoint")
    carry_out(command("-czf"), tmp_path, {"/var/lib/foretick": str(state)})
    push(client, 50, 30)
    wait_answered(client, 80)
    daemon.kill()
    shutil.rmtree(state / "checkpoints")
    (state / "checkpoints").mkdir()
    carry_out(command("-xzf"), tmp_path, {"/var/lib/foretick": str(state)})
    assert files_of(state)
    push(client, 80, 20)
    daemon.start()
    wait_answered(client, 100)
    assert events(daemon.output(), "state_restored"), daemon.output()
    assert daemon.terminate() == 0
    assert_undisturbed(client)


def test_redis_is_backed_up_as_a_whole_and_what_it_then_lacks_is_answered_again(
    private_server: Callable[..., Server], make_daemon: Callable[..., ForkedDaemon], tmp_path: Path
) -> None:
    server = private_server()
    client = server.client()
    daemon = make_daemon(server.url)
    push(client, 0, 50)
    wait_answered(client, 50)
    wait_until(lambda: client.exists("foretick:{default}:checkpoint:manifest"), what="a checkpoint")
    carry_out(command("--rdb"), tmp_path, {"redis-cli": f"redis-cli -p {server.port}"})
    push(client, 50, 30)
    wait_answered(client, 80)
    server.stop()
    shutil.copy(tmp_path / "foretick.rdb", server.folder / "dump.rdb")
    server.start()
    client = server.client()
    assert client.xlen("ticks") == 50, "the server has gone back"
    push(client, 50, 50)  # the producers send again
    wait_answered(client, 100)
    assert events(daemon.output(), "position_regressed"), daemon.output()
    assert daemon.terminate() == 0
    assert_undisturbed(client)


def test_streams_positions_and_state_move_to_another_redis(
    private_server: Callable[..., Server], make_daemon: Callable[..., ForkedDaemon], tmp_path: Path
) -> None:
    old, new = private_server(), private_server(repl_diskless_sync_delay="0")
    client = old.client()
    daemon = make_daemon(old.url)
    push(client, 0, 50)
    wait_answered(client, 50)
    here = {"-h new": f"-p {new.port}", "old 6379": f"127.0.0.1 {old.port}"}
    copy, check = command("REPLICAOF old").splitlines()
    carry_out(copy, tmp_path, here)
    wait_until(lambda: new.client().info("replication")["master_link_status"] == "up", what="a replica")
    carry_out(check, tmp_path, here)
    push(client, 50, 30)
    wait_answered(client, 80)
    assert daemon.terminate() == 0
    wait_until(lambda: new.client().xlen(FORECASTS) == 80, what="a replica that has everything")
    carry_out(command("NO ONE"), tmp_path, here)
    client = new.client()
    daemon = make_daemon(new.url)
    push(client, 80, 20)
    wait_answered(client, 100)
    assert events(daemon.output(), "state_restored"), daemon.output()
    assert daemon.terminate() == 0
    assert_undisturbed(client)


def test_every_command_of_the_page_is_carried_out_here() -> None:
    assert len(COMMANDS) == 5
    assert os.access("/bin/bash", os.X_OK)
