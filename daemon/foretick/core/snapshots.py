"""Snapshots: everything an engine carries, copied at one position of the stream without stopping the loop for long.

Copying 100 MB takes 10 to 30 ms, and 130 ms into fresh memory, since the kernel has to clear each page first. So the
bulk is copied beside the running engine, torn rows and all, into a room that is kept from one snapshot to the next;
the rows that were touched meanwhile are copied again at the cut, between two ticks, where all stands still:

    room.begin(…)        in the loop: note what there is, and forget which rows were touched
    room.copy_ahead()    in any other thread, while the engine goes on
    room.is_close(…)     in the loop: whether few rows were touched since; else begin again, with those rows only
    engine.snapshot(room)    in the loop: what was touched since, and all that is small
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.core.columns import FREE
from foretick.core.learner import Job, Knowledge
from foretick.core.linear import completed
from foretick.core.recorder import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretick.core.recipe import Recipe

CLOSE_BYTES = 2 << 20  # copied again at the cut at most: about a millisecond
PASSES_MAX = 4  # each finds about a tenth of the rows touched that the one before found; more are not worth the wait
_SPARE = 0.25  # share of memory taken ahead, so that growth between two snapshots finds room that is there

# Settings that shape no array and leave the meaning of those that exist: they may change from one run to the next.
HARMLESS = frozenset(
    {"max_series", "ttl_ms", "seed", "cold_ticks", "late_run", "season.durations_ms", "season.week_below_ticks"}
    | {"learn.enabled"}
    | {"learn.every", "learn.early_every", "learn.early_until", "learn.steps", "learn.rate", "learn.rate_floor"}
    | {"learn.rate_until", "learn.clip_norm"}
)


@dataclass(frozen=True)
class Snapshot:
    """Everything an engine carries, copied: restoring it and going on equals never having stopped.

    Attributes:
        arrays: all arrays by name.
        numbers: all counters by name.
        knowledge: what was learned so far.
        job: the learning job in flight, if any.
    """

    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, dict[str, Any]]
    knowledge: Knowledge
    job: Job | None

    @property
    def names(self) -> list[bytes]:
        """Series ids in the order of their rows, as `names_by_row` without the gaps."""
        return [name for name in self.names_by_row if name is not None]

    @property
    def names_by_row(self) -> list[bytes | None]:
        """Series id of each row; none where the row is free.

        Raises:
            ValueError: they do not add up, or one appears twice.
        """
        return self._register[0]

    @property
    def row_of(self) -> dict[bytes, int]:
        """The inverse of `names_by_row`, which says what it raises."""
        return self._register[1]

    @cached_property
    def _register(self) -> tuple[list[bytes | None], dict[bytes, int]]:
        lengths, joined = self.arrays["arena.name_length"], self.arrays["names.bytes"].tobytes()
        taken = np.maximum(lengths, 0)
        if (lengths < FREE).any() or int(taken.sum(dtype=np.int64)) != len(joined):
            raise ValueError("the series ids do not add up")
        names: list[Any] = list(map(BytesIO(joined).read, taken.tolist()))
        for row in np.flatnonzero(lengths == FREE).tolist():
            names[row] = None
        row_of = dict(zip(names, range(len(names)), strict=True))
        row_of.pop(None, None)
        if len(row_of) != np.count_nonzero(lengths != FREE):
            raise ValueError("a series id appears twice")
        return names, row_of


class Room:
    """Memory for the snapshots of one engine, one at a time."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._views: dict[str, NDArray[Any]] = {}
        self._stale: NDArray[np.int64] | None = None
        self._ahead = 0  # leading rows that were copied ahead
        self.passes = 0

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        return sum(len(buffer) for buffer in self._buffers.values())

    @property
    def noted_bytes(self) -> int:
        """Size of what `begin` noted: about that of a snapshot."""
        return sum(array.nbytes for array in self._views.values())

    def begin(self, rows: Mapping[str, NDArray[Any]], touched: NDArray[np.bool_]) -> None:
        """Note the arrays to copy ahead, by series row; from now on the engine marks in `touched` what it changes."""
        self._stale = np.flatnonzero(touched[: self._ahead]) if self.passes else None
        self._views = dict(rows)
        self.passes += 1
        touched[:] = False

    def copy_ahead(self) -> None:
        """Copy what `begin` noted; the engine may go on, since what it touches is copied again."""
        rows = 0
        for name, array in self._views.items():
            self._copy_rows(self._place(name, array), array)
            rows = len(array)
        self._ahead = rows

    def is_close(self, rows: Mapping[str, NDArray[Any]], touched: NDArray[np.bool_]) -> bool:
        """Whether so little was touched since `begin` that the rest can be copied at the cut."""
        width = sum(array[:1].nbytes for array in rows.values())
        new = max(map(len, rows.values()), default=0) - self._ahead
        changed = int(np.count_nonzero(touched[: self._ahead])) + new
        return self.passes >= PASSES_MAX or changed * width <= CLOSE_BYTES

    def take(
        self, rows: Mapping[str, NDArray[Any]], whole: Mapping[str, NDArray[Any]], touched: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        """At the cut: copies of all arrays, in this room, good until the next `begin` or `take`.

        Args:
            rows: arrays by series row, of which only touched rows changed since `begin`.
            whole: other arrays, copied whole.
            touched: rows that changed since `begin`.
        """
        self._stale = np.flatnonzero(touched[: self._ahead]) if self._views else None
        taken: dict[str, NDArray[Any]] = {}
        for name, array in rows.items():
            taken[name] = self._place(name, array)
            self._copy_rows(taken[name], array)
        for name, array in whole.items():
            taken[name] = self._place(name, array)
            np.copyto(taken[name], array)
        self.reset()
        return taken

    def reset(self) -> None:
        """Forget what was copied ahead; the memory stays."""
        self._views, self._stale, self._ahead, self.passes = {}, None, 0, 0

    def _copy_rows(self, place: NDArray[Any], array: NDArray[Any]) -> None:
        if self._stale is None:
            np.copyto(place, array)
        elif array[:1].nbytes:
            ours, theirs = _records(place), _records(array)
            ours[self._stale] = theirs[self._stale]
            ours[self._ahead :] = theirs[self._ahead :]

    def _place(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Memory for a copy of this array: what it held of an earlier, shorter one is still there."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < array.nbytes:
            grown = np.empty(int(array.nbytes * (1 + _SPARE)), np.uint8)
            grown.fill(0)  # has the kernel give the pages now
            if buffer is not None:
                grown[: len(buffer)] = buffer
            buffer = self._buffers[name] = grown
        return buffer[: array.nbytes].view(array.dtype).reshape(array.shape)


def _records(array: NDArray[Any]) -> NDArray[Any]:
    """(S,) the rows as opaque records: they copy several times faster than elements."""
    return array.reshape(len(array), -1).view(f"V{array[:1].nbytes}")[:, 0]


# As plain arrays and plain JSON values, and back.


def shaping(recipe: Recipe) -> dict[str, Any]:
    """Every constant that shapes the carried arrays or gives them their meaning, by dotted name."""
    return {name: value for name, value in _flat(asdict(recipe)).items() if name not in HARMLESS}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def flatten(snapshot: Snapshot) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All arrays by name, and the rest as JSON values."""
    arrays = {f"state.{name}": array for name, array in snapshot.arrays.items()}
    arrays |= _of_knowledge("knowledge", snapshot.knowledge)
    facts: dict[str, Any] = {"numbers": snapshot.numbers, "steps": snapshot.knowledge.steps, "job": None}
    job = snapshot.job
    if job is not None:
        own = job.knowledge is not snapshot.knowledge
        facts["job"] = {"number": job.number, "rate": job.rate, "batches": len(job.batches)}
        if own:
            facts["job"]["steps"] = job.knowledge.steps
            arrays |= _of_knowledge("job.knowledge", job.knowledge)
        for i, batch in enumerate(job.batches):
            arrays |= {f"job.{i}.{part}": getattr(batch, part) for part in Batch.__slots__}
    return arrays, facts


def unflatten(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Snapshot:
    """The inverse of `flatten`.

    Raises:
        KeyError, TypeError, ValueError: these are not the arrays and values of a snapshot.
    """
    knowledge = _knowledge("knowledge", arrays, facts["steps"])
    state = {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}
    return Snapshot(completed(state), dict(facts["numbers"]), knowledge, _job(arrays, facts["job"], knowledge))


def _job(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None, knowledge: Knowledge) -> Job | None:
    if facts is None:
        return None
    if "steps" in facts:
        knowledge = _knowledge("job.knowledge", arrays, facts["steps"])
    batches = [
        Batch(**{part: arrays[f"job.{i}.{part}"].copy() for part in Batch.__slots__}) for i in range(facts["batches"])
    ]
    return Job(int(facts["number"]), knowledge, float(facts["rate"]), batches)


def _of_knowledge(prefix: str, knowledge: Knowledge) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{part}": getattr(knowledge, part).detach().numpy() for part in ("theta", "mean", "square")}


def _knowledge(prefix: str, arrays: Mapping[str, NDArray[Any]], steps: Any) -> Knowledge:
    theta, mean, square = (torch.from_numpy(arrays[f"{prefix}.{part}"].copy()) for part in ("theta", "mean", "square"))
    return Knowledge(theta, mean, square, int(steps))
