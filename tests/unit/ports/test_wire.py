from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.ports.wire import Decoded, FieldNames, Reason, decode
from foretick.ports.wire.columns import FAST_MIN_ENTRIES

MS = 1_700_000_000_000
DAY_MS = 86_400_000
PLAIN = FieldNames()
ARABIC_ONE = "\u0661"  # a digit to float() and int()


def row(**fields):
    return [part if isinstance(part, bytes) else part.encode() for pair in fields.items() for part in pair]


def entry(i=0, /, ms=MS, **fields):
    return [b"%d-%d" % (ms, i), row(**fields)]


def crowd(**texts):
    """The entry first among enough ordinary ones of its layout to take the fast path; ids in order."""
    ordinary = row(**dict.fromkeys(texts, "5"))
    rows = [row(**texts), *[ordinary] * (2 * FAST_MIN_ENTRIES)]
    return [[b"%d-%d" % (MS, i), fields] for i, fields in enumerate(rows)]


def one(fields=PLAIN, stream=b"ticks", **texts):
    """The reason or the tick, first alone, then in a crowd: always the same."""
    lone = decode([entry(**texts)], stream, fields)
    crowded = decode(crowd(**texts), stream, fields)
    assert len(lone.dead) + len(lone.ticks) == 1
    if lone.dead:
        assert crowded.dead[:1] == lone.dead
        return lone.dead[0].reason
    assert rows_of(crowded)[0] == rows_of(lone)[0]
    return rows_of(lone)[0][2:]


def rows_of(decoded: Decoded):
    ticks = decoded.ticks
    columns = (decoded.ids, ticks.ms.tolist(), ticks.series, ticks.ts.tolist(), ticks.stamped.tolist())
    return list(zip(*columns, [y.hex() for y in ticks.y.tolist()], strict=True))


@pytest.mark.parametrize(
    ("text", "y"),
    [
        ("71.3", 71.3),
        ("-1", -1.0),
        ("+1", 1.0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        (".5", 0.5),
        ("5.", 5.0),
        ("007", 7.0),
        ("1e30", 1e30),
        ("-1e30", -1e30),
        ("1e-400", 0.0),
        ("0" * 400, 0.0),
    ],
)
def test_a_decimal_number_is_a_value(text, y):
    assert one(series="a", value=text) == (b"a", MS, False, y.hex())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, Reason.NOT_A_NUMBER) for text in ("", "abc", "1_0", " 1", "1 ", "1\n", "0x1", "1,5", "1e", ".", "e5")),
        *(
            (text, Reason.NOT_A_NUMBER)
            for text in ("--1", "1-1", "1.2.3", ARABIC_ONE, "1\x00", "1\x002", "nan(1)", b"\xff")
        ),
        *((text, Reason.OUT_OF_RANGE) for text in ("nan", "NaN", "-nan", "inf", "-Infinity", "1e308", "1e999")),
        *((text, Reason.OUT_OF_RANGE) for text in ("1.0000001e30", "-1e31", "9" * 400)),
        *((text, Reason.TOO_LARGE) for text in ("0" * 401, "1" * 1_000_000, "x" * 401)),
    ],
)
def test_anything_else_is_a_dead_letter_with_the_reason(text, reason):
    assert one(series="a", value=text) == reason


def test_an_absent_value_is_a_missing_field():
    assert one(series="a") == Reason.MISSING_FIELD
    assert one(series="a", Value="1") == Reason.MISSING_FIELD


@pytest.mark.parametrize(
    "series",
    ["", "x" * 201, "a\nb", "\x00", "a\x7f", "a\x80b", "\x9f", b"\xff", b"\xc3", "\u00e9".encode() * 100 + b"\xa9"],
)
def test_a_series_id_of_a_wrong_length_or_with_invalid_bytes_is_refused(series):
    assert one(series=series, value="1") == Reason.BAD_SERIES


@pytest.mark.parametrize("series", ["a", " ", "boiler 7", "x" * 200, "ü" * 100, "Kessel-7°", "\u00a0", "🔥"])
def test_any_other_series_id_is_taken_as_it_is(series):
    assert one(series=series, value="1")[0] == series.encode()


@pytest.mark.parametrize("second", range(0xA0, 0xB0))  # sixteen, for the order of a set of two is a coin's
def test_two_halves_of_a_character_in_two_series_do_not_make_a_valid_one(second):
    halves = [b"\xc3", bytes((second,))] * FAST_MIN_ENTRIES
    batch = [entry(i, series=half, value="1") for i, half in enumerate(halves)]
    assert [letter.reason for letter in decode(batch, b"t").dead] == [Reason.BAD_SERIES] * len(batch)


def test_an_entry_without_series_belongs_to_the_series_of_its_stream():
    assert one(stream=b"ticks:boiler", value="1")[0] == b"ticks:boiler"
    assert one(stream=b"ticks\xff", value="1") == Reason.BAD_SERIES


@pytest.mark.parametrize(
    ("unit", "text", "ts"),
    [
        ("ms", str(MS), MS),
        ("ms", "0", 0),
        ("ms", "+5", 5),
        ("ms", "-0", 0),
        ("ms", str(MS + DAY_MS), MS + DAY_MS),
        ("ms", "0" * 19 + "5", 5),
        ("s", str(MS // 1000), MS),
        ("us", str(MS * 1000 + 999), MS),
        ("ns", str(MS * 1_000_000 + 999_999), MS),
    ],
)
def test_event_time_is_read_in_its_unit_and_floored_to_milliseconds(unit, text, ts):
    assert one(FieldNames(ts_unit=unit), series="a", value="1", ts=text)[1:3] == (ts, True)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        *(
            ("ms", text)
            for text in ("", "x", "1.5", " 1", "1_0", "-1", "1e3", ARABIC_ONE, "9" * 19, "9" * 20, "9" * 1_000_000)
        ),
        ("ms", str(MS + DAY_MS + 1)),
        ("ms", "0" * 20 + "5"),
        ("s", str(MS)),
        ("s", "9223372036854776"),
        ("us", "-1"),
        ("ns", str(MS * 1_000_000 * 3)),
    ],
)
def test_garbage_negative_and_far_future_event_times_are_refused(unit, text):
    assert one(FieldNames(ts_unit=unit), series="a", value="1", ts=text) == Reason.BAD_TS


def test_without_ts_the_entry_id_is_the_time():
    batch = [entry(i, ms=MS + i // 3, series="a", value="1") for i in range(20)]
    ticks = decode(batch, b"t").ticks
    assert ticks.ts.tolist() == ticks.ms.tolist() == [MS + i // 3 for i in range(20)]
    assert not ticks.stamped.any()


def test_ids_of_64_bits_are_read_exactly_and_those_beyond_any_time_are_refused():
    top = b"18446744073709551615"
    batch = [[b"9007199254740992-" + top, row(value="1")]] * 10 + [[top + b"-" + top, row(value="1")]]
    decoded = decode(batch, b"t")
    assert decoded.ticks.ms.tolist() == [1 << 53] * 10
    assert decoded.ids == [b"9007199254740992-" + top] * 10
    assert [(letter.id, letter.reason) for letter in decoded.dead] == [(top + b"-" + top, Reason.BAD_TS)]


def test_of_a_field_that_occurs_twice_the_first_counts():
    fields = [b"value", b"1", b"value", b"2", b"series", b"a", b"series", b"\xff"]
    for n in (1, 2 * FAST_MIN_ENTRIES):
        decoded = decode([[b"%d-0" % i, fields] for i in range(n)], b"t")
        assert set(decoded.ticks.series) == {b"a"}
        assert set(decoded.ticks.y.tolist()) == {1.0}


def test_field_names_can_be_chosen_and_unknown_fields_are_ignored():
    names = FieldNames(series="Sensor", value="Wert", ts="Zeit", ts_unit="s")
    batch = [entry(i, x="9", Zeit="5", Wert="2.5", value="junk", Sensor="b") for i in range(20)]
    ticks = decode(batch, b"t", names).ticks
    assert (ticks.series[7], ticks.ts[7], ticks.y[7]) == (b"b", 5000, 2.5)


def test_deleted_entries_shown_as_nil_are_skipped():
    batch = [[b"1-1", None], entry(series="a", value="1"), [b"1-3", None]]
    assert decode(batch, b"t").ids == [b"%d-0" % MS]
    assert len(decode([[b"1-1", None]], b"t").ticks) == 0
    assert len(decode([], b"t").ticks) == 0


def test_one_bad_entry_takes_no_good_one_with_it():
    batch = [entry(i, series=f"s{i}", value=str(i), ts=str(MS + i)) for i in range(100)]
    batch[13] = entry(13, series="s", value="x", ts="5")
    batch[50] = entry(50, other="1")
    batch[77] = entry(77, series="s", value="1", ts="x")
    decoded = decode(batch, b"t")
    assert [letter.id for letter in decoded.dead] == [batch[i][0] for i in (13, 50, 77)]
    assert decoded.ids == [batch[i][0] for i in range(100) if i not in {13, 50, 77}]
    assert decoded.ticks.y.tolist() == [i for i in range(100) if i not in {13, 50, 77}]
    assert decoded.rows == [batch[i][1] for i in range(100) if i not in {13, 50, 77}]


def test_arrival_times_are_not_changed_by_event_times():
    batch = [entry(i, series="s", value="1", ts="+5") for i in range(20)]
    ticks = decode(batch, b"t").ticks
    assert set(ticks.ms.tolist()) == {MS}
    assert set(ticks.ts.tolist()) == {5}


def test_a_million_values_of_bad_size_are_told_apart_in_the_detail_without_repeating_them():
    letter = decode([entry(series="a", value="7" * 1_000_000)], b"t").dead[0]
    assert "1000000 bytes" in letter.detail
    assert len(decode([entry(series="a", value="z" * 400)], b"t").dead[0].detail) < 200


ODD_TEXTS = st.one_of(
    st.sampled_from([b"", b"nan", b"-inf", b"1e308", b"1_0", b" 1", b"1\x00", b"+3", b"-0", b"0" * 401, b"\xff"]),
    st.binary(max_size=12),
    st.integers(-(1 << 70), 1 << 70).map(b"%d".__mod__),
    st.floats().map(lambda x: repr(x).encode()),
)
USUAL = {
    b"series": st.sampled_from([b"a", b"b", "ü".encode()]),
    b"value": st.floats(-1e30, 1e30).map(lambda x: repr(x).encode()),
    b"ts": st.integers(0, MS).map(b"%d".__mod__),
    b"other": st.binary(max_size=3),
}


@st.composite
def batches(draw):
    """Batches of a few layouts, mostly of usual texts, so that both paths are taken in most of them."""
    layouts = draw(st.lists(st.lists(st.sampled_from(sorted(USUAL)), min_size=1, max_size=5), min_size=1, max_size=3))
    batch = []
    for i in range(draw(st.integers(1, 40))):
        layout = draw(st.sampled_from(layouts))
        odd = draw(st.integers(0, 15)) == 0
        fields = [part for name in layout for part in (name, draw(ODD_TEXTS if odd else USUAL[name]))]
        batch.append([b"%d-%d" % (MS + i, i), None if draw(st.integers(0, 99)) == 0 else fields])
    return batch


@given(batches(), st.sampled_from(["s", "ms", "us", "ns"]))
def test_a_batch_reads_as_its_entries_do_one_by_one(batch, unit):
    names = FieldNames(ts_unit=unit)
    whole = decode(batch, b"key", names)
    parts = [decode([entry], b"key", names) for entry in batch]
    assert rows_of(whole) == [tick for part in parts for tick in rows_of(part)]
    assert whole.dead == [letter for part in parts for letter in part.dead]


RANDOM_ROWS = st.lists(
    st.tuples(st.one_of(st.sampled_from([b"series", b"value", b"ts"]), st.binary(max_size=8)), ODD_TEXTS), min_size=1
).map(lambda pairs: [part for pair in pairs for part in pair])


@given(rows=st.lists(RANDOM_ROWS, max_size=20), crowded=st.booleans())
def test_whatever_comes_each_entry_is_a_tick_or_a_dead_letter(rows, *, crowded):
    batch = [[b"%d-%d" % (MS, i), fields] for i, fields in enumerate(rows * (FAST_MIN_ENTRIES if crowded else 1))]
    decoded = decode(batch, b"key")
    assert sorted([*decoded.ids, *(letter.id for letter in decoded.dead)]) == sorted(entry[0] for entry in batch)
    assert np.isfinite(decoded.ticks.y).all()
    assert (decoded.ticks.ts >= 0).all()
