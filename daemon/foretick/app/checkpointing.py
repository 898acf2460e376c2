"""When a checkpoint is taken, and how: everything slow happens beside the loop.

    due         checkpoint.every has passed and the position has moved
    copying     a side thread copies what stands still into a room that is kept; repeated while much is touched
    cut         in the loop, at a committed position: what was touched meanwhile, a few milliseconds at the most
    writing     the side thread packs, seals and stores it
    switching   the loop's next fenced commit names it the newest; the one before the last is removed

Nothing that goes wrong here stops the loop: the checkpoints that stand go on standing, and the next try comes after
another `checkpoint.every`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.side import SideThread
from foretick.app.states import Identity, State, pack_state
from foretick.core.snapshots import Room
from foretick.errors import CheckpointFailed, ForetickError, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from foretick.app.marks import Mark
    from foretick.app.states import StatefulEngine
    from foretick.ports.checkpoints import CheckpointStore, Generation
    from foretick.ports.connection import Command
    from foretick.ports.telemetry import Telemetry

FINISH_SECONDS = 2.5  # for the last checkpoint of a clean stop, out of the five that a drain may take
GONE_MAX = 10_000  # streams that went and are remembered: half a megabyte

log = structlog.get_logger()


class Checkpointer:
    """Takes the checkpoints of one partition while it is ours; called by its loop only.

    Args:
        store: keeps them; used by the side thread while one is written.
        engines: by group.
        partition: its name.
        history: of which Redis remembers the word.
        every_seconds: time between two checkpoints.
        telemetry: metrics.
        reminder: goes along with every switch: gives Redis the history's word again, should it have been emptied.
    """

    def __init__(
        self,
        store: CheckpointStore,
        engines: Mapping[str, StatefulEngine],
        *,
        partition: str,
        history: str,
        every_seconds: float,
        telemetry: Telemetry,
        reminder: Sequence[Command] = (),
    ) -> None:
        self._store = store
        self._reminder = reminder
        self._engines = engines
        self._identity = Identity(partition, history, {group: engine.layout for group, engine in engines.items()})
        self._every_seconds = every_seconds
        self._telemetry = telemetry
        self._rooms = {group: Room() for group in engines}
        self._side = SideThread(f"checkpoint {partition}"[:15])  # more the kernel does not show
        self._abandoned = threading.Event()
        self._is_finishing = False  # nobody is left whom a pause would spare
        self._copying: Future[None] | None = None
        self._writing: Future[Generation] | None = None
        self._written: Generation | None = None  # but not named the newest yet
        self._is_switching = False  # the commit in flight names it
        self._tidying: Future[None] | None = None
        self._known: dict[bytes, Mark] = {}  # where every stream stood when it was last seen, also those that went
        self._marks: dict[bytes, Mark] = {}  # of the checkpoint on its way
        self._saved_marks: dict[bytes, Mark] | None = None  # of the newest one that stands
        self._due_at = time.monotonic() + every_seconds
        self._trouble = ""
        telemetry.renew_checkpoint(partition)  # its age counts from here while there is none

    def begin_at_once(self) -> None:
        """Have the next checkpoint begin now: after a replay, which is worth keeping."""
        self._due_at = 0.0

    def stand_at(self, marks: Mapping[bytes, Mark], size_bytes: int, saved_ms: int) -> None:
        """Note that the checkpoint of these positions was just restored."""
        self._known = dict(marks)
        self._saved_marks = dict(marks)
        self._telemetry.put_checkpoint(self._identity.partition, size_bytes, saved_ms / 1000)

    def at_position(self, marks: Callable[[], Sequence[Mark]]) -> None:
        """Do what is next; called where the engine and the committed position agree.

        Args:
            marks: tells where the streams stand.
        """
        try:
            self._step(marks)
        except (ForetickError, OSError, MemoryError) as error:
            self._fail(error)

    def commands(self) -> list[Command]:
        """What the next commit has to carry; `at_position` is called when it is through."""
        if self._written is None or self._is_switching:
            return []
        self._is_switching = True
        return [*self._reminder, *self._store.switch(self._written)]

    def finish(
        self,
        marks: Sequence[Mark],
        commit: Callable[[list[Command]], None],
        on_wait: Callable[[], None],
        wait_seconds: float,
    ) -> None:
        """Take a last checkpoint at a clean stop, if the time allows.

        Args:
            marks: where the streams stand; the engine and the committed position agree.
            commit: carries commands out, fenced.
            on_wait: keeps the lease.
            wait_seconds: between two calls of it.
        """
        deadline = time.monotonic() + FINISH_SECONDS
        self._is_finishing = True

        def result_of(future: Future[Generation] | Future[None]) -> Generation | None:
            while not future.done() and time.monotonic() < deadline:
                # An exception is set on the future as well, so waiting for it is waiting for the end.
                _wait(future, min(wait_seconds, deadline - time.monotonic()))
                on_wait()
            if not future.done():
                raise CheckpointFailed("the stop left no time for it")
            return future.result()

        try:
            if self._is_switching and self._written is not None:  # the last commit of the loop named it
                self._note_saved(self._written)
            if self._all(marks) == self._saved_marks:
                return
            self._drop_what_is_begun(result_of)
            self._cut(self._all(marks))
            assert self._writing is not None
            generation = result_of(self._writing)
            self._writing = None
            assert generation is not None
            commit([*self._reminder, *self._store.switch(generation)])
            self._note_saved(generation)
            result_of(self._side.begin(self._store.tidy))
        except LeaseLost:
            raise
        except (ForetickError, OSError, MemoryError) as error:
            self._fail(error)

    def close(self) -> None:
        """Abandon what is under way and give everything back."""
        self._abandoned.set()
        self._side.begin(self._store.close)
        self._side.end()
        self._telemetry.forget_checkpoint(self._identity.partition)

    # One step after another.

    def _step(self, marks: Callable[[], Sequence[Mark]]) -> None:
        if self._tidying is not None and self._tidying.done():
            tidying, self._tidying = self._tidying, None
            tidying.result()
        if self._is_switching:
            assert self._written is not None
            generation, self._written, self._is_switching = self._written, None, False
            self._note_saved(generation)
            self._tidying = self._side.begin(self._store.tidy)
        elif self._writing is not None:
            if self._writing.done():
                writing, self._writing = self._writing, None
                self._written = writing.result()
        elif self._copying is not None:
            if self._copying.done():
                copying, self._copying = self._copying, None
                copying.result()
                self._copy_or_cut(marks)
        elif self._written is None and time.monotonic() >= self._due_at:
            self._begin(self._all(marks()))

    def _begin(self, marks: dict[bytes, Mark]) -> None:
        self._due_at = time.monotonic() + self._every_seconds
        if marks == self._saved_marks:
            self._telemetry.renew_checkpoint(self._identity.partition)
            return
        for room in self._rooms.values():
            room.reset()
        self._copy_ahead()

    def _copy_ahead(self) -> None:
        size_bytes = 0
        for group, engine in self._engines.items():
            engine.begin_snapshot(self._rooms[group])
            size_bytes += self._rooms[group].noted_bytes
        self._check_size(size_bytes)

        def copy() -> None:
            for room in self._rooms.values():
                room.copy_ahead()

        self._copying = self._side.begin(copy)

    def _copy_or_cut(self, marks: Callable[[], Sequence[Mark]]) -> None:
        if all(engine.is_close(self._rooms[group]) for group, engine in self._engines.items()):
            self._cut(self._all(marks()))
        else:
            self._copy_ahead()

    def _cut(self, marks: dict[bytes, Mark]) -> None:
        begun = time.perf_counter()
        snapshots = {group: engine.snapshot(self._rooms[group]) for group, engine in self._engines.items()}
        state = State(self._identity, marks, time.time_ns() // 1_000_000, snapshots)
        self._telemetry.observe_turn(checkpoint=time.perf_counter() - begun)
        self._marks = marks
        self._writing = self._side.begin(lambda: self._write(state))

    def _all(self, marks: Sequence[Mark]) -> dict[bytes, Mark]:
        """These marks, and where streams that went stood last: when one comes back, the engine still knows it."""
        now = {mark.stream: mark for mark in marks}
        gone = [mark for mark in self._known.values() if mark.stream not in now]
        self._known = {mark.stream: mark for mark in gone[-GONE_MAX:]} | now
        return dict(self._known)

    # In the side thread.

    def _write(self, state: State) -> Generation:
        packed = pack_state(state)
        self._check_size(packed.size_bytes)
        self._store.tidy()  # what a failed try left behind makes room for this one
        try:
            return self._store.write(packed, self._pause)
        except ForetickError:
            self._store.tidy()
            raise

    def _pause(self, seconds: float) -> None:
        if self._abandoned.wait(0.0 if self._is_finishing else seconds):
            raise CheckpointFailed("it was abandoned")

    # Endings.

    def _drop_what_is_begun(self, result_of: Callable[[Future[Generation] | Future[None]], object]) -> None:
        """Have the side thread let go of the rooms."""
        self._abandoned.set()
        for future in (self._copying, self._writing, self._tidying):
            if future is not None:
                try:
                    result_of(future)
                except LeaseLost:  # nothing that follows may be written
                    raise
                except ForetickError as error:
                    if not future.done():
                        raise CheckpointFailed(str(error)) from error
        self._copying = self._writing = self._tidying = self._written = None
        self._is_switching = False
        self._abandoned.clear()
        for room in self._rooms.values():
            room.reset()

    def _check_size(self, size_bytes: int) -> None:
        limit_bytes = self._store.limit_bytes
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise CheckpointFailed(
                f"{size_bytes / 1e6:.0f} MB of state are more than {limit_bytes / 1e6:.0f} MB: {self._store.advice}"
            )

    def _note_saved(self, generation: Generation) -> None:
        self._saved_marks = self._marks
        self._telemetry.put_checkpoint(self._identity.partition, generation.size_bytes, time.time())
        if self._trouble:
            self._trouble = ""
            log.info("checkpoints_resumed", generation=generation.name)
        log.debug("checkpoint_written", generation=generation.name, size_bytes=generation.size_bytes)

    def _fail(self, error: Exception) -> None:
        """Count it, tell it once, and try again when the next one is due."""
        self._telemetry.count_checkpoint_failure()
        self._copying = self._writing = None
        trouble = f"{type(error).__name__} {getattr(error, 'word', '')}"
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("checkpoint_failed", reason=str(error) or type(error).__name__)


def _wait(future: Future[Generation] | Future[None], seconds: float) -> None:
    try:
        future.exception(timeout=max(seconds, 0.0))
    except TimeoutError:
        return
