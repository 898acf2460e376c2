"""Seeded producers: mostly sound ticks, some poisoned, each pushed with the answer that it must get."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

SERIES_EACH = 10
LATE_IN_A_ROW = 16  # the contract: the next late tick restarts the series
POISON_SHARE = 0.08  # of the ticks
LATE_RUN_SHARE = 0.002  # begin a run long enough to restart their series
BURSTS = (1, 1, 1, 2, 3, 5, 8, 40)  # ticks pushed at once
TICKS_PER_SECOND = 150.0  # of one producer

Fields = dict[str, Any]

# Fields that replace those of a sound tick, and the reason that the contract names for them.
POISONS: tuple[tuple[Fields, str], ...] = (
    ({"value": None}, "missing_field"),
    ({"value": "garbage"}, "not_a_number"),
    ({"value": ""}, "not_a_number"),
    ({"value": b"\xff\xfe\x00"}, "not_a_number"),
    ({"value": "NaN"}, "out_of_range"),
    ({"value": "-Infinity"}, "out_of_range"),
    ({"value": "1e308"}, "out_of_range"),
    ({"value": "7" * 2000}, "too_large"),
    ({"series": ""}, "bad_series"),
    ({"series": "bell\x07"}, "bad_series"),
    ({"series": b"\xc3\x28"}, "bad_series"),
    ({"ts": "-5"}, "bad_ts"),
    ({"ts": "tomorrow"}, "bad_ts"),
    ({"ts": "9" * 19}, "bad_ts"),
)


@dataclass
class Signal:
    """One series: its value wanders, beats or stands still; `ts` is its clock, none where its ticks carry no time."""

    name: str
    rng: random.Random
    ts: int | None
    value: float = 0.0
    ticks: int = 0
    late_run: int = 0

    def sound(self) -> tuple[Fields, None]:
        """The next tick."""
        self.ticks += 1
        kind = hash_of(self.name) % 4
        if kind == 0:
            self.value += self.rng.gauss(0, 1)
        elif kind == 1:
            self.value = 100.0 + 10.0 * ((self.ticks % 12) - 6) + self.rng.gauss(0, 0.5)
        elif kind == 2:
            self.value = 1e9 + self.rng.choice([0.0, 0.0, 0.25])
        else:
            self.value = 0.95 * self.value + self.rng.gauss(0, 1e-6)
        self.late_run = 0
        return self.fields(None if self.ts is None else self.ts + self.rng.randint(1, 900)), None

    def aged(self, age_ms: int) -> tuple[Fields, str | None]:
        """A tick as old as the last one, or older: refused, unless it is the 17th late one in a row."""
        assert self.ts is not None
        if age_ms == 0:
            return self.fields(self.ts), "duplicate"
        self.late_run += 1
        if self.late_run <= LATE_IN_A_ROW:
            return self.fields(self.ts - age_ms, moves=False), "late"
        self.late_run = 0
        return self.fields(self.ts - age_ms), None

    def fields(self, ts: int | None, *, moves: bool = True) -> Fields:
        if moves and ts is not None:
            self.ts = ts
        tick: Fields = {"series": self.name, "value": repr(self.value)}
        return tick if ts is None else tick | {"ts": ts}


def hash_of(name: str) -> int:
    """A small number that is the same in every process."""
    return sum(name.encode())


class Source:
    """Ticks without end, each with its reason to be refused or None; a function of the seed alone."""

    def __init__(self, seed: str, prefix: str, now_ms: int) -> None:
        self._rng = random.Random(seed)
        self._signals = [
            Signal(f"{prefix}{i}", random.Random(f"{seed} {i}"), ts=now_ms - 3_600_000 if i % 2 == 0 else None)
            for i in range(SERIES_EACH)
        ]

    def __iter__(self) -> Iterator[tuple[Fields, str | None]]:
        rng = self._rng
        while True:
            signal = rng.choice(self._signals)
            fate = rng.random()
            if signal.ts is not None and signal.ticks and fate < LATE_RUN_SHARE:
                yield from [signal.aged(100_000 - i) for i in range(LATE_IN_A_ROW + 1)]
            elif fate < POISON_SHARE:
                yield self._poisoned(signal)
            else:
                yield signal.sound()

    def _poisoned(self, signal: Signal) -> tuple[Fields, str | None]:
        rng = self._rng
        if signal.ts is not None and signal.ticks and rng.random() < 0.4:
            return signal.aged(rng.choice([0, 1, 5000]))
        poison, reason = rng.choice(POISONS)
        # A copy of the signal's present fields: a refused tick moves neither its value nor its clock.
        mixed = signal.fields(None if signal.ts is None else signal.ts + 1, moves=False) | poison
        return {name: value for name, value in mixed.items() if value is not None}, reason


@dataclass
class Producer:
    """Pushes a source's ticks in bursts, as many as it was allowed to, in a thread of its own."""

    client: redis.Redis
    source: Source
    rng: random.Random
    stream: str = "ticks"
    expected: dict[bytes, str | None] = field(default_factory=dict)  # by entry id: the reason to be refused, or None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._allowed = 0
        self._pushed = 0
        self._change = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, ticks: int) -> None:
        """Push so many more."""
        with self._change:
            self._allowed += ticks
            self._change.notify_all()

    def wait(self, deadline_seconds: float = 60.0) -> None:
        """Until all that was allowed is pushed."""
        with self._change:
            done = self._change.wait_for(lambda: self.error or self._pushed >= self._allowed, deadline_seconds)
        assert self.error is None, self.error
        assert done, f"{self._pushed} of {self._allowed} ticks pushed in {deadline_seconds:g} s"

    def stop(self) -> None:
        with self._change:
            self._stopping = True
            self._change.notify_all()
        self._thread.join(10)

    def _run(self) -> None:
        ticks = iter(self.source)
        try:
            while (n := self._next_burst()) > 0:
                batch = [next(ticks) for _ in range(n)]
                pipe = self.client.pipeline(transaction=False)
                for fields, _ in batch:
                    pipe.xadd(self.stream, fields)
                for entry_id, (_, reason) in zip(pipe.execute(), batch, strict=True):
                    self.expected[entry_id] = reason
                with self._change:
                    self._pushed += n
                    self._change.notify_all()
                time.sleep(n / TICKS_PER_SECOND)  # the producer's pace; nothing waits for it
        except BaseException as error:  # noqa: BLE001  told by `wait`, in the test's thread
            self.error = error
            with self._change:
                self._change.notify_all()

    def _next_burst(self) -> int:
        """How many ticks to push now; 0 at the end."""
        with self._change:
            self._change.wait_for(lambda: self._stopping or self._pushed < self._allowed)
            return 0 if self._stopping else min(self.rng.choice(BURSTS), self._allowed - self._pushed)
