from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretick.core.records import Forecasts, Verdict
from foretick.ports.wire import DeadLetter, dead_fields, decode, forecast_fields, publications, refusals

MS = 1_700_000_000_000
VALUES = st.floats(-1e30, 1e30)


def decoded(*ticks):
    rows = [[b"series", series.encode(), b"value", repr(y).encode()] for series, y in ticks]
    return decode([[b"%d-%d" % (MS, i), fields] for i, fields in enumerate(rows)], b"t")


def forecasts(yhat, *, warm=False):
    answer = Forecasts.empty(len(yhat))
    answer.yhat[:] = yhat
    answer.warm[:] = warm
    return answer


def test_a_forecast_has_the_fields_of_the_contract_in_their_order():
    published = forecast_fields(decoded(("a", 71.0), ("b", 0.1)), forecasts([70.5, 1e-7], warm=[False, True]))
    ts = b"%d" % MS
    assert published == [
        (b"%d-0" % MS, (b"series", b"a", b"ts", ts, b"y", b"71.0", b"yhat", b"70.5", b"stage", b"cold")),
        (b"%d-1" % MS, (b"series", b"b", b"ts", ts, b"y", b"0.1", b"yhat", b"1e-07", b"stage", b"warm")),
    ]


def test_numbers_that_a_forecast_does_not_have_are_absent_and_order_is_kept():
    names = ("yhat", "yhat_lower_80", "yhat_upper_80", "anomaly_score")
    answer = Forecasts.empty(4, names)
    answer.values[:] = [[1, np.nan, np.nan, np.nan], [2, 1, 3, 0.5], [3, 2, 4, np.nan], [4, 3, 5, 0.25]]
    published = forecast_fields(decoded(*((name, 1.0) for name in "abcd")), answer)
    assert [flat[1] for _, flat in published] == [b"a", b"b", b"c", b"d"]
    assert [id_ for id_, _ in published] == [b"%d-%d" % (MS, i) for i in range(4)]
    told = [dict(zip(flat[6:-2:2], flat[7:-2:2], strict=True)) for _, flat in published]
    assert told == [
        {b"yhat": b"1.0"},
        {b"yhat": b"2.0", b"yhat_lower_80": b"1.0", b"yhat_upper_80": b"3.0", b"anomaly_score": b"0.5"},
        {b"yhat": b"3.0", b"yhat_lower_80": b"2.0", b"yhat_upper_80": b"4.0"},
        {b"yhat": b"4.0", b"yhat_lower_80": b"3.0", b"yhat_upper_80": b"5.0", b"anomaly_score": b"0.25"},
    ]
    assert {flat[-2] for _, flat in published} == {b"stage"}


def test_no_ticks_make_no_forecasts():
    assert forecast_fields(decode([], b"t"), Forecasts.empty(0)) == []
    assert publications(decode([], b"t"), Forecasts.empty(0), {}) == {}


def test_refused_ticks_get_a_dead_letter_and_no_forecast():
    ticks = decoded(("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0))
    answer = forecasts([1.0, np.nan, np.nan, np.nan])
    answer.verdict[1:] = [Verdict.LATE, Verdict.DUPLICATE, Verdict.TOO_MANY_SERIES]
    assert [id_ for id_, _ in forecast_fields(ticks, answer)] == ticks.ids[:1]
    letters = refusals(ticks, answer)
    assert [letter.reason for letter in letters] == ["late", "duplicate", "too_many_series"]
    assert [letter.id for letter in letters] == ticks.ids[1:]
    assert letters[0].fields == [b"series", b"b", b"value", b"2.0"]


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20))
def test_numbers_read_back_equal(pairs):
    published = forecast_fields(decoded(*(("a", y) for y, _ in pairs)), forecasts([yhat for _, yhat in pairs]))
    read = [(float(flat[5]).hex(), float(flat[7]).hex()) for _, flat in published]
    assert read == [(y.hex(), yhat.hex()) for y, yhat in pairs]


def test_latest_is_the_last_published_forecast_of_each_series_as_json():
    ticks = decoded(("a", 1.0), ('"ü\\', 2.0), ("a", 3.0), ("a", 4.0))
    answer = forecasts([1.5, 1e22, 3.5, np.nan], warm=True)
    answer.verdict[3] = Verdict.LATE
    [(_, _, *pairs)] = publications(ticks, answer, {b"t": (b"f", b"f:latest")})[b"t"].latest.commands
    latest = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert {name: json.loads(text) for name, text in latest.items()} == {
        b"a": {"series": "a", "ts": MS, "y": 3.0, "yhat": 3.5, "stage": "warm"},
        '"ü\\'.encode(): {"series": '"ü\\', "ts": MS, "y": 2.0, "yhat": 1e22, "stage": "warm"},
    }


def test_a_dead_letter_carries_reason_detail_and_the_raw_entry():
    letter = DeadLetter(b"1-1", "bad_series", "why", [b"series", b"\xff\n", b"value", b"1", b"value", b"2"])
    reason, detail, raw = dead_fields(letter)[1::2]
    assert (reason, detail) == (b"bad_series", b"why")
    assert json.loads(raw) == {"series": "\\xff\n", "value": "1"}


def test_a_huge_entry_makes_a_small_dead_letter():
    huge = b"x" * 1_000_000
    pairs = [(huge, huge), *((b"%d" % i, "🔥".encode() * 1001) for i in range(500))]
    raw = dead_fields(DeadLetter(b"1-1", "too_large", "why", [part for pair in pairs for part in pair]))[5]
    shown = json.loads(raw)
    assert shown["x" * 1000 + "…"] == "x" * 1000 + "…"
    assert shown["0"] == "🔥" * 1000 + "…"
    assert shown["…"] == "437 more fields"
    assert len(raw) < 300_000


@given(st.lists(st.binary(max_size=30), max_size=12))
def test_any_raw_entry_can_be_written(fields):
    raw = dead_fields(DeadLetter(b"1-1", "bad_ts", "", fields))[5]
    assert isinstance(json.loads(raw.decode()), dict)
