"""Entries with several numbers each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.core.records import Forecasts
from foretick.ports.wire import FieldNames, Reason, decode, forecast_fields, publications

MS = 1_700_000_000_000
BAR = FieldNames(value="close", more=("high", "volume"))
PARTIAL = FieldNames(value="close", more=("high", "volume"), partial=True)


def entries(*rows):
    return [
        [b"%d-%d" % (MS, i), [part.encode() for pair in fields.items() for part in pair]]
        for i, fields in enumerate(rows)
    ]


def bar(close="1", high="2", volume="3", **more):
    return {"series": "a", "close": close, "high": high, "volume": volume, **more}


@pytest.mark.parametrize("n", [1, 40])
def test_the_features_become_columns_in_the_order_of_the_settings(n):
    decoded = decode(entries(*[bar("1", "2", "3e2", open="9")] * n), b"bars", BAR)
    assert decoded.ticks.y.tolist() == [[1.0, 2.0, 300.0]] * n
    assert decoded.dead == []


@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize(
    ("fields", "reason", "named"),
    [
        ({"series": "a", "close": "1", "high": "2"}, Reason.MISSING_FIELD, "volume"),
        (bar(high="x"), Reason.NOT_A_NUMBER, "high"),
        (bar(volume="nan"), Reason.OUT_OF_RANGE, "volume"),
        (bar(close="1e31"), Reason.OUT_OF_RANGE, "close"),
    ],
)
def test_one_bad_feature_makes_a_dead_letter_that_names_it(n, fields, reason, named):
    decoded = decode(entries(*[bar()] * n, fields, *[bar()] * n), b"bars", BAR)
    assert len(decoded.ticks) == 2 * n
    [letter] = decoded.dead
    assert letter.reason == reason
    assert f"`{named}`" in letter.detail


@pytest.mark.parametrize("n", [1, 40])
def test_where_groups_need_different_features_an_absent_one_is_not_a_number(n):
    rows = [{"series": "a", "close": "1"}, bar(), {"series": "b", "high": "7"}] * n
    decoded = decode(entries(*rows), b"bars", PARTIAL)
    nan = np.nan
    wanted = [[1, nan, nan], [1, 2, 3], [nan, 7, nan]] * n
    assert np.array_equal(decoded.ticks.y, np.array(wanted, float), equal_nan=True)
    [letter] = decode(entries({"series": "a", "open": "1"}), b"bars", PARTIAL).dead
    assert letter.reason == Reason.MISSING_FIELD
    assert "close, high, volume" in letter.detail


TEXTS = st.one_of(st.floats(-1e30, 1e30).map(repr), st.sampled_from(["", "x", "inf", "1e31", " 1"]))


@given(
    st.lists(st.dictionaries(st.sampled_from(["close", "high", "volume", "open"]), TEXTS), max_size=40),
    st.sampled_from([BAR, PARTIAL]),
)
def test_a_batch_of_features_reads_as_its_entries_do_one_by_one(rows, fields):
    batch = entries(*rows)
    whole = decode(batch, b"a", fields)
    parts = [decode([one], b"a", fields) for one in batch]
    assert whole.ticks.y.tobytes() == b"".join(part.ticks.y.tobytes() for part in parts)
    assert whole.dead == [letter for part in parts for letter in part.dead]


def test_forecasts_of_two_targets_carry_each_its_value_and_its_name():
    decoded = decode(entries(bar("1", "2"), bar("3", "4")), b"bars", BAR)
    names = ("y.close", "yhat.close", "y.high", "yhat.high")
    answer = Forecasts(np.zeros(2, np.uint8), np.ones(2, bool), names, np.array([[1, 1.5, 2, 2.5], [3, 3.5, 4, 4.5]]))
    published = forecast_fields(decoded, answer)
    flat = dict(zip(published[1][1][::2], published[1][1][1::2], strict=True))
    assert flat == {
        b"series": b"a",
        b"ts": b"%d" % MS,
        b"y.close": b"3.0",
        b"yhat.close": b"3.5",
        b"y.high": b"4.0",
        b"yhat.high": b"4.5",
        b"stage": b"warm",
    }
    latest = publications(decoded, answer, {b"bars": (b"f", b"f:latest")})[b"bars"].latest
    assert latest.commands[0][3].startswith(b'{"series":"a","ts":%d,"y.close":3.0' % MS)
    assert answer.yhat.tolist() == [1.5, 3.5]
