"""Parquet is read as the CSV of the same rows is; what is no tick is named by its row."""

from __future__ import annotations

import builtins
import datetime as dt

import pytest

from foretick.errors import UsageError
from foretick.ports.recordings import read_recordings
from servers import missing

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError:
    pa = None


@pytest.fixture
def written(tmp_path):
    if pa is None:
        missing("pyarrow")

    def write(**columns):
        path = tmp_path / "a.parquet"
        parquet.write_table(pa.table(columns), path)
        return path

    return write


def rows(path):
    ticks = read_recordings([path]).ticks
    return list(zip(ticks.series, ticks.ts.tolist(), ticks.y.tolist(), strict=True))


def test_a_parquet_file_reads_as_the_same_rows_of_csv(written, tmp_path):
    series, ts, value = ["a", "b", "a"], [1000, 2000, 3000], [0.1, 1e-300, -7.25]
    path = written(series=series, ts=ts, value=value, note=["x", "y", "z"])
    text = "series,ts,value\n" + "".join(f"{s},{t},{v!r}\n" for s, t, v in zip(series, ts, value, strict=True))
    csv = tmp_path / "a.csv"
    csv.write_text(text)
    assert rows(path) == rows(csv) == [(b"a", 1000, 0.1), (b"b", 2000, 1e-300), (b"a", 3000, -7.25)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+02:00"])
def test_timestamps_are_times_and_without_a_zone_utc(written, unit, zone):
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    column = pa.array([moment], pa.timestamp(unit, tz=zone or "UTC"))
    if zone is None:
        column = column.cast(pa.timestamp(unit, tz="UTC")).cast(pa.timestamp(unit))
    path = written(series=["a"], ts=column, value=pa.array([3], pa.int32()))
    assert rows(path) == [(b"a", int(moment.timestamp()) * 1000, 3.0)]


def test_sources_and_encoded_ids_are_read(written):
    ids = pa.array(["a", "a", "b"]).dictionary_encode()
    recording = read_recordings([written(source=["x", "y", "y"], series=ids, ts=[1, 2, 3], value=[1.0, 2.0, 3.0])])
    assert recording.source_of == {b"x/a": "x", b"y/a": "y", b"b": "y"}


def test_rows_that_are_no_ticks_are_named_by_their_number(written):
    values = pa.array([1.0, None, float("nan"), float("inf"), 2.0])
    recording = read_recordings([path := written(series=["a"] * 5, ts=[1, 2, 3, 4, 5], value=values)])
    assert (len(recording.ticks), recording.unusable) == (2, 3)
    assert recording.faults.named[0] == f"{path}:2: value is no decimal number: ''"


def test_a_file_that_lacks_a_column_or_is_none_is_named(written, tmp_path):
    with pytest.raises(UsageError, match=r"a\.parquet: no column 'ts'; the columns are series, ts, value"):
        read_recordings([written(series=["a"], value=[1.0])])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(UsageError, match=r"b\.parquet: cannot be read"):
        read_recordings([tmp_path / "b.parquet"])
    with pytest.raises(UsageError, match=r"c\.parquet: cannot be read"):
        read_recordings([tmp_path / "c.parquet"])


def test_without_pyarrow_the_way_to_it_is_told(monkeypatch, tmp_path):
    real = builtins.__import__

    def lacking(name, *rest):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow: pip install 'foretick\[parquet\]'"):
        read_recordings([tmp_path / "a.parquet"])
