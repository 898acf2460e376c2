"""Taking checkpoints beside a running engine, and restoring from the newest that will do."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from foretick.app.checkpointing import Checkpointer
from foretick.app.marks import Mark
from foretick.app.restoring import Restoring, Standing, history_of
from foretick.app.states import Identity
from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.records import Ticks
from foretick.errors import CheckpointFailed, LeaseLost, StateUnreadable
from foretick.ports.checkpoints import FolderStore, RedisStore
from foretick.ports.connection import RedisConnection
from foretick.ports.telemetry import Telemetry
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from foretick.ports.checkpoints import CheckpointStore
    from servers import Server

pytestmark = pytest.mark.redis

LEARNING = LearnRecipe(early_every=8, every=32, early_until=100, steps=1, chunk=4, depth=2, slots=3)
RECIPE = Recipe(hidden=8, window=24, learn=LEARNING)
BASE = b"foretick:{default}:checkpoint"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the loop runs it; two threads on small matrices are ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ticks(first: int, n: int, series: int = 5) -> Ticks:
    """n ticks of a stream of which the number of a tick tells all."""
    at = np.arange(first, first + n)
    y = np.random.default_rng(7).standard_normal(100_000)[at]
    return Ticks([b"s%d" % (i % series) for i in at], at, at, np.zeros(n, np.bool_), y)


class Daemon:
    """An engine and its checkpoints, with the loop in the test's hands."""

    def __init__(self, store: CheckpointStore, server: Server, every_seconds: float = 0.0, **facts: Any) -> None:
        self.store, self.server = store, server
        self.telemetry = Telemetry()
        self.recipe = facts.pop("recipe", RECIPE)
        self.engines = {"default": Engine(self.recipe)}
        self.identity = Identity("default", facts.pop("history", "h"), {"default": self.engine.layout})
        self.restored = Restoring(store, self.identity, self.telemetry, facts.pop("discard_before_ms", None)).restore(
            self.engines, facts.pop("standing", Standing({b"ticks": b"100000-0"})), self.carry_out, lambda: None
        )
        self.at = int(self.restored.marks[b"ticks"].position.split(b"-")[0]) if self.restored else 0
        self.checkpointer = Checkpointer(
            store,
            self.engines,
            partition="default",
            history=self.identity.history,
            every_seconds=every_seconds,
            telemetry=self.telemetry,
        )

    @property
    def engine(self) -> Engine:
        return self.engines["default"]

    def marks(self) -> list[Mark]:
        return [Mark(b"ticks", b"%d-0" % self.at, self.at)]

    def carry_out(self, commands: list[Any]) -> None:
        for command in commands:
            self.server.client().execute_command(*command)

    def turn(self, n: int = 10) -> None:
        """As the pipeline does it: the commit goes through, then the engine goes on."""
        self.carry_out(self.checkpointer.commands())
        self.checkpointer.at_position(self.marks)
        self.engine.advance(ticks(self.at, n))
        self.at += n

    def turn_until(self, predicate: Callable[[], Any]) -> None:
        wait_until(lambda: self.turn() or predicate())

    def saved(self) -> int:
        """Bytes of the newest checkpoint."""
        return int(self.metric("checkpoint_bytes", partition="default"))

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"foretick_{name}", labels) or 0.0

    def finish(self, commit: Any = None) -> None:
        self.checkpointer.finish(self.marks(), commit or self.carry_out, lambda: None, 0.1)


@pytest.fixture(params=["redis", "folder"])
def make_store(
    request: pytest.FixtureRequest, redis_server: Server, tmp_path: Path
) -> Iterator[Callable[..., CheckpointStore]]:
    made: list[CheckpointStore] = []

    def make(limit_bytes: int = 64_000_000) -> CheckpointStore:
        if request.param == "folder":
            made.append(FolderStore(tmp_path, b"foretick", b"default"))
        else:
            connection = RedisConnection(redis_server.url, timeout_seconds=5)
            made.append(RedisStore(connection, BASE, limit_bytes))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def make_daemon(redis_server: Server, make_store: Callable[..., CheckpointStore]) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        store = options.pop("store", None) or make_store()
        made.append(Daemon(store, redis_server, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.checkpointer.close()


def assert_goes_on_as_if_never_stopped(daemon: Daemon) -> None:
    undisturbed = Engine(daemon.recipe)
    undisturbed.advance(ticks(0, daemon.at))
    rest = ticks(daemon.at, 300)
    assert daemon.engine.advance(rest).yhat.tobytes() == undisturbed.advance(rest).yhat.tobytes()
    assert daemon.engine.scores()[0].scored == undisturbed.scores()[0].scored


def test_a_checkpoint_taken_while_the_engine_runs_is_of_one_position(make_daemon: Callable[..., Daemon]) -> None:
    first = make_daemon()
    first.turn_until(first.saved)
    again = make_daemon()
    assert 0 < again.at < first.at
    assert_goes_on_as_if_never_stopped(again)


def test_checkpoint_after_checkpoint_the_newest_is_taken(make_daemon: Callable[..., Daemon]) -> None:
    first = make_daemon()
    for _ in range(4):
        at = first.at
        first.checkpointer.begin_at_once()
        first.turn_until(lambda at=at: first.checkpointer._saved_marks and position_of(first) > at)
    assert make_daemon().at == position_of(first)


def position_of(daemon: Daemon) -> int:
    """Of the newest checkpoint that the daemon believes to stand."""
    assert daemon.checkpointer._saved_marks
    return int(daemon.checkpointer._saved_marks[b"ticks"].position.split(b"-")[0])


def test_nothing_is_written_before_it_is_due(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(every_seconds=3600)
    for _ in range(50):
        daemon.turn()
    assert daemon.checkpointer._copying is None
    assert daemon.saved() == 0
    assert 0 <= daemon.metric("checkpoint_age_seconds", partition="default") < 60


def test_a_stop_leaves_a_checkpoint_of_the_last_position(make_daemon: Callable[..., Daemon]) -> None:
    first = make_daemon(every_seconds=3600)
    for _ in range(7):
        first.turn()
    first.finish()
    again = make_daemon()
    assert again.at == first.at == 70
    assert_goes_on_as_if_never_stopped(again)


@pytest.mark.parametrize("turns", range(6))
def test_a_stop_in_the_middle_of_a_checkpoint_leaves_the_last_position_too(
    make_daemon: Callable[..., Daemon], turns: int
) -> None:
    first = make_daemon()
    for _ in range(turns):
        first.turn()
    first.finish()
    assert make_daemon().at == first.at or first.at == 0


def test_a_stop_where_nothing_came_since_writes_nothing(make_daemon: Callable[..., Daemon]) -> None:
    first = make_daemon(every_seconds=3600)
    first.turn()
    first.finish()
    generation = first.store.generations()
    first.finish()
    assert first.store.generations() == generation


def test_an_idle_stream_is_not_saved_again_and_yet_its_checkpoint_is_not_old(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon()
    daemon.turn_until(daemon.saved)
    daemon.finish()
    generations = daemon.store.generations()
    daemon.telemetry.put_checkpoint("default", 1, time.time() - 1000)
    daemon.checkpointer.begin_at_once()
    daemon.checkpointer.at_position(daemon.marks)
    assert daemon.metric("checkpoint_age_seconds", partition="default") < 60
    assert daemon.store.generations() == generations


def test_a_commit_that_is_fenced_off_at_the_stop_is_told_to_the_caller(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(every_seconds=3600)
    daemon.turn()

    def lose(_commands: list[Any]) -> None:
        raise LeaseLost("somebody else")

    with pytest.raises(LeaseLost):
        daemon.finish(lose)


def test_a_stream_that_went_is_remembered(make_daemon: Callable[..., Daemon]) -> None:
    first = make_daemon()
    here = first.marks
    first.marks = lambda: [*here(), Mark(b"gone", b"3-0", 3)]
    first.turn_until(first.saved)
    first.marks = here
    first.finish()
    assert make_daemon().restored.marks[b"gone"] == Mark(b"gone", b"3-0", 3)


class Stubborn:
    """A store whose writing goes wrong or takes long."""

    limit_bytes = None
    advice = ""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def generations(self) -> list[Any]:
        return []

    def write(self, packed: Any, pause: Callable[[float], None]) -> Any:
        pause(0.0)
        self.act()
        pause(0.0)
        raise AssertionError

    def forget(self, generations: Any) -> list[Any]:
        return []

    def tidy(self) -> None: ...

    def close(self) -> None: ...


def refuse() -> None:
    raise CheckpointFailed("no space left")


def test_a_failure_is_counted_told_once_and_tried_again(
    make_daemon: Callable[..., Daemon], redis_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = Daemon(Stubborn(refuse), redis_server)  # type: ignore[arg-type]
    daemon.turn_until(lambda: daemon.metric("checkpoint_failures_total") >= 3)
    assert capsys.readouterr().out.count("checkpoint_failed") == 1
    daemon.checkpointer.close()


def test_a_store_that_hangs_does_not_hold_up_a_stop(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretick.app.checkpointing.FINISH_SECONDS", 0.3)
    release = threading.Event()
    daemon = Daemon(Stubborn(release.wait), redis_server)  # type: ignore[arg-type]
    daemon.turn()
    begun = time.monotonic()
    daemon.finish()
    assert time.monotonic() - begun < 2
    assert daemon.metric("checkpoint_failures_total") == 1
    release.set()
    daemon.checkpointer.close()


def test_too_much_state_for_redis_is_told_with_the_way_out(
    redis_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RedisStore(RedisConnection(redis_server.url, timeout_seconds=5), BASE, 1000)
    daemon = Daemon(store, redis_server)
    daemon.turn_until(lambda: daemon.metric("checkpoint_failures_total") >= 2)
    told = capsys.readouterr().out
    assert told.count("raise checkpoint.redis_max, or set checkpoint.store to a folder") == 1
    assert redis_server.client().keys(BASE + b"*") == []
    daemon.checkpointer.close()


def test_a_full_redis_is_left_without_rubbish_and_tried_again(
    private_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = private_server("redis")
    store = RedisStore(RedisConnection(server.url, timeout_seconds=5), BASE, 64_000_000)
    daemon = Daemon(store, server, recipe=replace(RECIPE, window=4096))
    client = server.client()
    daemon.turn(600)
    client.config_set("maxmemory", client.info("memory")["used_memory"])
    daemon.turn_until(lambda: daemon.metric("checkpoint_failures_total") >= 1)
    assert client.keys(BASE + b":0*") == []
    client.config_set("maxmemory", 0)
    daemon.turn_until(daemon.saved)
    told = capsys.readouterr().out
    assert told.count("checkpoint_failed") == 1
    assert told.count("checkpoints_resumed") == 1
    daemon.checkpointer.close()


# Restoring.


@pytest.fixture
def saved_twice(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that left two generations: at 10, and at 20."""
    daemon = make_daemon(every_seconds=3600)
    for _ in range(2):
        daemon.turn()
        daemon.finish()
    assert [generation.number for generation in daemon.store.generations()] == [2, 1]
    return daemon


def test_a_damaged_generation_gives_way_to_the_one_before(
    saved_twice: Daemon,
    make_daemon: Callable[..., Daemon],
    redis_server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage_newest(saved_twice, redis_server)
    again = make_daemon()
    assert again.at == 10
    assert again.metric("checkpoint_failures_total") == 1
    assert "checksum" in capsys.readouterr().out
    assert_goes_on_as_if_never_stopped(again)
    assert [generation.number for generation in again.store.generations()] == [1]


def damage_newest(daemon: Daemon, server: Server) -> None:
    newest = daemon.store.generations()[0]
    if isinstance(daemon.store, FolderStore):
        path = daemon.store._path(newest)
        raw = bytearray(path.read_bytes())
        raw[1000] ^= 4
        path.write_bytes(raw)
    else:
        key = BASE + b":" + newest.name.encode()
        raw = bytearray(server.client().hget(key, 0))
        raw[1000] ^= 4
        server.client().hset(key, 0, bytes(raw))


def test_a_generation_beyond_the_committed_position_is_never_used_again(
    saved_twice: Daemon, make_daemon: Callable[..., Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_daemon(standing=Standing({b"ticks": b"15-0"})).at == 10
    assert "beyond the committed 15-0" in capsys.readouterr().out
    assert make_daemon(standing=Standing({b"ticks": b"99-0"})).at == 10


def test_one_stream_of_several_that_was_created_anew_does_not_cost_the_state_of_the_others(
    make_daemon: Callable[..., Daemon],
) -> None:
    first = make_daemon(every_seconds=3600)
    first.marks = lambda: [Mark(b"ticks", b"10-0", 10), Mark(b"other", b"50-0", 9)]
    first.turn()
    first.finish()
    positions = {b"ticks": b"10-0", b"other": b"0-0"}
    assert make_daemon(standing=Standing(positions, {b"other"})).restored
    assert not make_daemon(standing=Standing(positions)).restored


def test_the_only_stream_created_anew_begins_anew(saved_twice: Daemon, make_daemon: Callable[..., Daemon]) -> None:
    assert not make_daemon(standing=Standing({b"ticks": b"0-0"}, {b"ticks"})).restored


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"history": "another"}, "another Redis"), ({"discard_before_ms": 2**62}, "discarded")],
)
def test_what_is_not_ours_or_not_wanted_is_refused(
    saved_twice: Daemon,
    make_daemon: Callable[..., Daemon],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    reason: str,
) -> None:
    assert not make_daemon(**change).restored
    assert capsys.readouterr().out.count(reason) == 2
    assert make_daemon().store.generations() == []


def test_what_was_saved_after_the_start_is_not_discarded(
    saved_twice: Daemon, make_daemon: Callable[..., Daemon]
) -> None:
    assert make_daemon(discard_before_ms=1).at == 20


def test_a_model_of_another_shape_is_an_end_with_the_way_out(
    saved_twice: Daemon, make_daemon: Callable[..., Daemon]
) -> None:
    with pytest.raises(StateUnreadable, match=r"hidden was 8, is 16; window was 24, is 25.*--discard-state") as error:
        make_daemon(recipe=replace(RECIPE, hidden=16, window=25))
    assert error.value.exit_code == 4
    assert make_daemon().at == 20


def test_settings_that_shape_nothing_are_applied(saved_twice: Daemon, make_daemon: Callable[..., Daemon]) -> None:
    again = make_daemon(recipe=replace(RECIPE, max_series=9, learn=replace(RECIPE.learn, every=3, enabled=False)))
    assert again.at == 20
    assert again.engine.recipe.max_series == 9


def test_the_word_of_a_history_stands_until_redis_is_emptied(redis_server: Server) -> None:
    connection = RedisConnection(redis_server.url, timeout_seconds=5)
    connection.open()
    word = history_of(connection, BASE)
    assert history_of(connection, BASE) == word
    assert history_of(connection, BASE, is_new=True) != word
    word = history_of(connection, BASE)
    redis_server.client().flushall()
    assert history_of(connection, BASE) != word
    connection.close()
