"""`foretick backtest --html`: the report as a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretick.app.backtest.html.page import document
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foretick.app.backtest.report import Report
    from foretick.app.backtest.running import Run
    from foretick.app.settings import Settings

SUFFIXES = (".html", ".htm")


def require(path: Path) -> None:
    """See that a page can be written here, before hours of work.

    Raises:
        UsageError: the folder does not exist, or the suffix is another.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--html {path}: write a name that ends with .html")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--html {path}: there is no folder {path.absolute().parent}")


def write(path: Path, report: Report, ran: Run, settings: Settings, inputs: Sequence[str], chosen: str) -> None:
    """Write the page; the arguments after the path are `document`'s.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(document(report, ran, settings, inputs, chosen), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error}") from error
