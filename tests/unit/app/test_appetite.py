"""How many entries are asked for, by what came before."""

from __future__ import annotations

from foretick.app.appetite import COMFORT_BYTES, REPLY_MAX_BYTES, Appetite

MEGABYTE = 1_000_000


def test_small_entries_are_asked_for_in_full() -> None:
    appetite = Appetite()
    for _ in range(3):
        assert appetite.ask(500) == 500
        appetite.took(500 * 150)


def test_after_a_large_reply_the_next_one_is_bearable_and_after_small_ones_all_are_asked_for_again() -> None:
    appetite = Appetite()
    assert appetite.ask(40) == 40
    appetite.took(40 * MEGABYTE)
    asked = appetite.ask(40)
    assert 1 < asked * MEGABYTE <= COMFORT_BYTES
    appetite.took(asked * MEGABYTE)
    assert appetite.ask(40) == asked, "as much as is bearable stays"
    counts = []
    while appetite.ask(40) < 40:
        counts.append(appetite.ask(40))
        appetite.took(100 * counts[-1])
    assert counts == [16, 32]


def test_what_is_broken_off_is_asked_for_in_ever_smaller_pieces_and_a_single_entry_is_taken_whatever_it_is() -> None:
    appetite = Appetite()
    asked = []
    while True:
        asked.append(appetite.ask(500))
        if appetite.limit_bytes is None:
            break
        assert appetite.limit_bytes == REPLY_MAX_BYTES
        appetite.choked()
    assert asked == [500, 62, 7, 1]
    appetite.took(500 * MEGABYTE)
    assert appetite.ask(500) == 1


def test_fewer_are_asked_for_of_many_streams_and_what_they_give_counts() -> None:
    appetite = Appetite()
    assert appetite.ask(8) == 8
    appetite.took(4 * COMFORT_BYTES)
    assert appetite.ask(8) == 2
    assert appetite.ask(2) == 2
