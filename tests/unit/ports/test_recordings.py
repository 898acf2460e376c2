"""What is recorded is read as the daemon would take it, and what is no tick is named by its line."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.errors import UsageError
from foretick.ports.lines import LineReader
from foretick.ports.recordings import FAULTS_NAMED, UnusableRow, read_json_line, read_recordings
from foretick.ports.wire import decode


def written(folder, text, name="a.csv"):
    path = folder / name
    path.write_text(text)
    return path


def rows(recording):
    ticks = recording.ticks
    return list(zip(ticks.series, ticks.ts.tolist(), ticks.y.tolist(), strict=True))


def test_files_are_merged_by_time_and_equal_times_keep_their_order(tmp_path):
    one = written(tmp_path, "series,ts,value\na,1000,1\na,3000,3\n", "one.csv")
    two = written(tmp_path, "value,ts,series,note\n2,2000,b,x\n4,3000,c,y\n", "two.csv")
    assert rows(read_recordings([one, two])) == [
        (b"a", 1000, 1.0),
        (b"b", 2000, 2.0),
        (b"a", 3000, 3.0),
        (b"c", 3000, 4.0),
    ]


def test_one_id_of_two_sources_is_two_series(tmp_path):
    text = "source,series,ts,value\nx,a,1,1\ny,a,2,2\nx,b,3,3\n"
    recording = read_recordings([written(tmp_path, text)])
    assert [name for name, _, _ in rows(recording)] == [b"x/a", b"y/a", b"b"]
    assert recording.source_of == {b"x/a": "x", b"y/a": "y", b"b": "x"}


def test_a_gzipped_file_reads_the_same_and_a_damaged_one_is_named(tmp_path):
    text = b"series,ts,value\n" + b"".join(b"a,%d,%d\n" % (k, k * k) for k in range(1000))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(text))
    assert len(read_recordings([path]).ticks) == 1000
    damaged = bytearray(gzip.compress(text))
    damaged[60:80] = bytes(20)
    path.write_bytes(damaged)
    with pytest.raises(UsageError, match=r"a\.csv\.gz: cannot be read"):
        read_recordings([path])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a,1,x", "value is no decimal number: 'x'"),
        ("a,1,nan", "value is no decimal number: 'nan'"),
        ("a,1,1_0", "value is no decimal number: '1_0'"),
        ("a,1,1e31", "value exceeds 1e+30"),
        ("a,1", "value is no decimal number: ''"),
        ("a,1.5,1", "ts is no integer of Unix milliseconds: '1.5'"),
        ("a,-1,1", "ts is no integer"),
        ("a,99999999999999999,1", "ts is no integer"),
        (",1,1", "the series id is empty"),
        (f"{'a' * 201},1,1", "the series id has 201 bytes"),
    ],
)
def test_a_row_that_is_no_tick_is_named_by_file_and_line(tmp_path, row, why):
    path = written(tmp_path, f"series,ts,value\na,0,1\n{row}\na,2,1\n")
    recording = read_recordings([path])
    assert len(recording.ticks) == 2
    assert recording.unusable == 1
    assert recording.faults.named[0].startswith(f"{path}:3: {why}")
    with pytest.raises(UsageError, match=r"a\.csv:3: "):
        read_recordings([path], strict=True)


def test_of_many_such_rows_only_the_first_are_named(tmp_path):
    recording = read_recordings([written(tmp_path, "series,ts,value\n" + "a,1,x\n" * 50)])
    assert (recording.unusable, len(recording.faults.named)) == (50, FAULTS_NAMED)


def test_a_file_without_the_columns_says_which_it_needs(tmp_path):
    with pytest.raises(UsageError, match="no column 'ts' in its first line; the columns are series, ts, value"):
        read_recordings([written(tmp_path, "series,value\na,1\n")])
    with pytest.raises(UsageError, match="cannot be read"):
        read_recordings([tmp_path / "none.csv"])


@pytest.mark.parametrize(
    ("line", "tick"),
    [
        (b'{"series": "a", "value": 1.5, "ts": 1700000000000}', (b"a", 1.5, 1700000000000)),
        (b'{"value": "2e3"}', (None, 2000.0, None)),
        (b'{"value": 7, "series": "b", "more": [1]}\r', (b"b", 7.0, None)),
        ('{"value": 0.1, "series": "Öl"}'.encode(), ("Öl".encode(), 0.1, None)),
        (b"  ", None),
    ],
)
def test_a_line_of_json_is_a_tick(line, tick):
    assert read_json_line(line) == tick


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b"1",
        b'{"series": "a"}',
        b'{"value": true}',
        b'{"value": null}',
        b'{"value": NaN}',
        b'{"value": Infinity}',
        b'{"value": "1 2"}',
        b'{"value": 1, "series": 5}',
        b'{"value": 1, "series": ""}',
        b'{"value": 1, "series": "\\ud800"}',
        b'{"value": 1, "ts": 1.5}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_tick_is_refused(line):
    with pytest.raises(UnusableRow):
        read_json_line(line)


def test_several_features_are_columns_or_keys_by_name_and_some_may_be_absent(tmp_path):
    text = "series,ts,high,close\na,1,2,1\na,2,,3\na,3,,\na,4,x,1\n"
    recording = read_recordings([written(tmp_path, text)], ("close", "high"))
    np.testing.assert_array_equal(recording.ticks.y, [[1, 2], [3, np.nan]])
    assert recording.unusable == 2
    assert read_json_line(b'{"high": 2, "close": 1}', ("close", "high")) == (None, [1.0, 2.0], None)
    for line in (b'{"close": 1}', b'{"close": 1, "high": null}'):
        np.testing.assert_array_equal(read_json_line(line, ("close", "high"))[1], [1, np.nan])
    for line in (b'{"value": 1}', b'{"close": null}', b'{"close": true, "high": 1}'):
        with pytest.raises(UnusableRow):
            read_json_line(line, ("close", "high"))


@given(
    st.dictionaries(
        st.sampled_from(["series", "value", "ts"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=210),
    )
)
def test_whatever_json_is_taken_the_daemon_takes_too(row):
    import json

    try:
        tick = read_json_line(json.dumps(row).encode())
    except UnusableRow:
        return
    assert tick is not None
    series, value, ts = tick
    fields = [b"value", repr(value).encode()]
    fields += [] if series is None else [b"series", series]
    fields += [] if ts is None else [b"ts", str(ts).encode()]
    decoded = decode([[b"9007199254740991-0", fields]], b"ticks")  # arrived so late that no ts is ahead of it
    assert [letter.detail for letter in decoded.dead] == []
    assert decoded.ticks.y.tolist() == [value]


def test_lines_come_as_soon_as_they_are_whole():
    ours, theirs = os.pipe()
    reader = LineReader(ours)
    os.write(theirs, b"one\ntw")
    assert reader.read(1.0) == [b"one"]
    assert reader.read(0.0) == []
    os.write(theirs, b"o\n\nrest")
    assert reader.read(1.0) == [b"two", b""]
    os.close(theirs)
    assert reader.read(1.0) == [b"rest"]
    assert reader.at_end
    os.close(ours)
