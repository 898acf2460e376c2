"""Rows of Parquet files, as text, so that they are held to the same as rows of any other file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Row = tuple[int, tuple[str, ...]]

SUFFIXES = (".parquet", ".pq")
BATCH_ROWS = 65_536  # in memory as text at a time: about 30 MB


def parquet_rows(path: Path, features: Sequence[str] = ("value",)) -> Iterator[Row]:
    """Row number, from 1, and (source, series, ts, value, …) of each row; what the row lacks is empty.

    `ts` may be whole Unix milliseconds or of a timestamp type; without a time zone it is UTC.

    Raises:
        UsageError: pyarrow is missing, or the file cannot be read or lacks a column.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415  likewise
    except ImportError:
        raise UsageError(f"{path}: Parquet needs pyarrow: pip install 'foretick[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = ("series", "ts", *features)
            missing = [name for name in wanted if name not in names]
            if missing:
                needed = f"{', '.join(wanted)} and optionally source"
                raise UsageError(f"{path}: no column {missing[0]!r}; the columns are {needed}")
            columns = [name for name in ("source", *wanted) if name in names]
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                texts = {name: _texts(batch.column(name), pa) for name in columns}
                sources = texts.get("source", [""] * batch.num_rows)
                for row in zip(sources, *(texts[name] for name in wanted), strict=True):
                    number += 1
                    yield number, row
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _texts(column: Any, pa: Any) -> list[str]:
    """The cells as a CSV would have them; null is empty."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
    return ["" if cell is None else cell if isinstance(cell, str) else _text(cell) for cell in column.to_pylist()]


def _text(cell: object) -> str:
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    return repr(cell) if isinstance(cell, float) else str(cell)
