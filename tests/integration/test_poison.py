"""A tick at which the engine fails is set aside after three failures; every other tick has its one forecast."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.recipe import Recipe
from foretick.ports.wire import decode, keyed
from partitions import Loop, Memory, forecasts, position, push, wait_answered
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from foretick.core.records import Forecasts, Ticks
    from servers import DaemonProcess, Server

pytestmark = pytest.mark.redis
DEAD = "foretick:{ticks}:dead"
POISON = 666.25
SKIPPED = "foretick:{default}:checkpoint:skipped"

# The daemon's own engine, made to fail at one value after it has taken the batch in: it is torn as a bug would tear it.
SPOILED = f"""
import importlib.abc, sys

class Spoiler(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "foretick.core.engine":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def spoil(module):
            load(module)
            advance = module.Engine.advance
            def advance_and_fail(engine, ticks):
                answer = advance(engine, ticks)
                if ({POISON} == ticks.y).any():
                    raise ValueError("cannot bear it")
                return answer
            module.Engine.advance = advance_and_fail
        spec.loader.exec_module = spoil
        return spec

import importlib.util
sys.meta_path.insert(0, Spoiler())
"""


def fails_at_poison(engine: Memory, ticks: Ticks) -> Forecasts:
    answer = Memory.advance(engine, ticks)  # the engine has moved on before it fails
    if POISON in ticks.y:
        raise ValueError(f"{POISON} is more than I can bear")
    return answer


def expected(client: redis.Redis) -> list[tuple[bytes, float]]:
    """What an engine makes of the stream that never saw the poison."""
    state: dict[bytes, float] = {}
    found = []
    for entry_id, fields in client.xrange("ticks"):
        if float(fields[b"value"]) != POISON:
            series = fields[b"series"]
            state[series] = np.float64(state.get(series, 0.0)) * 0.9 + float(fields[b"value"])
            found.append((entry_id, float(state[series])))
    return found


def letters(client: redis.Redis) -> dict[bytes, bytes]:
    return {entry_id: fields[b"reason"] for entry_id, fields in client.xrange(DEAD)}


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    return redis_server.client()


@pytest.fixture
def make_loop(redis_server: Server) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(engine: Any = fails_at_poison, **options: Any) -> Loop:
        made.append(Loop(redis_server.url, **options))
        made[-1].engine = engine
        return made[-1]

    yield make
    for loop in made:
        if not loop.stop_signal.is_set():
            loop.stop()


def poison(client: redis.Redis, series: str = "s1") -> bytes:
    return client.xadd("ticks", {"series": series, "value": str(POISON)})


def test_a_poisoned_tick_among_others_becomes_a_dead_letter_and_the_others_have_their_forecasts(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    push(client, 20)
    bad = poison(client)
    push(client, 20)
    loop = make_loop().start()
    wait_answered(client, 40)
    assert forecasts(client) == expected(client)
    assert letters(client) == {bad: b"engine_error"}
    [(_, letter)] = client.xrange(DEAD)
    assert letter[b"detail"] == b"ValueError: 666.25 is more than I can bear"
    assert b"666.25" in letter[b"fields"]
    assert len(loop.engines) == 1 + 3
    assert loop.metric("engine_failures_total") == 3
    wait_until(lambda: position(client) == (client.xrevrange("ticks", count=1)[0][0], 41, 0))
    assert loop.metric("dead_letters_total", stream="ticks", reason="engine_error") == 1
    assert loop.metric("ticks_total", stream="ticks") == 41
    wait_until(loop.is_ready)
    assert loop.condition("engine")


def test_several_poisoned_ticks_in_a_row_and_apart_each_become_one(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    bad = [poison(client)]
    push(client, 5)
    bad += [poison(client), poison(client, "s2")]
    push(client, 5)
    client.xadd("ticks", {"series": "s1", "value": "no number"})
    make_loop(count=4).start()
    wait_answered(client, 10)
    wait_until(lambda: client.xlen(DEAD) == 4)
    assert [entry_id for entry_id, reason in letters(client).items() if reason == b"engine_error"] == bad
    assert forecasts(client) == [pair for pair in expected_of_numbers(client) if pair[0] not in bad]


def expected_of_numbers(client: redis.Redis) -> list[tuple[bytes, float]]:
    client.xdel("ticks", client.xrevrange("ticks", count=1)[0][0])  # what is no number
    return expected(client)


def test_a_poisoned_tick_that_comes_alone_is_set_aside_and_what_follows_goes_on(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop().start()
    push(client, 3)
    wait_answered(client, 3)
    poison(client)
    wait_until(lambda: client.xlen(DEAD) == 1)
    wait_until(lambda: loop.condition("engine"))  # without any further tick
    push(client, 3)
    wait_answered(client, 6)
    assert forecasts(client) == expected(client)


def test_a_restart_leaves_the_poisoned_tick_out_even_when_its_letter_is_gone(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    push(client, 10)
    bad = poison(client)
    push(client, 10)
    loop = make_loop().start()
    wait_answered(client, 20)
    wait_until(lambda: client.xlen(DEAD) == 1)
    loop.stop()
    client.delete(DEAD)
    # This engine could bear it: to see the tick now would change all that follows in its series.
    again = make_loop(engine=Memory.advance).start()
    push(client, 10)
    wait_answered(client, 30)
    assert forecasts(client) == expected(client)
    assert again.metric("engine_failures_total") == 0
    assert client.hkeys(SKIPPED) == [b"ticks\0" + bad]
    again.stop()
    client.xtrim("ticks", minid=client.xrevrange("ticks", count=1)[0][0], approximate=False)
    make_loop().start()
    push(client, 1)
    wait_until(lambda: not client.exists(SKIPPED), what="what was trimmed to be forgotten")


def test_a_replay_that_fails_leaves_the_tick_out_from_then_on(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    push(client, 10)
    poison(client)
    push(client, 10)
    loop = make_loop(engine=Memory.advance).start()
    wait_answered(client, 21)
    loop.stop()
    make_loop().start()
    push(client, 3)
    wait_answered(client, 24)
    assert not client.exists(DEAD), "the tick has its forecast"
    assert client.hlen(SKIPPED) == 1


def test_an_accident_costs_no_tick(client: redis.Redis, make_loop: Callable[..., Loop]) -> None:
    accidents = iter([True, False, True, False])

    def fails_sometimes(engine: Memory, ticks: Ticks) -> Forecasts:
        answer = Memory.advance(engine, ticks)
        if len(ticks) and next(accidents, False):
            raise ZeroDivisionError
        return answer

    push(client, 30)
    loop = make_loop(engine=fails_sometimes).start()
    wait_answered(client, 30)
    assert forecasts(client) == expected(client)
    assert not client.exists(DEAD)
    wait_until(lambda: loop.metric("engine_failures_total") == 2)


def test_an_engine_that_fails_at_every_tick_neither_spins_nor_ends_the_loop_and_says_why(
    client: redis.Redis, make_loop: Callable[..., Loop]
) -> None:
    def fails(engine: Memory, ticks: Ticks) -> Forecasts:
        if len(ticks):
            raise RuntimeError("a bug")
        return Memory.advance(engine, ticks)

    push(client, 40)
    loop = make_loop(engine=fails).start()
    wait_until(lambda: not loop.condition("engine") and "RuntimeError: a bug" in loop.detail("engine"))
    wait_until(lambda: client.exists(DEAD) and client.xlen(DEAD) >= 2)
    assert loop.error is None
    assert len(loop.engines) < 40, "it spins"
    assert not loop.condition("engine")


def test_a_poisoned_tick_of_the_real_engine_changes_no_bit_of_the_others(
    redis_server: Server, tmp_path: Path, start_daemon: Callable[..., DaemonProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis_server.client()
    for i, value in enumerate(np.random.default_rng(1).standard_normal(60).cumsum().tolist()):
        client.xadd("ticks", {"series": f"s{i % 3}", "value": value}, id=f"{1000 + i}-0")
        if i == 30:
            client.xadd("ticks", {"series": "s0", "value": POISON}, id=f"{1000 + i}-1")
    (tmp_path / "sitecustomize.py").write_text(SPOILED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    daemon = start_daemon(redis_server.url, streams="ticks", model__hidden=16)
    wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 60, what="all forecasts")
    assert list(letters(client).values()) == [b"engine_error"]
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    sound = decode([entry for entry in entries if not entry[0].endswith(b"-1")], b"ticks")
    wanted = Engine(Recipe(hidden=16)).advance(keyed(sound)).yhat.tolist()
    assert forecasts(client) == list(zip(sound.ids, wanted, strict=True))
    assert daemon.output().count('"engine_failed"') == 3
    assert daemon.terminate() == 0
