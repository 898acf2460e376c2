"""What the command line asks of a backtest, and what it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from foretick.app.backtest import html, plot, tables, verification
from foretick.app.backtest.recorded import open_recorded, read_recorded
from foretick.app.backtest.report import make_report
from foretick.app.backtest.running import by_target, names_told, run_engine
from foretick.app.groups import features_of
from foretick.errors import EXIT_CLEAN, UsageError
from foretick.ports.masking import mask_url
from foretick.ports.recordings import read_recordings
from foretick.ports.recordings_stream import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from foretick.app.settings import Settings
    from foretick.ports.recordings import Recording

EXIT_DIFFERENT = 1  # as diff and cmp say it


class Options(Protocol):
    """What the command line says.

    Attributes:
        files: recordings, or the one address of a recorded stream.
        burn_in: ticks at the beginning of each series that are not scored.
        by: lines of the table; none is by source where there are several.
        json: the result as JSON.
        plot: where a picture goes, if one is wanted.
        html: where a page goes, if one is wanted.
        series: what is on the picture, and first on the page: `worst`, `best`, or a series id.
        verify: compare with what a daemon published, instead of scoring.
    """

    files: list[str]
    burn_in: int
    by: Literal["series", "source"] | None
    json: bool
    plot: Path | None
    html: Path | None
    series: str
    verify: bool


def run(settings: Settings, options: Options) -> int:
    """Backtest what was asked for and print the outcome; returns the exit status.

    Raises:
        UsageError: an input cannot be read, or holds no tick.
        RedisUnreachable: nobody answers at the address.
    """
    torch.set_num_threads(1)  # as the daemon: the same bits
    addresses = [one for one in options.files if is_address(one)]
    if addresses and len(options.files) > 1:
        raise UsageError("a recorded stream is backtested by itself: give its one address and no files beside it")
    if options.verify:
        return _verify(settings, options, addresses)
    _require_places(options)
    if addresses:
        recording = read_recorded(settings, addresses[0])
    else:
        recording = read_recordings([Path(file) for file in options.files], features_of(settings))
    _require_ticks(recording, options.files)
    if options.plot is not None or options.html is not None:
        _require_series(names_told(recording, settings), options.series)
    recording, ran = by_target(recording, run_engine(recording, settings))
    report = make_report(recording, ran, settings, options.burn_in)
    if options.plot is not None:
        plot.draw(options.plot, report, ran, report.chosen(options.series))
    if options.html is not None:
        inputs = [mask_url(one) if is_address(one) else one for one in options.files]
        html.write(options.html, report, ran, settings, inputs, options.series)
    write = tables.as_json if options.json else tables.as_table
    sys.stdout.write(write(report, options.by))
    return EXIT_CLEAN


def _require_places(options: Options) -> None:
    """Where nothing can be written is told before the work."""
    if options.plot is not None:
        plot.require(options.plot)
    if options.html is not None:
        html.require(options.html)


def _require_ticks(recording: Recording, names: Sequence[str]) -> None:
    if len(recording.ticks) == 0:
        raise UsageError(f"no tick in {', '.join(names)} ({recording.unusable} unusable rows)")


def _require_series(known: AbstractSet[bytes], name: str) -> None:
    if name not in {"worst", "best"} and name.encode() not in known:
        raise UsageError(f"there is no series {name!r}: write worst, best, or one of the {len(known)} ids")


def _verify(settings: Settings, options: Options, addresses: list[str]) -> int:
    if not addresses:
        raise UsageError("--verify compares with what a daemon published: give the redis:// address of its stream")
    if options.plot is not None:
        raise UsageError("--verify draws nothing: leave --plot out")
    if options.html is not None:
        raise UsageError("--verify writes no page: leave --html out")
    with open_recorded(settings, addresses[0]) as stream:
        found = verification.verify(stream, settings)
    sys.stdout.write(found.as_json() if options.json else found.as_text())
    return EXIT_CLEAN if found.is_sound else EXIT_DIFFERENT
