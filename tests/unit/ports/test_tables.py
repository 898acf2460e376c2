"""Rows of several numbers from CSV files."""

from __future__ import annotations

import gzip

import pytest

from foretick.errors import UsageError
from foretick.ports.tables import read_tables


def test_columns_come_by_name_and_rows_in_order_of_time(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("ts,close,series,open\n2000,3,a,30\n1000,1,a,10\n1500,9,b,90\n")
    rows = read_tables([path], ["open", "close"]).rows
    assert {name: values.tolist() for name, values in rows.items()} == {"a": [[10, 1], [30, 3]], "b": [[90, 9]]}


def test_a_file_without_series_and_ts_is_one_series_of_its_own_name_as_it_stands(tmp_path):
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(gzip.compress(b"value\n30\n10\n20\n"))
    assert read_tables([path], ["value"]).rows["counts"].tolist() == [[30], [10], [20]]


def test_sources_that_use_one_name_are_told_apart(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("source,series,value\neast,a,1\nwest,a,2\nwest,b,3\n")
    assert read_tables([path], ["value"]).rows.keys() == {"east/a", "west/a", "b"}


def test_rows_that_are_no_numbers_are_counted_and_left_out(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("value,other\n1,1\nnan,1\n2\n\n3,3\n")
    tables = read_tables([path], ["value", "other"])
    assert (tables.rows["x"].tolist(), tables.unusable) == ([[1, 1], [3, 3]], 2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"open,close\n1,2\n", "no column 'value' in its first line, which has open, close"),
        (b"", "no column 'value' in its first line, which has no columns at all"),
        (b"value\n\xff\n", "cannot be read"),
    ],
    ids=["other columns", "empty", "no text"],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path, content, why):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"x.csv: {why}"):
        read_tables([path], ["value"])
    with pytest.raises(UsageError, match=r"cannot be read: .*No such file"):
        read_tables([tmp_path / "none.csv"], ["value"])
