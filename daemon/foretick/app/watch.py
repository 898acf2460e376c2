"""`foretick watch`: the forecasts of a stream in the terminal, as they come."""

from __future__ import annotations

import contextlib
import difflib
import time
from typing import TYPE_CHECKING, Protocol

from foretick.app.access import plain_stream, server_of
from foretick.app.demo import StopSignals
from foretick.app.show import Frames
from foretick.app.watch_view import Watched
from foretick.errors import EXIT_CLEAN, CommandFailed, ConnectionLost, RedisUnreachable, ServerRefused, UsageError
from foretick.ports.follower import ForecastFollower
from foretick.ports.masking import mask_passwords, mask_url

if TYPE_CHECKING:
    from foretick.app.settings import Settings

BACK_FORECASTS = 5000  # the past that a table begins with: a minute of 80 series at a tick a second
BACK_OF_ONE = 500  # of a single series: more than the chart shows, enough for a skill
SERIES_ASKED = 1000  # among which a similar name is looked for
SERIES_NAMED = 5  # in a hint
RETRY_SECONDS = 0.5  # between two tries to reach a server that went away


class Options(Protocol):
    """What the command line says.

    Attributes:
        series: the only one; none is all.
        worst: the lowest skill on top.
        plain: lines also on a terminal.
        seconds: end by itself after so long.
    """

    series: str | None
    worst: bool
    plain: bool
    seconds: float | None


def run(settings: Settings, options: Options) -> int:
    """Show the forecasts until Ctrl-C; returns the exit status.

    Raises:
        UsageError: the arguments contradict each other, or the keys are of another type.
        RedisUnreachable: nobody answers at the start.
    """
    if options.worst and options.series is not None:
        raise UsageError("--worst is about all series: drop it, or the series' name")
    stream = plain_stream(settings, "watch")
    url, follower = settings.redis.url or "", ForecastFollower(server_of(settings), stream, prefix=settings.prefix)
    watched = Watched(stream, options.series, worst=options.worst)
    with StopSignals() as stop, contextlib.closing(follower):
        following = Following(follower, watched, stop)
        try:
            following.begin(options.series)
        except (ConnectionLost, ServerRefused) as error:
            raise RedisUnreachable(f"{mask_url(url)}: {error}") from error
        except CommandFailed as error:
            raise UsageError(f"{mask_url(url)}: {error}") from error
        frames = Frames(watched, options.seconds, plain=options.plain).frames(following.follow)
        with contextlib.closing(frames):  # gives the terminal back before anything is said
            for _ in frames:
                watched.board.count(time.monotonic(), 0)
    return EXIT_CLEAN


class Following:
    """Keeps a view up to date: reading is how the time between two frames passes."""

    def __init__(self, follower: ForecastFollower, watched: Watched, stop: StopSignals) -> None:
        self._follower = follower
        self._watched = watched
        self._stop = stop

    def begin(self, series: str | None) -> None:
        """Connect, and show the last forecasts there are.

        Raises:
            ConnectionLost, ServerRefused, CommandFailed: not possible.
        """
        self._follower.open()
        past = self._follower.read_back(BACK_FORECASTS if series is None else BACK_OF_ONE, series)
        self._watched.observe(past, live=False)
        self._watched.lag_ticks = self._follower.lag_ticks()
        if not past:
            self._watched.hint = _hint(series, self._follower.some_series(SERIES_ASKED))

    def follow(self, seconds: float) -> bool:
        """Read for so long; says whether the end is wished for."""
        until = time.monotonic() + seconds
        try:
            if not self._follower.is_open:
                self._follower.open()
            self._watched.lag_ticks = self._follower.lag_ticks()
            while not self._stop.wait(0.0) and (left := until - time.monotonic()) > 0:
                self._watched.observe(self._follower.read(left))
                self._watched.trouble = None
        except (ConnectionLost, ServerRefused, CommandFailed) as error:
            self._watched.trouble = f"the server is away: {mask_passwords(str(error))}"
            self._follower.close()
            return self._stop.wait(RETRY_SECONDS)
        return self._stop.wait(0.0)


def _hint(series: str | None, known: list[str]) -> str:
    """What may be wrong, while nothing comes."""
    if not known:
        return "is `foretick run` running, and are ticks coming?"
    if series is None or series in known:
        return ""
    near = difflib.get_close_matches(series, known, n=SERIES_NAMED, cutoff=0.5) or known[:SERIES_NAMED]
    return f"there are forecasts of {', '.join(near)}"
