"""Series find their rows, and rows their names, whoever came and went."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from foretick.core import names as names_module
from foretick.core.arena import Arena
from foretick.core.engine import Engine
from foretick.core.profiles import lean
from foretick.core.records import Ticks

RECIPE = lean()


def admit(rows: Arena, names: list[bytes], ms: int) -> list[int]:
    return rows.admit(names, np.full(len(names), ms)).tolist()


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Arena:
    monkeypatch.setattr(names_module, "STRETCH_ROWS", 8)
    return Arena(RECIPE, experts=5)


def test_the_joined_names_follow_the_series_that_come_and_go(rows: Arena):
    rng = random.Random(1)
    for ms in range(60):
        admit(rows, [b"%d" % rng.randrange(200) for _ in range(rng.randrange(20))], ms)
        if ms % 3 == 0:
            rows.forget(ms - rng.randrange(1, 6))
        if ms % 2 == 0:
            assert rows.names.joined().tobytes() == b"".join(filter(None, rows.names.by_row))
    assert None in rows.names.by_row
    assert len(rows) > 2 * 8


def test_a_series_that_comes_twice_in_a_batch_has_one_row_and_the_time_of_the_later_tick(rows: Arena):
    for names in ([b"a", b"new", b"a", b"new"], [b"a", b"new", b"a", b"new"]):  # as strangers, and as acquaintances
        assert rows.admit(names, np.arange(4)).tolist() == [0, 1, 0, 1]
        assert rows.last_ms.tolist() == [2, 3]


def test_strangers_beyond_the_limit_have_no_row_and_change_none(rows: Arena):
    rows.max_series = 2
    assert admit(rows, [b"a", b"b", b"c", b"a"], 1) == [0, 1, -1, 0]
    assert admit(rows, [b"c", b"b"], 2) == [-1, 1]
    assert rows.last_ms.tolist() == [1, 2]


def test_twenty_thousand_series_with_gaps_among_them_go_on_after_a_restore():
    names = [b"ticks\0%d" % i for i in range(20_000)]
    before, after = Engine(RECIPE), Engine(RECIPE)
    numbers = np.arange(len(names), dtype=np.int64)
    is_stamped, y = np.zeros(len(names), np.bool_), np.ones(len(names))
    before.advance(Ticks(names, numbers, numbers, is_stamped, y))
    before._forget(7_000)
    before.advance(Ticks(names[:50], numbers[:50] + 30_000, numbers[:50] + 30_000, is_stamped[:50], y[:50]))
    snapshot = before.snapshot()
    after.restore(snapshot)
    assert after.series_count == before.series_count == 13_050
    assert after._arena.names.by_row == before._arena.names.by_row
    again = after.snapshot()
    assert again.row_of == snapshot.row_of == {name: row for row, name in enumerate(before._arena.names.by_row) if name}
    assert all(np.array_equal(again.arrays[name], array) for name, array in snapshot.arrays.items())
    for engine in (before, after):
        engine.advance(Ticks([b"new", names[19_999], names[6_999]], *[numbers[:3] + 40_000] * 2, is_stamped[:3], y[:3]))
    assert after._arena.find([b"new", names[6_999]]).tolist() == before._arena.find([b"new", names[6_999]]).tolist()


@pytest.mark.parametrize(
    ("lengths", "joined", "reason"),
    [([1, 1], b"aa", "twice"), ([1, 2], b"ab", "add up"), ([1, -2], b"a", "add up"), ([2**31 - 1] * 3, b"", "add up")],
)
def test_names_that_cannot_be_are_refused(lengths: list[int], joined: bytes, reason: str):
    arrays = {"arena.name_length": np.array(lengths, np.int32), "names.bytes": np.frombuffer(joined, np.uint8)}
    with pytest.raises(ValueError, match=reason):
        replace(Engine(RECIPE).snapshot(), arrays=arrays).names_by_row  # noqa: B018  asking is what refuses


def test_rows_that_were_left_are_taken_by_the_next_in_order(rows: Arena):
    admit(rows, [b"%d" % i for i in range(6)], 1)
    rows.names.remove([1, 4, 2])
    assert admit(rows, [b"a", b"b"], 2) == [1, 2]
    assert admit(rows, [b"c", b"d"], 3) == [4, 6]
