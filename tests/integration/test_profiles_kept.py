"""The state of every profile, with all that can be asked of it, goes through a checkpoint and comes back whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretick.app.restoring import differences
from foretick.app.states import Identity, Mark, State, check_fit, pack_state, unpack_state
from foretick.core.engine import Engine
from foretick.core.profiles import PROFILES
from foretick.core.records import Ticks
from foretick.core.snapshots import flatten, unflatten
from foretick.ports.checkpoints import unpack

ROUNDS = 60


def ticks_of(start, stop):
    n = stop - start
    ms = np.arange(start, stop, dtype=np.int64) * 60_000
    y = np.stack([np.sin(np.arange(start, stop) / 7), np.cos(np.arange(start, stop) / 5)], axis=1)
    return Ticks([b"ticks\0a"] * n, ms, ms, np.ones(n, np.bool_), y)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_checkpoint_of_any_profile_is_taken_up_to_the_bit(profile):
    recipe = replace(PROFILES[profile](), features=("a", "b"), targets=("a", "b"), horizon=2, layers=2)
    engine, again = Engine(recipe), Engine(recipe)
    engine.advance(ticks_of(0, ROUNDS))
    identity = Identity("default", "word", {"default": engine.layout})
    state = State(identity, {b"ticks": Mark(b"ticks", b"1-0", 1)}, 1, {"default": engine.snapshot()})
    found = unpack_state(unpack(b"".join(map(bytes, pack_state(state).pieces()))))
    check_fit(again, found.snapshots["default"])
    again.restore(found.snapshots["default"])
    rest = ticks_of(ROUNDS, 2 * ROUNDS)
    assert engine.advance(rest).values.tobytes() == again.advance(rest).values.tobytes()


def test_a_checkpoint_from_before_outcomes_were_noted_aside_is_taken_up_to_the_bit():
    engine, again = Engine(PROFILES["accurate"]()), Engine(PROFILES["accurate"]())
    ticks = replace(ticks_of(0, ROUNDS), y=ticks_of(0, ROUNDS).y[:, 0])
    noted, stop = {"arena.linear.noted", "arena.readout.noted"}, 20
    engine.advance(ticks.slice(0, stop))
    while any(engine.snapshot().arrays[name].any() for name in noted):
        engine.advance(ticks.slice(stop, stop + 1))
        stop += 1
    arrays, facts = flatten(engine.snapshot())
    before = {name: array for name, array in arrays.items() if not name.endswith((".U", ".noted"))}
    assert len(arrays) - len(before) == 4
    found = unflatten(before, facts)
    check_fit(again, found)
    again.restore(found)
    rest = ticks.slice(stop, ROUNDS)
    assert engine.advance(rest).values.tobytes() == again.advance(rest).values.tobytes()


@pytest.mark.parametrize("profile", ["balanced", "lean"])
def test_a_layout_from_before_a_part_without_meaning_went_is_the_same_model(profile):
    now = {"default": Engine(PROFILES[profile]()).layout}
    before = {"default": now["default"] | {"compact.packed": True}}
    assert differences(before, now) == ""
    assert "hidden was 8" in differences({"default": now["default"] | {"hidden": 8}}, now)
