"""What a partition's checkpoints hold, as far as people ask: read whole, so that "sound" means what a start would find.

Without torch: a look at a checkpoint should not take longer than the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretick.app.marks import unpack_marks
from foretick.errors import CheckpointUnsound, StateUnreadable
from foretick.ports.checkpoints import FolderStore, RedisStore, unpack
from foretick.ports.wire import checkpoint_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretick.app.settings import Settings
    from foretick.ports.checkpoints import CheckpointStore, Contents, Generation
    from foretick.ports.connection import RedisConnection


@dataclass(frozen=True, slots=True)
class GenerationSeen:
    """One stored checkpoint.

    Attributes:
        name: of the generation; empty where not even a list of them can be read.
        size_bytes: of its container.
        unsound: why a start would not use it; empty when it would.
        schema: of the container.
        version: of the foretick that wrote it.
        saved_ms: when it was taken, milliseconds since the epoch, UTC.
        groups: series by group.
        positions: where each stream stood.
        entries_read: of each stream, up to there.
    """

    name: str
    size_bytes: int
    unsound: str = ""
    schema: int | None = None
    version: str | None = None
    saved_ms: int | None = None
    groups: dict[str, int] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)
    entries_read: dict[str, int] = field(default_factory=dict)

    @property
    def series(self) -> int:
        """Of all groups."""
        return sum(self.groups.values())


def look_at_generations(connection: RedisConnection, settings: Settings, partition: str) -> list[GenerationSeen]:
    """The generations in the store that the settings name, newest first."""
    prefix, name = settings.prefix.encode(), partition.encode()
    base = checkpoint_key(prefix, name)
    store: CheckpointStore
    if isinstance(settings.checkpoint.store, Path):
        store = folder = FolderStore(settings.checkpoint.store, prefix, name)
        if not folder.folder.is_dir():
            return []  # the store itself would make it
    else:
        store = RedisStore(connection, base, settings.checkpoint.redis_max)
    history = connection.call(b"GET", base + b":history")
    try:
        generations = store.generations()
    except (CheckpointUnsound, StateUnreadable) as reason:
        return [GenerationSeen("", 0, str(reason))]
    return [_look(store, one, history.decode() if history else "") for one in generations]


def _look(store: CheckpointStore, generation: Generation, history: str) -> GenerationSeen:
    try:
        contents = unpack(store.read(generation, lambda: None))
        return _decoded(generation, contents, history)
    except CheckpointUnsound as reason:
        return GenerationSeen(generation.name, generation.size_bytes, str(reason))


def _decoded(generation: Generation, contents: Contents, history: str) -> GenerationSeen:
    facts, arrays = contents.facts, contents.arrays
    try:
        marks = unpack_marks(arrays).values()
        return GenerationSeen(
            generation.name,
            generation.size_bytes,
            "" if facts["history"] == history else "it is of another Redis, or of one that was emptied since",
            int(facts["schema"]),
            str(facts["version"]),
            int(facts["saved_ms"]),
            {str(group): _count(arrays, number) for number, group in enumerate(facts["groups"])},
            {_text(mark.stream): mark.position.decode() for mark in marks},
            {_text(mark.stream): mark.entries_read for mark in marks},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointUnsound(f"it does not hold a partition's state: {error!r:.100}") from error


def _count(arrays: Mapping[str, NDArray[Any]], number: int) -> int:
    """Series of a group: rows that are not free."""
    return int((arrays[f"{number}.state.arena.name_length"] >= 0).sum())


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
