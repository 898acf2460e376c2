"""Where `foretick produce` gets its ticks: recordings, lines of JSON, this computer's sensors."""

from __future__ import annotations

import math
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foretick.errors import UsageError
from foretick.ports.lines import LineReader
from foretick.ports.recordings import Faults, UnusableRow, read_json_line
from foretick.ports.sensors import HostSensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretick.app.demo import StopSignals
    from foretick.ports.recordings import Recording, Tick

BATCH_TICKS = 1000  # in one transaction: 100 kB, a millisecond of the server's time
SENSOR_SECONDS = 0.1  # ten ticks a second and series
LINE_WAIT_SECONDS = 0.2  # so soon is Ctrl-C heard while standard input is silent
TELL_SECONDS = 0.5  # no longer is a wait for the next tick: the time left is told meanwhile


class Source(Protocol):
    """Where ticks come from.

    Attributes:
        total: how many will come; none when nobody knows.
        title: what is read.
        faults: rows that were no ticks.
    """

    total: int | None
    title: str
    faults: Faults

    def batches(self, stop: StopSignals) -> Iterator[list[Tick]]:
        """Ticks as they fall due, now and then none; ends when there are no more, or a stop is wished for."""

    def left_seconds(self) -> float | None:
        """How long it will take yet; none where that depends on how fast the ticks get through, or nobody knows."""


class Playback:
    """A recording at its own pace, or faster."""

    def __init__(self, recording: Recording, speed: float) -> None:
        ticks = recording.ticks
        self.faults = recording.faults
        self.total: int | None = len(ticks)
        if not len(ticks):
            raise UsageError(f"no tick in these files ({recording.unusable} rows are none)")
        self.title = "played"
        self._ticks = ticks
        self._series = len(recording.source_of)
        span_seconds = (ticks.ts - ticks.ts[0]) / 1000.0
        self._paced = math.isfinite(speed)
        self._due = span_seconds / speed if self._paced else np.zeros(len(ticks))
        self._began = time.monotonic()

    def __str__(self) -> str:
        ts = self._ticks.ts
        begin, end = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}" for ms in (int(ts[0]), int(ts[-1])))
        takes = f"\nat this speed it takes {duration_text(float(self._due[-1]))}" if self._paced else ""
        return f"{len(ts):,} ticks of {self._series:,} series, {begin} to {end} UTC{takes}"

    def left_seconds(self) -> float | None:
        """Until the last tick is due."""
        return max(float(self._due[-1]) - (time.monotonic() - self._began), 0.0) if self._paced else None

    def batches(self, stop: StopSignals) -> Iterator[list[Tick]]:
        """The ticks, each when it is due; late ones at once."""
        self._began, sent, n = time.monotonic(), 0, len(self._ticks)
        while sent < n:
            wait_seconds = float(self._due[sent]) - (time.monotonic() - self._began)
            if stop.wait(min(max(wait_seconds, 0.0), TELL_SECONDS)):
                return
            now = time.monotonic() - self._began
            end = min(int(np.searchsorted(self._due, now, side="right")), sent + BATCH_TICKS)
            part = self._ticks.slice(sent, end)
            yield list(zip(part.series, part.y.tolist(), part.ts.tolist(), strict=True))
            sent = max(end, sent)


class Lines:
    """Lines of JSON from standard input, as they come or at the pace of their ts."""

    title = "sent"
    total: int | None = None

    def __init__(self, speed: float, faults: Faults, features: Sequence[str]) -> None:
        self.faults = faults
        self._features = features
        self._speed = speed
        self._reader = LineReader(sys.stdin.fileno())
        self._line = 0
        self._first: tuple[float, int] | None = None  # when the first tick with a ts was sent, and its ts

    def left_seconds(self) -> float | None:
        """Nobody knows."""
        return None

    def batches(self, stop: StopSignals) -> Iterator[list[Tick]]:
        """Whatever has come, at once; with a pace, tick by tick."""
        while not self._reader.at_end and not stop.wait(0.0):
            ticks = self._ticks(self._reader.read(LINE_WAIT_SECONDS))
            if math.isinf(self._speed):
                yield from (ticks[k : k + BATCH_TICKS] for k in range(0, len(ticks) or 1, BATCH_TICKS))
                continue
            for tick in ticks:
                if stop.wait(self._wait_seconds(tick)):
                    return
                yield [tick]

    def _ticks(self, lines: list[bytes]) -> list[Tick]:
        ticks = []
        for line in lines:
            self._line += 1
            try:
                tick = read_json_line(line, self._features)
            except UnusableRow as why:
                if told := self.faults.note(f"standard input:{self._line}", why):
                    sys.stderr.write(f"foretick: left out {told}\n")
                continue
            if tick is not None:
                ticks.append(tick)
        return ticks

    def _wait_seconds(self, tick: Tick) -> float:
        ts = tick[2]
        if ts is None:
            return 0.0
        now = time.monotonic()
        if self._first is None:
            self._first = now, ts
        began, first_ts = self._first
        return max(began + (ts - first_ts) / 1000.0 / self._speed - now, 0.0)


class Sensors:
    """This computer's sensors."""

    title = "measured"
    total: int | None = None

    def __init__(self) -> None:
        self.faults = Faults()
        self._sensors = HostSensors()

    def left_seconds(self) -> float | None:
        """Nobody knows."""
        return None

    def batches(self, stop: StopSignals) -> Iterator[list[Tick]]:
        """Every sensor's value, ten times a second."""
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0.0)):
            yield [(name.encode(), value, None) for name, value in self._sensors.read().items()]
            due = max(due + SENSOR_SECONDS, time.monotonic() - SENSOR_SECONDS)  # a late one does not shift the others


def duration_text(seconds: float) -> str:
    """A time in the unit that suits it."""
    for length, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
