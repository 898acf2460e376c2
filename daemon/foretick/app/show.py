"""Views on the terminal: drawn anew in place, or as plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.live import Live

from foretick.app.board import Board
from foretick.app.view import Addresses, headline, plain_table, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from rich.console import RenderableType

REFRESH_SECONDS = 0.25  # faster than that nobody reads numbers
PLAIN_SECONDS = 1.0  # a log file's pace


class View(Protocol):
    """What can be shown."""

    def screen(self, elapsed_seconds: float, height: int) -> RenderableType:
        """Everything, for a terminal of this height."""

    def opening(self) -> Iterable[str]:
        """The first lines where there is no terminal."""

    def lines(self, elapsed_seconds: float) -> Iterable[str]:
        """What is new since the last call."""

    def closing(self) -> Iterable[str]:
        """The last lines."""


class Frames:
    """Shows a view until the time is over or the end is wished for.

    Args:
        view: what is shown.
        seconds: ends by itself after this time; none never does.
        plain: lines also on a terminal.
    """

    def __init__(self, view: View, seconds: float | None, *, plain: bool) -> None:
        self._view = view
        self._seconds = seconds
        self._plain = plain or not sys.stdout.isatty()
        self._started = time.monotonic()

    def frames(self, end_wished: Callable[[float], bool]) -> Generator[None, None, None]:
        """Asks for news (one turn of the caller's loop), shows them, waits; ends when it is time to.

        Args:
            end_wished: waits so many seconds for the wish to end, and says whether it was uttered.
        """
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal without block characters is no reason to fail
        yield from self._plain_frames(end_wished) if self._plain else self._live_frames(end_wished)

    @property
    def _elapsed_seconds(self) -> float:
        return time.monotonic() - self._started

    def _over(self, end_wished: Callable[[float], bool], wait_seconds: float) -> bool:
        if self._seconds is None:
            return end_wished(wait_seconds)
        left_seconds = self._seconds - self._elapsed_seconds
        return end_wished(max(min(wait_seconds, left_seconds), 0.0)) or left_seconds <= wait_seconds

    def _live_frames(self, end_wished: Callable[[float], bool]) -> Generator[None, None, None]:
        with Live(auto_refresh=False, vertical_overflow="crop") as live:
            over = False
            while not over:
                yield
                live.update(self._view.screen(self._elapsed_seconds, live.console.height), refresh=True)
                over = self._over(end_wished, REFRESH_SECONDS)

    def _plain_frames(self, end_wished: Callable[[float], bool]) -> Generator[None, None, None]:
        _say(self._view.opening())
        over = False
        while not over:
            over = self._over(end_wished, PLAIN_SECONDS)
            yield
            _say(self._view.lines(self._elapsed_seconds))
        _say(self._view.closing())


class Show(Frames):
    """The demo's board.

    Args:
        metrics_url: the daemon's metrics page.
        redis_url: the server.
        seconds: ends by itself after this time; none never does.
        plain: lines also on a terminal.
    """

    def __init__(self, metrics_url: str, redis_url: str, seconds: float | None, *, plain: bool) -> None:
        self.board = Board()
        super().__init__(_DemoView(self.board, Addresses(metrics_url, redis_url)), seconds, plain=plain)


class _DemoView:
    def __init__(self, board: Board, addresses: Addresses) -> None:
        self._board = board
        self._addresses = addresses

    def screen(self, elapsed_seconds: float, height: int) -> RenderableType:
        state = f"{elapsed_seconds:.0f} s, Ctrl-C ends it" if self._board.rows else "the daemon starts …"
        return screen(self._board, self._addresses, state=state, height=height)

    def opening(self) -> Iterable[str]:
        where = self._addresses
        yield f"live page {where.page}   metrics {where.metrics}   stream {where.redis}"

    def lines(self, elapsed_seconds: float) -> Iterable[str]:
        yield f"{elapsed_seconds:4.0f} s  {headline(self._board)}"

    def closing(self) -> Iterable[str]:
        yield plain_table(self._board)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()  # followed in a pipe, line by line
