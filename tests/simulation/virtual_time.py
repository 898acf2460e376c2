"""Threads that take turns, one at a time, in a time of their own: what happens is a function of the seed alone.

An actor runs until it waits; then whoever may go on is drawn by lot, and where nobody may, the time jumps to the next
moment at which somebody may. Nothing in here ever waits for the real clock.
"""

from __future__ import annotations

import heapq
import random
import secrets
import sys
import threading
import time as real_time
from contextlib import contextmanager
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from foretick.app.patience import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN_SECONDS = 1_700_000_000.0  # virtual time begins here, seconds since the epoch
NEVER = float("inf")


class Killed(BaseException):
    """Unwinds an actor whose process is no more."""


class Stuck(Exception):
    """Nobody may ever go on, or too much happens for what it brings."""


class Host:
    """A process: killed, paused or stopped as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.paused_until = 0.0


class Actor:
    """One thread of a host."""

    def __init__(self, time: VirtualTime, host: Host, name: str, body: Callable[[], object]) -> None:
        self.host = host
        self.name = name
        self.error: BaseException | None = None
        self.is_over = False
        self.ready: Callable[[], Any] | None = None
        self.until = 0.0
        self.turn = threading.Lock()
        self.turn.acquire()
        self._time = time
        self._body = body
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.turn.acquire()
        try:
            if not self.host.is_dead:
                self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  told by the world, in the test's thread
            self.error = error
        self.is_over = True
        self._time.hand_back()

    def may_go_on(self, now: float) -> bool:
        if self.host.is_dead:
            return True
        if self.host.paused_until > now:
            return False
        return self.until <= now or (self.ready is not None and bool(self.ready()))

    @property
    def due_at(self) -> float:
        return max(self.until, self.host.paused_until) if not self.host.is_dead else 0.0

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), f"{self.name} does not end"


class VirtualTime:
    """The clock, and everybody who lives by it."""

    def __init__(self, rng: random.Random) -> None:
        self.now = 0.0
        self.switches = 0
        self._rng = rng
        self._actors: list[Actor] = []
        self._running: Actor | None = None
        self._main = threading.Lock()
        self._main.acquire()
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = 0

    # For everybody.

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Have something done then; it must not wait."""
        self._numbers += 1
        heapq.heappush(self._events, (max(moment, self.now), self._numbers, act))

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.at(self.now + seconds, act)

    def spawn(self, host: Host, name: str, body: Callable[[], object]) -> Actor:
        made = Actor(self, host, name, body)
        self._actors.append(made)
        return made

    # For actors.

    def wait(self, ready: Callable[[], Any] | None, seconds: float = NEVER) -> bool:
        """Until it is ready, or for so long; whether it is. Others go on meanwhile."""
        actor = self._running
        if actor is None:  # the test itself: nobody to wait for
            return ready is not None and bool(ready())
        if actor.host.is_dead:
            raise Killed
        actor.ready, actor.until = ready, self.now + seconds
        self._running = None
        self._main.release()
        actor.turn.acquire()
        if actor.host.is_dead:
            raise Killed
        return ready is not None and bool(ready())

    def sleep(self, seconds: float) -> None:
        self.wait(None, seconds)

    def hand_back(self) -> None:
        """An actor ends."""
        self._running = None
        self._main.release()

    @property
    def host(self) -> Host | None:
        """Whose turn it is."""
        return self._running.host if self._running else None

    # For the test.

    def run(self, is_over: Callable[[], bool], until: float, switches_max: int) -> bool:
        """Let everybody live until it is over; false when that did not come in time."""
        while not is_over():
            if self.now >= until:
                return False
            if self.switches >= switches_max:
                raise Stuck(f"{self.switches} switches in {self.now:.1f} s")
            self._step(until)
        return True

    def end(self) -> None:
        """Nobody is left."""
        for actor in self._actors:
            actor.host.is_dead = True
        while any(not actor.is_over for actor in self._actors):
            self._resume(next(actor for actor in self._actors if not actor.is_over))
        for actor in self._actors:
            actor.join()

    def _step(self, until: float) -> None:
        if self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
            return
        self._actors = [actor for actor in self._actors if not actor.is_over or actor.error]
        living = [actor for actor in self._actors if not actor.is_over]
        able = [actor for actor in living if actor.may_go_on(self.now)]
        if able:
            self.switches += 1
            self._resume(able[0] if len(able) == 1 else self._rng.choice(able))
            return
        moments = [actor.due_at for actor in living] + [moment for moment, *_ in self._events[:1]]
        self.now = min([*moments, until])

    def _resume(self, actor: Actor) -> None:
        self._running = actor
        actor.turn.release()
        self._main.acquire()

    @property
    def errors(self) -> list[BaseException]:
        return [actor.error for actor in self._actors if actor.error]


class Clock:
    """In the place of the module `time`."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time

    def monotonic(self) -> float:
        return self._time.now + 1000.0

    perf_counter = thread_time = monotonic  # an engine at work sleeps, and nothing else takes time

    def time(self) -> float:
        return self._time.now + BEGIN_SECONDS

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def sleep(self, seconds: float) -> None:
        self._time.sleep(seconds)


class VirtualStop:
    """In the place of a `StopSignal`."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def wait(self, seconds: float) -> bool:
        self._time.wait(self.is_set, seconds)
        return self._is_set

    def pause(self, seconds: float) -> None:
        if self.wait(seconds):
            raise StopRequested


class VirtualEvent(VirtualStop):
    """In the place of a `threading.Event`."""

    def clear(self) -> None:
        self._is_set = False


class VirtualFuture:
    """In the place of a `Future` that another actor fulfils."""

    def __init__(self) -> None:
        self._is_done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def fulfil(self, act: Callable[[], Any]) -> None:
        try:
            self._value = act()
        except Exception as error:  # noqa: BLE001  raised again where the result is asked for
            self._error = error
        self._is_done = True

    def done(self) -> bool:
        return self._is_done

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class VirtualSide:
    """In the place of a `SideThread`: an actor of the same host."""

    def __init__(self, time: VirtualTime, name: str) -> None:
        self._time = time
        self._name = name
        self._acts: list[tuple[VirtualFuture, Callable[[], Any]] | None] = []
        self._actor: Actor | None = None

    def begin(self, act: Callable[[], Any]) -> VirtualFuture:
        future = VirtualFuture()
        self._acts.append((future, act))
        if self._actor is None and self._time.host is not None:
            self._actor = self._time.spawn(self._time.host, self._name, self._run)
        return future

    def end(self) -> None:
        self._acts.append(None)

    def _run(self) -> None:
        while True:
            self._time.wait(lambda: self._acts)
            item = self._acts.pop(0)
            if item is None:
                return
            future, act = item
            future.fulfil(act)


@contextmanager
def everywhere(time: VirtualTime, rng: random.Random) -> Iterator[None]:
    """Have all of foretick live by this clock and by these dice."""
    from foretick.app import checkpointing

    substitutes = {
        "time": Clock(time),
        "random": rng,
        "secrets": SimpleNamespace(token_hex=lambda n: rng.randbytes(n).hex()),
    }
    places = [(module, name, substitutes[kind]) for module, name, kind in _places()]
    places += [
        (checkpointing, "SideThread", lambda name: VirtualSide(time, name)),
        (checkpointing, "threading", SimpleNamespace(Event=lambda: VirtualEvent(time))),
        (checkpointing, "_wait", lambda future, seconds: time.wait(future.done, max(seconds, 0.0))),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, substitute in places:
        setattr(place, name, substitute)
    try:
        yield
    finally:
        for place, name, former in before:
            setattr(place, name, former)


@cache
def _places() -> list[tuple[ModuleType, str, str]]:
    """Where foretick's modules know the clock and the dice: module, name there, which."""
    wanted = {id(real_time): "time", id(random): "random", id(secrets): "secrets"}
    return [
        (module, name, wanted[id(value)])
        for module_name, module in sorted(sys.modules.items())
        if module_name.startswith("foretick.")
        for name, value in vars(module).items()
        if id(value) in wanted
    ]
