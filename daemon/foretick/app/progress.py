"""A progress bar on standard error, where somebody is looking at it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress(total: int, title: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many more are done; shows share, rate and time left.

    Standard error that is no terminal stays silent.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.fields[rate]:,.0f}} {unit}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, rate=0.0)

        def advance(n: int) -> None:
            bar.update(task, advance=n, rate=bar.tasks[0].speed or 0.0)

        yield advance
