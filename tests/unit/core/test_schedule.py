from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretick.core.arena import Arena
from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.schedule import Schedule
from property.engine_streams import SMALL, columns

EVERY = LearnRecipe(early_every=2, every=8, early_until=20)


def cut_positions(ticks, recipe=EVERY, sizes=(10**6,)):
    """(position of the first tick after each cut, the schedule), taking (series, ms) ticks in batches."""
    arena, schedule = Arena(Recipe(), 4), Schedule()
    rows = arena.admit([b"%d" % s for s, _ in ticks], np.array([at for _, at in ticks], np.int64))
    ms = np.array([at for _, at in ticks], np.int64)
    start, turn, cuts = 0, 0, []
    while start < len(rows):
        end = min(start + sizes[turn % len(sizes)], len(rows))
        turn += 1
        while start < end:
            start += schedule.take(arena, rows[start:end], ms[start:end], recipe)
            if start < end:
                cuts.append(start)
                schedule.cut()
    return cuts, schedule


def plain_cuts(ticks, recipe=EVERY):
    """The same, one tick at a time, from the rule's sentence."""
    seen, count, floor, t, cuts, last_ms = set(), 0, 0, 0.0, [], -1
    for i, (series, ms) in enumerate(ticks):
        active = max(len(seen), floor, 1)
        every = recipe.early_every if t < recipe.early_until else recipe.every
        if ms != last_ms and count >= every * active:
            t += count / active
            cuts.append(i)
            floor, seen, count = active // 2, set(), 0
        seen.add(series)
        count += 1
        last_ms = ms
    return cuts, t


def rounds(series, count, first_ms=0):
    return [(s, first_ms + i) for i in range(count) for s in range(series)]


ticks_in_time = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=200).map(
    lambda pairs: list(zip([s for s, _ in pairs], np.cumsum([0, *(gap for _, gap in pairs)]).tolist(), strict=False))
)


@settings(deadline=None, max_examples=60)
@given(ticks_in_time, st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_cuts_fall_where_the_rule_says_in_any_batches(ticks, sizes):
    cuts, schedule = cut_positions(ticks, sizes=sizes)
    assert (cuts, schedule.t) == plain_cuts(ticks)
    assert schedule.cuts == len(cuts)


@settings(deadline=None, max_examples=60)
@given(ticks_in_time)
def test_no_cut_falls_inside_a_millisecond(ticks):
    cuts, _ = cut_positions(ticks)
    assert all(ticks[i][1] > ticks[i - 1][1] for i in cuts)


@pytest.mark.parametrize("series", [1, 3, 50])
def test_an_interval_is_counted_in_ticks_per_series(series):
    cuts, _ = cut_positions(rounds(series, 100))
    early = [series * 2 * k for k in range(1, 11)]
    later = [series * (20 + 8 * k) for k in range(1, 10)]
    assert cuts == early + later


def test_ticks_of_one_millisecond_are_never_parted_however_many_they_are():
    assert cut_positions([(i % 3, 0) for i in range(1000)])[0] == []
    assert cut_positions([*((i % 3, 0) for i in range(1000)), (0, 1), (1, 1), (0, 2)])[0] == [1000]


def test_one_series_in_a_burst_counts_as_one_series():
    # Three series are awake; the burst is of one of them, so an interval stays six ticks.
    ticks = [*rounds(3, 2), *((0, 10 + i) for i in range(20))]
    cuts, _ = cut_positions(ticks)
    assert cuts[0] == 6
    assert cuts[1] - cuts[0] == 2 * 1


def test_silent_series_are_forgotten_by_half_at_each_cut():
    ticks = [*rounds(64, 2), *((0, 1000 + i) for i in range(400))]
    cuts, _ = cut_positions(ticks)
    assert np.diff(cuts)[:5].tolist() == [64, 32, 16, 8, 4]
    assert np.diff(cuts)[5] == 2


def test_a_series_that_appears_counts_from_its_first_tick_on():
    cuts, schedule = cut_positions([*rounds(1, 4), *rounds(9, 4, first_ms=10)])
    assert cuts[:2] == [2, 4]
    assert cuts[2] == 4 + 18
    assert schedule.active == 9


def test_time_is_counted_in_ticks_per_active_series():
    _, schedule = cut_positions(rounds(5, 41))
    assert schedule.t == 36
    assert math.isclose(schedule.t + schedule.ticks / schedule.active, 41)


class Diary(InlineTrainer):
    """Writes down before which tick a job was submitted and collected."""

    def __init__(self):
        super().__init__(Engine(SMALL).shape, SMALL.learn)
        self.now, self.lines = 0, []

    def submit(self, job):
        self.lines.append(("submit", job.number, self.now))
        self.number = job.number
        super().submit(job)

    def collect(self):
        self.lines.append(("collect", self.number, self.now))
        return super().collect()


def test_the_weights_of_a_job_are_adopted_where_the_next_job_is_cut():
    trainer = Diary()
    engine = Engine(SMALL, trainer)
    ticks = columns(np.random.default_rng(0).standard_normal((40, 2)))
    for trainer.now in range(len(ticks)):
        before = engine._knowledge
        engine.advance(ticks.slice(trainer.now, trainer.now + 1))
        assert (engine._knowledge is not before) == (("collect", trainer.now) in [(a, c) for a, _, c in trainer.lines])
    submitted = [at for act, _, at in trainer.lines if act == "submit"]
    expected = [("submit", 0, submitted[0])]
    for number, at in enumerate(submitted[1:]):
        expected += [("collect", number, at), ("submit", number + 1, at)]
    assert trainer.lines == expected
    assert len(set(submitted)) == len(submitted) > 10
