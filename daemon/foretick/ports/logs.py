"""Log lines: one event name and its facts, on standard error.

JSON off a terminal, coloured text on one. Both carry the time in UTC, never a password, and repeats only as far as they
tell something. What other libraries log through the standard `logging` takes the same road.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import numbers
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from foretick.ports.masking import MASK, mask_passwords

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

REPEATS_MAX = 5  # of one event and level in a window: enough to see a pattern, too few to fill a disk
WINDOW_SECONDS = 10.0
SUPPRESSED = "repeats_suppressed"

_FIRST_KEYS = ("timestamp", "level", "event")
_SECRET_WORDS = ("password", "secret", "credential")


def configure_logging(level: str, format: str) -> None:  # noqa: A002  the setting is called log.format
    """Sets up structlog and the standard logging for this process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `json`, `console`, or `auto`: console on a terminal, JSON elsewhere.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    stream = sys.stderr
    on_terminal = stream.isatty()
    limiter = RepeatLimiter(_announce)
    atexit.register(limiter.flush)
    if format == "json" or (format == "auto" and not on_terminal):
        rendering = _json_lines()
    else:
        rendering = _coloured_lines(colours=on_terminal and "NO_COLOR" not in os.environ)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            limiter,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: LineWriter(stream),
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[_StructlogHandler()], level=threshold, force=True)


def set_log_level(level: str) -> None:
    """Changes the level of a process that logs already."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(threshold))  # all else stays as it is
    logging.getLogger().setLevel(threshold)


def _json_lines() -> list[Processor]:
    tracebacks = ExceptionDictTransformer(show_locals=False)  # locals hold connections, and with them passwords
    return [structlog.processors.ExceptionRenderer(tracebacks), readable, structlog.processors.JSONRenderer()]


def _coloured_lines(*, colours: bool) -> list[Processor]:
    plain = structlog.dev.plain_traceback  # the rich one shows locals
    return [
        structlog.processors.format_exc_info,
        readable,
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, sort_keys=False),
    ]


class Announce(Protocol):
    """Says once that `count` repeats of an event were kept back."""

    def __call__(self, level: str, event: str, count: int) -> None:
        """Called outside of any lock; may log."""


class RepeatLimiter:
    """A structlog processor that passes the same (event, level) at most `REPEATS_MAX` times in `WINDOW_SECONDS`.

    At a window's end one line tells how many were kept back, also when nothing else is logged any more.

    Args:
        announce: writes that line.
        clock: monotonic seconds.
        schedule: calls a function after so many seconds.
    """

    def __init__(
        self,
        announce: Announce,
        clock: Callable[[], float] = time.monotonic,
        schedule: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._announce = announce
        self._clock = clock
        self._schedule = schedule or _call_later
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str], list[float]] = {}  # [end of window, lines in it]

    def __call__(self, _logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        """The line itself, or `DropEvent`."""
        event = str(event_dict.get("event"))
        if event == SUPPRESSED:
            return event_dict
        key = (event, str(event_dict.get("level", method)))
        now = self._clock()
        self._end_windows(now)
        with self._lock:
            window = self._windows.setdefault(key, [now + WINDOW_SECONDS, 0])
            window[1] += 1
            lines = window[1]
        if lines == REPEATS_MAX + 1:
            self._schedule(WINDOW_SECONDS, lambda: self._end_windows(self._clock()))
        if lines > REPEATS_MAX:
            raise structlog.DropEvent
        return event_dict

    def flush(self) -> None:
        """Ends all windows now: at exit nothing stays untold."""
        self._end_windows(float("inf"))

    def _end_windows(self, now: float) -> None:
        with self._lock:
            ended = [
                (key, self._windows.pop(key)[1]) for key, window in list(self._windows.items()) if window[0] <= now
            ]
        for (event, level), lines in ended:
            if lines > REPEATS_MAX:
                self._announce(level=level, event=event, count=int(lines) - REPEATS_MAX)


def _call_later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True  # a pending summary must not keep the process; `flush` writes it at exit
    timer.start()


def _announce(level: str, event: str, count: int) -> None:
    logger = structlog.get_logger()
    logger.log(
        logging.getLevelNamesMapping()[level.upper()], SUPPRESSED, of=event, count=count, window_seconds=WINDOW_SECONDS
    )


def readable(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """A structlog processor: time, level and event first, every value fit for JSON, no password anywhere."""
    first = {key: event_dict[key] for key in _FIRST_KEYS if key in event_dict}
    return {key: _readable(value, key) for key, value in (first | dict(event_dict)).items()}


def _readable(value: Any, key: str = "") -> Any:
    if any(word in key.lower() for word in _SECRET_WORDS):
        return MASK
    if isinstance(value, Mapping):
        return {str(name): _readable(part, str(name)) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_readable(part) for part in value]
    if value is None or isinstance(value, numbers.Real):
        return _number(value)
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return mask_passwords(text)


def _number(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):  # numpy's as well
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)  # JSON knows no NaN and no infinity


class LineWriter:
    """The end of the road: one line, one write. A full disk or a closed pipe loses lines, never the daemon."""

    _lock = threading.Lock()

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Writes the line."""
        with self._lock, contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = log = msg


class _StructlogHandler(logging.Handler):
    """Hands records of the standard logging over to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        # getMessage fails on a record whose arguments do not fit its text: no reason to stop
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  arguments may raise anything when they are written out
            message = str(record.msg)
        level = max(
            logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10)
        )  # structlog knows no levels between
        structlog.get_logger().log(level, message, logger=record.name, exc_info=record.exc_info or None)
