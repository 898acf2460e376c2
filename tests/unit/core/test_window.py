from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretick.core.columns import Column
from foretick.core.window import Window


def filled(length, histories):
    """A window into which the rows' values were pushed one by one."""
    column = Column((length,), np.float64)
    column.resize(len(histories))
    window = Window(column)
    for row, values in enumerate(histories):
        for t, value in enumerate(values):
            window.push(np.array([row]), np.array([t]), np.array([value]))
    return window


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=30), min_size=1, max_size=4))
def test_the_value_so_many_ticks_back_is_the_one_that_was_pushed_then(length, histories):
    window = filled(length, histories)
    rows, t = np.arange(len(histories)), np.array([len(values) - 1 for values in histories])
    back = np.arange(length)[:, None]
    found = window.at(rows, t, back)
    for row, values in enumerate(histories):
        known = list(reversed(values))[:length]
        assert found[: len(known), row].tolist() == known


def test_rows_may_be_asked_in_any_order_with_offsets_of_their_own():
    window = filled(4, [range(10), range(100, 107)])
    found = window.at(np.array([1, 0]), np.array([6, 9]), np.array([[0, 1], [3, 2]]))
    assert found.tolist() == [[106, 8], [103, 7]]


def test_growing_keeps_what_was_there_and_starts_empty():
    column = Column((3,), np.float64)
    column.resize(1)
    column.rows[0] = [1, 2, 0]
    column.resize(3)
    assert column.rows.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_what_was_asked_for_is_a_copy():
    window = filled(3, [[1.0, 2.0, 3.0]])
    found, latest = window.at(np.array([0]), np.array([2]), np.array([[0]])), window.latest(np.array([0]))
    window.push(np.array([0]), np.array([3]), np.array([9.0]))
    window.push(np.array([0]), np.array([2]), np.array([9.0]))
    assert found.tolist() == [[3]]
    assert latest.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_window_keeps_its_numbers_exactly(dtype):
    column = Column((2,), dtype)
    column.resize(1)
    window = Window(column)
    window.push(np.array([0]), np.array([0]), np.array([2**53 - 1], dtype))
    assert window.latest(np.array([0])).dtype == dtype
    assert window.latest(np.array([0]))[0, 0] == 2**53 - 1
