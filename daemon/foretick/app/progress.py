"""A progress bar on standard error, where somebody is looking at it; lines, or silence, where nobody is."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import ProgressColumn

RATE_SECONDS = 5.0  # the rate is that of the last seconds
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


class Advance(Protocol):
    """Tells how far it is."""

    def __call__(self, n: int, left_seconds: float | None = None, /) -> None:
        """So many more are done; the time left follows from the rate, unless the caller knows it."""


@contextmanager
def progress(total: int | None, title: str, unit: str, *, plain_seconds: float | None = None) -> Iterator[Advance]:
    """Yields a function that is told how many more are done; shows share, rate and time left.

    Args:
        total: how many there are; none when nobody knows: then the count so far is shown.
        title: before the bar.
        unit: what is counted.
        plain_seconds: where standard error is no terminal, a line so often; none stays silent there.
    """
    console = Console(stderr=True)
    pace = _Pace(total)
    if not console.is_terminal:
        yield _silent if plain_seconds is None else _PlainLines(pace, unit, plain_seconds)
        return
    with Progress(*_columns(total, unit), console=console) as bar:
        task = bar.add_task(title, total=total, rate=0.0, left="")

        def advance(n: int, left_seconds: float | None = None, /) -> None:
            pace.advance(n)
            bar.update(task, advance=n, rate=pace.rate, left=pace.left(left_seconds))

        yield advance


class _Pace:
    """How many are done, and how fast it goes."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self._counts = deque([(time.monotonic(), 0)])

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        self._counts.append((now, self.done))
        while self._counts[0][0] < now - RATE_SECONDS:
            self._counts.popleft()

    @property
    def rate(self) -> float:
        """So many a second."""
        (began, before), (now, done) = self._counts[0], self._counts[-1]
        return (done - before) / max(now - began, 1e-3)

    def left(self, known_seconds: float | None) -> str:
        """The time left in words; nothing where it cannot be known."""
        if known_seconds is None:
            if self.total is None or not self.rate:
                return ""
            known_seconds = (self.total - self.done) / self.rate
        for length, unit in UNITS:
            if known_seconds >= 2 * length:
                return f"{known_seconds / length:.1f} {unit} left"
        return f"{known_seconds:.0f} s left"


def _columns(total: int | None, unit: str) -> list[ProgressColumn]:
    title, rate = TextColumn("{task.description}"), TextColumn(f"{{task.fields[rate]:,.0f}} {unit}/s")
    if total is None:
        return [title, TextColumn(f"{{task.completed:,}} {unit}"), rate, TimeElapsedColumn()]
    return [title, BarColumn(30), TaskProgressColumn(), rate, TextColumn("{task.fields[left]}")]


def _silent(n: int, left_seconds: float | None = None, /) -> None:
    pass


class _PlainLines:
    """How far it is, in a line every so often."""

    def __init__(self, pace: _Pace, unit: str, every_seconds: float) -> None:
        self._pace = pace
        self._unit = unit
        self._every_seconds = every_seconds
        self._told_at = time.monotonic()

    def __call__(self, n: int, left_seconds: float | None = None, /) -> None:
        pace = self._pace
        pace.advance(n)
        now = time.monotonic()
        if now - self._told_at < self._every_seconds:
            return
        self._told_at = now
        share = f" of {pace.total:,} ({pace.done / pace.total:.0%})" if pace.total else ""
        left = f", {words}" if (words := pace.left(left_seconds)) else ""
        sys.stderr.write(f"{pace.done:,}{share} {self._unit}, {pace.rate:,.0f}/s{left}\n")
