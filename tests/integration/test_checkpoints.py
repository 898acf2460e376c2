"""A partition that keeps its state: after any end it goes on with the same bits, without reading everything again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from foretick.app.keeping import Keeping
from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.errors import StateUnreadable
from foretick.ports.checkpoints import FolderStore, RedisStore
from foretick.ports.connection import RedisConnection
from foretick.ports.wire import decode, keyed
from partitions import Loop, forecasts, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from servers import Server

pytestmark = pytest.mark.redis
LEARNING = LearnRecipe(early_every=8, every=32, early_until=100, steps=1, chunk=4, depth=2, slots=3)
RECIPE = Recipe(hidden=8, window=24, linear=(), readout=None, learn=LEARNING)
BASE = b"foretick:{default}:checkpoint"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the loop runs it; two threads on small matrices are ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class KeptLoop(Loop):
    """A loop with a real engine that keeps its state; in a folder if one is given."""

    def __init__(self, url: str, folder: Path | None, **options: Any) -> None:
        self.recipe = options.pop("recipe", RECIPE)
        every_seconds, discard = options.pop("every_seconds", 0.05), options.pop("discard_before_ms", None)
        super().__init__(url, **options)

        def make_store() -> Any:
            if folder is not None:
                return FolderStore(folder, b"foretick", b"default")
            return RedisStore(RedisConnection(url, timeout_seconds=5), BASE, 64_000_000)

        self.keeping = self.partition._keeping = Keeping(
            "default",
            BASE,
            make_store,
            self.partition._committer,
            every_seconds=every_seconds,
            telemetry=self.telemetry,
            discard_before_ms=discard,
        )

    def _make_engine(self) -> Any:
        self.engines.append(Engine(self.recipe))
        return self.engines[-1]

    def crash(self) -> None:
        """Cut it off as SIGKILL would, but for the turn in flight, which is allowed to end."""
        self.keeping.finish = lambda marks: None
        super().crash()

    @property
    def scored(self) -> int:
        return self.engines[-1].scores()[0].scored

    @property
    def replayed(self) -> float:
        return self.metric("replayed_ticks_total")


@pytest.fixture(params=["redis", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "folder" else None


@pytest.fixture
def make_loop(redis_server: Server, folder: Path | None) -> Iterator[Callable[..., KeptLoop]]:
    made: list[KeptLoop] = []

    def make(**options: Any) -> KeptLoop:
        made.append(KeptLoop(redis_server.url, options.pop("folder", folder), **options))
        return made[-1].start()

    yield make
    for loop in made:
        if not loop.stop_signal.is_set():
            loop.stop()


def expected(client: redis.Redis, recipe: Recipe = RECIPE) -> list[tuple[bytes, float]]:
    """What a daemon that was never disturbed would have published."""
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    decoded = decode(entries, [b"ticks"] * len(entries))
    return list(zip(decoded.ids, Engine(recipe).advance(keyed(decoded)).yhat.tolist(), strict=True))


def wait_saved(loop: KeptLoop, client: redis.Redis) -> None:
    """Until a checkpoint of all that was answered stands."""

    def is_saved() -> bool:
        checkpointer = loop.keeping._checkpointer
        top = client.xinfo_groups("ticks")[0]["last-delivered-id"]
        marks = checkpointer._saved_marks if checkpointer else None
        return bool(marks and marks[b"ticks"].position == top)

    wait_until(is_saved, what="a checkpoint of the last position")


def test_crashes_and_stops_change_no_forecast_and_little_is_replayed(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    client = redis_server.client()
    total = replayed = 0
    for crash in (True, False, True, True, False):
        loop = make_loop(ttl_seconds=1.0, count=10)
        for _ in range(3):
            push(client, 40)
            total += 40
            wait_answered(client, total - 30)
        if not crash:
            wait_saved(loop, client)
        loop.crash() if crash else loop.stop()
        replayed += int(loop.replayed)
    make_loop(ttl_seconds=1.0)
    wait_answered(client, total)
    assert forecasts(client) == expected(client)
    assert replayed < total
    assert client.keys("*aside*") == []


def test_a_clean_stop_leaves_nothing_to_replay_and_the_counters_of_accuracy_go_on(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    client = redis_server.client()
    push(client, 100)
    first = make_loop(every_seconds=3600)
    wait_answered(client, 100)
    first.stop()
    scored = first.scored
    again = make_loop(every_seconds=3600)
    assert again.replayed == 0
    assert again.scored == scored > 0
    assert again.metric("checkpoint_bytes", partition="default") > 0
    push(client, 20)
    wait_answered(client, 120)
    again.stop()
    assert again.scored == scored + 20
    assert forecasts(client) == expected(client)


def test_what_came_after_the_checkpoint_is_replayed_and_no_more(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    client = redis_server.client()
    push(client, 50)
    first = make_loop(every_seconds=3600)
    wait_answered(client, 50)
    first.stop()
    first = make_loop(every_seconds=3600, ttl_seconds=1.0)
    push(client, 30)
    wait_answered(client, 80)
    first.crash()
    again = make_loop(every_seconds=3600)
    assert again.replayed == 30
    wait_saved(again, client)  # at once, although none is due for an hour
    push(client, 10)
    wait_answered(client, 90)
    assert forecasts(client) == expected(client)


def test_a_stream_trimmed_up_to_the_checkpoint_loses_nothing(
    redis_server: Server, make_loop: Callable[..., KeptLoop], capsys: pytest.CaptureFixture[str]
) -> None:
    client = redis_server.client()
    push(client, 60)
    first = make_loop()
    wait_answered(client, 60)
    first.stop()
    entries = client.xrange("ticks")
    client.xtrim("ticks", maxlen=0, approximate=False)
    again = make_loop()
    push(client, 20)
    wait_answered(client, 80)
    found = forecasts(client)
    for entry_id, fields in [*entries, *client.xrange("ticks")]:
        client.xadd("copy", fields, id=entry_id)
    client.rename("copy", "ticks")
    assert found == expected(client)
    assert again.metric("history_trimmed_total") == 0
    assert "history_trimmed" not in capsys.readouterr().out


def test_a_stream_trimmed_beyond_the_checkpoint_is_told_and_counted(
    redis_server: Server, make_loop: Callable[..., KeptLoop], capsys: pytest.CaptureFixture[str]
) -> None:
    client = redis_server.client()
    push(client, 30)
    first = make_loop(every_seconds=3600)
    wait_answered(client, 30)
    first.stop()
    first = make_loop(every_seconds=3600, ttl_seconds=1.0)
    push(client, 30)
    wait_answered(client, 60)
    first.crash()
    client.xtrim("ticks", maxlen=10, approximate=False)
    again = make_loop()
    assert again.replayed == 10
    assert again.metric("history_trimmed_total") == 1
    assert capsys.readouterr().out.count("history_trimmed") == 1
    push(client, 5)
    wait_answered(client, 65)


def test_a_position_that_was_set_back_takes_the_generation_before_it(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    """As after a failover to a replica that missed the last seconds."""
    client = redis_server.client()
    at = []
    for n in (40, 40):
        push(client, n)
        loop = make_loop(every_seconds=3600)
        wait_answered(client, len(at) * 40 + 40)
        loop.stop()
        at.append(client.xinfo_groups("ticks")[0]["last-delivered-id"])
    client.xgroup_setid("ticks", "foretick", at[0], entries_read=40)
    again = make_loop(every_seconds=3600)
    assert again.replayed == 0
    assert again.metric("checkpoint_failures_total") == 1
    push(client, 10)
    wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 50)
    answered = client.xrange("foretick:{ticks}:forecasts")
    assert [(i, float(fields[b"yhat"])) for i, fields in answered] == expected(client)[40:]


def test_a_flushed_redis_is_a_new_beginning(
    redis_server: Server,
    make_loop: Callable[..., KeptLoop],
    folder: Path | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = redis_server.client()
    push(client, 40)
    first = make_loop()
    wait_answered(client, 40)
    first.stop()
    client.flushall()
    push(client, 40)
    again = make_loop()
    wait_answered(client, 40)
    again.stop()
    assert forecasts(client) == expected(client)
    assert again.scored == 37  # three series, each of which had a first tick
    assert capsys.readouterr().out.count("another Redis, or of one that was emptied since") == (folder is not None)


def test_a_redis_flushed_beside_a_running_daemon_gets_its_state_again(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    client = redis_server.client()
    push(client, 40)
    first = make_loop(ttl_seconds=1.0)
    wait_answered(client, 40)
    client.flushall()
    push(client, 40)
    wait_answered(client, 40)
    wait_saved(first, client)
    scored = first.scored
    assert scored == 77
    first.crash()
    again = make_loop()
    assert (again.scored, again.replayed) == (scored, 0)


def test_an_input_created_anew_is_a_new_beginning(redis_server: Server, make_loop: Callable[..., KeptLoop]) -> None:
    client = redis_server.client()
    for i in range(40):
        client.xadd("ticks", {"value": i**2 % 17}, id=f"{10_000 + i}-0")
    loop = make_loop()
    wait_answered(client, 40)
    wait_saved(loop, client)
    client.delete("ticks")
    for i in range(40):
        client.xadd("ticks", {"value": i**2 % 13}, id=f"{5_000 + i}-0")
    answers = "foretick:{ticks}:forecasts"
    wait_until(lambda: client.exists(answers) and client.xinfo_stream(answers)["last-generated-id"] == b"5039-0")
    answered = client.xrange(answers)
    assert [(i, float(fields[b"yhat"])) for i, fields in answered] == expected(client)


def test_a_lease_that_is_taken_away_leaves_the_checkpoints_to_the_next_owner(
    redis_server: Server, make_loop: Callable[..., KeptLoop]
) -> None:
    client = redis_server.client()
    push(client, 60)
    first = make_loop(ttl_seconds=1.0)
    wait_answered(client, 60)
    wait_saved(first, client)
    client.set("foretick:{default}:lease", "somebody else", px=300)
    wait_until(lambda: first.metric("lease_lost_total") == 1 and len(first.engines) == 2 and first.is_ready())
    assert first.replayed == 0
    push(client, 20)
    wait_answered(client, 80)
    assert forecasts(client) == expected(client)


def test_a_model_of_another_shape_ends_the_partition_and_discarding_begins_anew(
    redis_server: Server, make_loop: Callable[..., KeptLoop], folder: Path | None
) -> None:
    client = redis_server.client()
    push(client, 60)
    first = make_loop()
    wait_answered(client, 60)
    first.stop()
    other = Recipe(hidden=16, window=24, linear=(), readout=None, learn=LEARNING)
    refused = KeptLoop(redis_server.url, folder, recipe=other)
    refused.start(ready=False)
    wait_until(lambda: refused.error)
    assert isinstance(refused.error, StateUnreadable)
    assert client.get("foretick:{default}:lease") is None
    refused.stop_signal.set()
    anew = make_loop(recipe=other, discard_before_ms=2**62)
    assert anew.replayed == 60
    push(client, 20)
    wait_answered(client, 80)
    assert forecasts(client)[60:] == expected(client, other)[60:]
    anew.stop()
    assert make_loop(recipe=other).replayed == 0


def test_a_redis_that_cannot_keep_checkpoints_goes_on_forecasting(redis_server: Server) -> None:
    client = redis_server.client()
    client.set(BASE + b":generations", "in the way")
    client.lpush(BASE + b":manifest", "in the way")
    push(client, 30)
    loop = KeptLoop(redis_server.url, None).start()
    wait_answered(client, 30)
    wait_until(lambda: loop.metric("checkpoint_failures_total") >= 2)
    assert forecasts(client) == expected(client)
    loop.stop()
