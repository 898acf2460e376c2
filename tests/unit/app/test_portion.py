"""How many entries a turn takes, by how long the turns before it took."""

from __future__ import annotations

import pytest

from foretick.app.portion import AIM_SECONDS, BEARABLE_SECONDS, FIRST_ENTRIES, LEAST_ENTRIES, Portion

MOST = 4000


def taken(
    portion: Portion, turns: int, seconds_per_entry: float, fixed_seconds: float = 0.0, threads: int = 1
) -> list[int]:
    """What full turns take of a backlog without end, where so many threads do the same on one core."""
    found = []
    for _ in range(turns):
        found.append(portion.ask(MOST))
        core_seconds = fixed_seconds + found[-1] * seconds_per_entry
        portion.took(found[-1], core_seconds, core_seconds * threads)
    return found


def test_full_turns_that_take_no_time_double_up_to_the_most():
    assert taken(Portion(), 6, 0.0) == [FIRST_ENTRIES, 512, 1024, 2048, MOST, MOST]


def test_turns_come_to_take_as_long_as_is_aimed_at():
    found = taken(Portion(), 30, 50e-6, fixed_seconds=0.002)
    assert found[-1] * 50e-6 + 0.002 == pytest.approx(AIM_SECONDS, rel=0.05)
    assert found == sorted(found), "nothing is overshot"


def test_an_engine_that_needs_a_millisecond_for_each_is_given_few():
    found = taken(Portion(), 5, 0.001)
    assert found[0] == FIRST_ENTRIES
    assert found[-1] * 0.001 == pytest.approx(AIM_SECONDS)


def test_one_slow_turn_halves_what_is_taken_at_the_most():
    portion = Portion()
    taken(portion, 5, 0.0)
    before = portion.ask(MOST)
    portion.took(before, 60.0, 60.0)
    assert portion.ask(MOST) == before // 2


def test_however_long_turns_take_a_few_are_taken():
    assert taken(Portion(), 20, 10.0)[-1] == LEAST_ENTRIES


def test_turns_that_wait_for_others_do_not_shrink():
    portion = Portion()
    taken(portion, 5, 0.0)
    portion.took(MOST, 0.05, 1.0)  # it waited for learning
    assert portion.ask(MOST) == MOST


def test_turns_of_64_partitions_on_one_core_grow_as_the_turns_of_one():
    assert taken(Portion(), 20, 10e-6, threads=64)[-1] >= MOST // 2


def test_turns_of_however_many_partitions_end_before_a_lease_is_in_danger():
    found = taken(Portion(), 30, 20e-6, threads=256)
    assert found[-1] * 20e-6 * 256 == pytest.approx(BEARABLE_SECONDS, rel=0.05)


def test_turns_that_are_not_full_change_nothing_while_they_are_short():
    portion = Portion()
    for entries in (1, 100, FIRST_ENTRIES - 1):
        portion.took(entries, AIM_SECONDS, AIM_SECONDS)
        portion.took(entries, 0.0, 0.0)
    assert portion.ask(MOST) == FIRST_ENTRIES


def test_never_more_are_taken_than_are_allowed_even_if_that_changes():
    portion = Portion()
    taken(portion, 7, 0.0)
    assert portion.ask(10) == 10
    portion.took(10, 0.0, 0.0)
    assert portion.ask(10) == 10
    assert portion.ask(MOST) == 10
