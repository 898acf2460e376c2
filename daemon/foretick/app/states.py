"""What a checkpoint of a partition holds, as arrays and values, and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from foretick import __version__
from foretick.app.marks import Mark, pack_marks, unpack_marks
from foretick.core.snapshots import flatten, unflatten
from foretick.errors import CheckpointUnsound
from foretick.ports.checkpoints import Packed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.snapshots import Room, Snapshot
    from foretick.ports.checkpoints import Contents


class StatefulEngine(Protocol):
    """What checkpoints ask of `core.engine.Engine`."""

    @property
    def layout(self) -> dict[str, Any]:
        """What shapes its state, as JSON values."""

    def begin_snapshot(self, room: Room) -> None:
        """Have the room note what can be copied beside the loop."""

    def is_close(self, room: Room) -> bool:
        """Whether little was touched since."""

    def snapshot(self, room: Room | None = None) -> Snapshot:
        """Everything carried."""

    def restore(self, snapshot: Snapshot) -> None:
        """Become the engine of a snapshot."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Of what partition, in which Redis, with which model.

    Attributes:
        partition: its name.
        history: a random word that Redis was given when the partition's streams were first read there.
        layouts: what shapes the state of each group.
    """

    partition: str
    history: str
    layouts: dict[str, dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """Equal for models that can take each other's state."""
        return hashlib.blake2b(json.dumps(self.layouts, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class State:
    """The contents of a checkpoint.

    Attributes:
        identity: whose it is.
        marks: where each stream stood.
        saved_ms: when it was taken, milliseconds since the epoch, UTC.
        snapshots: the engine of each group.
    """

    identity: Identity
    marks: dict[bytes, Mark]
    saved_ms: int
    snapshots: dict[str, Snapshot]


def pack_state(state: State) -> Packed:
    """The container of this state; its arrays must not change before it is written."""
    arrays: dict[str, NDArray[Any]] = pack_marks(state.marks.values())
    groups: dict[str, Any] = {}
    for number, (group, snapshot) in enumerate(state.snapshots.items()):
        parts, groups[group] = flatten(snapshot)
        arrays |= {f"{number}.{name}": array for name, array in parts.items()}
    facts = {
        "version": __version__,
        "partition": state.identity.partition,
        "history": state.identity.history,
        "fingerprint": state.identity.fingerprint,
        "layouts": state.identity.layouts,
        "saved_ms": state.saved_ms,
        "groups": groups,
    }
    return Packed(arrays, facts)


def unpack_state(contents: Contents) -> State:
    """The state that these contents hold.

    Raises:
        CheckpointUnsound: they hold something else.
    """
    facts = contents.facts
    try:
        identity = Identity(str(facts["partition"]), str(facts["history"]), dict(facts["layouts"]))
        by_group: list[dict[str, NDArray[Any]]] = [{} for _ in facts["groups"]]
        for name, array in contents.arrays.items():
            number, _, part = name.partition(".")
            if number != "streams":
                by_group[int(number)][part] = array
        snapshots = {
            group: unflatten(arrays, values)
            for (group, values), arrays in zip(facts["groups"].items(), by_group, strict=True)
        }
        return State(identity, unpack_marks(contents.arrays), int(facts["saved_ms"]), snapshots)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointUnsound(f"it does not hold a partition's state: {error!r:.100}") from error


def check_fit(engine: StatefulEngine, snapshot: Snapshot) -> None:
    """See that an engine can be restored from a snapshot.

    Raises:
        CheckpointUnsound: an array is missing, superfluous, or of another shape.
    """
    own = engine.snapshot().arrays
    if own.keys() != snapshot.arrays.keys():
        raise CheckpointUnsound(f"it has other arrays than ours: {sorted(own.keys() ^ snapshot.arrays.keys())[:5]}")
    try:
        S = len(snapshot.names_by_row)
    except (TypeError, ValueError) as error:
        raise CheckpointUnsound(str(error)) from error
    for name, array in snapshot.arrays.items():
        first = {"arena": S, "names": len(array)}.get(name.partition(".")[0], len(own[name]))
        if name.startswith("recorder.kept_"):  # as many chunks as a pool holds so far
            first = len(snapshot.arrays["recorder.kept_length"])
        wanted = (first, *own[name].shape[1:])
        if array.shape != wanted or array.dtype != own[name].dtype:
            raise CheckpointUnsound(f"its array {name} is {array.dtype} {array.shape}, not {own[name].dtype} {wanted}")
