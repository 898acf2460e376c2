"""The board on the terminal: a live table, or one plain line a second where there is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.live import Live

from foretick.app.view import Addresses, Board, headline, plain_table, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

REFRESH_SECONDS = 0.25  # faster than that nobody reads numbers
PLAIN_SECONDS = 1.0  # a log file's pace


class Show:
    """Shows the board until the time is over or the end is wished for.

    Args:
        metrics_url: the daemon's metrics page.
        redis_url: the server.
        seconds: ends by itself after this time; none never does.
        plain: lines also on a terminal.
    """

    def __init__(self, metrics_url: str, redis_url: str, seconds: float | None, *, plain: bool) -> None:
        self.board = Board()
        self._addresses = Addresses(metrics_url, redis_url)
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
                state = f"{self._elapsed_seconds:.0f} s, Ctrl-C ends it" if self.board.rows else "the daemon starts …"
                live.update(screen(self.board, self._addresses, state=state, height=live.console.height), refresh=True)
                over = self._over(end_wished, REFRESH_SECONDS)

    def _plain_frames(self, end_wished: Callable[[float], bool]) -> Generator[None, None, None]:
        _say(f"metrics {self._addresses.metrics}   stream {self._addresses.redis}")
        over = False
        while not over:
            over = self._over(end_wished, PLAIN_SECONDS)
            yield
            _say(f"{self._elapsed_seconds:4.0f} s  {headline(self.board)}")
        _say(plain_table(self.board))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # followed in a pipe, line by line
