"""`foretick produce`: ticks from recordings, standard input or this computer's sensors into a stream."""

from __future__ import annotations

import math
import random
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from foretick.app.access import plain_stream, server_of
from foretick.app.assembly import fields_of
from foretick.app.demo import StopSignals
from foretick.app.groups import features_of
from foretick.app.patience import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS
from foretick.app.progress import progress
from foretick.app.sources import Lines, Playback, Sensors, duration_text
from foretick.errors import EXIT_CLEAN, CommandFailed, ConnectionLost, RedisUnreachable, ServerRefused, UsageError
from foretick.ports.masking import mask_url
from foretick.ports.producer import TickProducer
from foretick.ports.recordings import FAULTS_NAMED, Faults, read_recordings
from foretick.ports.spreading import SpreadProducer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from foretick.app.settings import Settings
    from foretick.app.sources import Source
    from foretick.ports.recordings import Tick

EXIT_CUT_SHORT = 130  # as shells report Ctrl-C: a script must not take a part for the whole
LAG_WAIT_SECONDS = 0.05  # the daemon answers thousands of ticks meanwhile
PLAIN_SECONDS = 5.0  # between lines where standard error is no terminal
STREAM_SECONDS_MIN = 1e-9  # a rate over no time at all


class Options(Protocol):
    """What the command line says."""

    files: Sequence[Path]
    sensors: bool
    speed: float | None
    maxlen: int | None
    partitions: int | None
    max_lag: int | None
    without_ts: bool
    strict: bool


def run(settings: Settings, options: Options) -> int:
    """Push until the source ends or the user ends it; returns the exit status.

    Raises:
        UsageError: the arguments contradict each other, a file cannot be read, or the key holds no stream.
        RedisUnreachable: nobody answers at the start.
    """
    stream = plain_stream(settings, "produce")
    route, fields = server_of(settings), fields_of(settings)
    producer: TickProducer | SpreadProducer
    if options.partitions is None:
        producer = TickProducer(route, stream, fields=fields, maxlen=options.maxlen)
    else:
        producer = SpreadProducer(route, stream, options.partitions, fields=fields, maxlen=options.maxlen)
        stream = f"{stream}:{{0}} … {stream}:{{{options.partitions - 1}}}"
    with _opened(producer, settings.redis.url or "", stream):
        # Before the signals are caught: Ctrl-C ends the reading of a large file at once.
        source = _source(options, features_of(settings))
        with StopSignals() as stop:
            _send_all(source, Sender(producer, stop, options.max_lag), stop, options, stream)
    return EXIT_CUT_SHORT if source.total is not None and producer.pushed_ticks < source.total else EXIT_CLEAN


def _send_all(source: Source, sender: Sender, stop: StopSignals, options: Options, stream: str) -> None:
    """Send what the source gives, and tell how it went, however it ended."""
    began = time.monotonic()
    try:
        with progress(source.total, source.title, "ticks", plain_seconds=PLAIN_SECONDS) as advance:
            for ticks in source.batches(stop):
                if not sender.send(_without_ts(ticks) if options.without_ts else ticks):
                    break
                advance(len(ticks), source.left_seconds())
    except CommandFailed as error:
        raise UsageError(f"{stream}: {error}") from error
    finally:
        _tell(sender, source, stream, time.monotonic() - began)


@contextmanager
def _opened(producer: TickProducer | SpreadProducer, url: str, stream: str) -> Iterator[None]:
    """The producer, connected to a server on which the key can take ticks."""
    try:
        producer.open()
        kind = producer.key_type()
    except (ConnectionLost, ServerRefused) as error:
        raise RedisUnreachable(f"{mask_url(url)}: {error}") from error
    except CommandFailed as error:
        if error.word != "NOPERM":  # a user who may XADD and nothing else is a sound producer
            raise UsageError(f"{mask_url(url)}: {error}") from error
        kind = "none"
    if kind not in {"stream", "none"}:
        producer.close()
        raise UsageError(f"{stream} is a {kind}, no stream: name another key by --stream")
    try:
        yield
    finally:
        producer.close()


def _source(options: Options, features: Sequence[str]) -> Source:
    lines = [str(path) for path in options.files] == ["-"]
    if options.sensors and options.files:
        raise UsageError("--sensors and files exclude each other: name one of them")
    if options.sensors:
        if options.speed is not None:
            raise UsageError("--sensors have their own pace: drop --speed")
        return Sensors()
    if lines:
        return Lines(options.speed or math.inf, Faults(strict=options.strict), features)
    if not options.files:
        raise UsageError("nothing to send: name files, - for standard input, or --sensors")
    if any(str(path) == "-" for path in options.files):
        raise UsageError("- stands alone: files are merged by time, and standard input has no end to wait for")
    playback = Playback(read_recordings(options.files, features, strict=options.strict), options.speed or 1.0)
    for line in playback.faults.named:
        sys.stderr.write(f"foretick: left out {line}\n")
    sys.stderr.write(f"{playback}\n")
    return playback


def _without_ts(ticks: list[Tick]) -> list[Tick]:
    return [(series, value, None) for series, value, _ in ticks]


class Sender:
    """Gets ticks through to the server, in order, whatever the connection does.

    Attributes:
        producer: sends them.
        doubtful_ticks: ticks that were sent again since nobody knows whether they arrived.
    """

    def __init__(self, producer: TickProducer | SpreadProducer, stop: StopSignals, max_lag_ticks: int | None) -> None:
        self.producer = producer
        self._stop = stop
        self._max_lag_ticks = max_lag_ticks
        self.doubtful_ticks = 0
        self._trouble: str | None = None

    def send(self, ticks: list[Tick]) -> bool:
        """Whether they arrived; false only when a stop came first."""
        tries = 0
        while True:
            try:
                if not self.producer.is_open:
                    self.producer.open()
                if not self._keep_step():
                    return False
                self._push(ticks)
            except (ConnectionLost, ServerRefused) as error:
                self._note(error)
                longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**tries)
                tries = min(tries + 1, 16)
                if self._stop.wait(random.uniform(0, longest)):  # noqa: S311  jitter is no secret
                    return False
            else:
                self._note(None)
                return True

    def _push(self, ticks: list[Tick]) -> None:
        try:
            self.producer.push_all(ticks)
        except ConnectionLost:
            self.doubtful_ticks += len(ticks)  # over several partitions at most so many
            raise

    def _keep_step(self) -> bool:
        """Wait for the daemon, if it is too far behind; false when a stop came first."""
        if self._max_lag_ticks is None:
            return True
        while self.producer.lag_ticks() > self._max_lag_ticks:
            if self._stop.wait(LAG_WAIT_SECONDS):
                return False
        return True

    def _note(self, error: ConnectionLost | ServerRefused | None) -> None:
        """A line when trouble begins, and one when it is over."""
        kind = None if error is None else error.word if isinstance(error, ServerRefused) else "lost"
        if kind == self._trouble:
            return
        self._trouble = kind
        sys.stderr.write("foretick: the server is back\n" if error is None else f"foretick: {error}; trying again\n")


def _tell(sender: Sender, source: Source, stream: str, elapsed_seconds: float) -> None:
    sent = sender.producer.pushed_ticks
    whole = "" if source.total is None or sent == source.total else f" of {source.total:,}"
    rate = sent / max(elapsed_seconds, STREAM_SECONDS_MIN)
    sys.stdout.write(f"sent {sent:,}{whole} ticks to {stream} in {duration_text(elapsed_seconds)} ({rate:,.0f}/s)\n")
    if sender.doubtful_ticks:
        again = (
            f"{sender.doubtful_ticks:,} were sent when a connection was lost, and sent again: some may be there twice"
        )
        sys.stdout.write(f"{again}\n")
    if count := source.faults.count:
        more = f", the first {FAULTS_NAMED} named above" if count > FAULTS_NAMED else ""
        sys.stdout.write(f"{count:,} rows were no ticks and left out{more}\n")
    sys.stdout.flush()
