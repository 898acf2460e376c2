"""An engine that costs nothing and forgets nothing, and whose state can be kept in checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick.core.learner import Knowledge
from foretick.core.records import Forecasts
from foretick.core.snapshots import Snapshot
from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.core.records import Ticks
    from foretick.core.scores import GroupScores
    from foretick.core.snapshots import Room

NOTHING = np.zeros(0, np.bool_)


class CheapEngine:
    """A tick lost, doubled or out of order changes every later forecast of its stream.

    Args:
        spend: told how many ticks it has just worked on.
    """

    group = "default"

    def __init__(self, spend: Callable[[int], None] = lambda _: None) -> None:
        self._spend = spend
        self._state: dict[bytes, float] = {}

    @property
    def layout(self) -> dict[str, Any]:
        return {"kind": "cheap"}

    def advance(self, ticks: Ticks) -> Forecasts:
        answer = Forecasts.empty(len(ticks))
        state = self._state
        for i, (key, y) in enumerate(zip(ticks.series, ticks.y.tolist(), strict=True)):
            stream = split_series_key(key)[0] + b"\0"
            state[key] = state.get(key, 0.0) * 0.9 + y
            state[stream] = state.get(stream, 0.0) * 0.5 + y
            answer.yhat[i] = state[key] + state[stream]
        self._spend(len(ticks))
        return answer

    def scores(self) -> list[GroupScores]:
        return []

    def begin_snapshot(self, room: Room) -> None:
        room.begin({}, NOTHING)

    def is_close(self, room: Room) -> bool:
        return room.is_close({}, NOTHING)

    def snapshot(self, _room: Room | None = None) -> Snapshot:
        names = list(self._state)
        arrays = {
            "arena.name_length": np.array([len(name) for name in names], np.int64),
            "names.bytes": np.frombuffer(b"".join(names), np.uint8),
            "arena.state": np.array(list(self._state.values()), np.float64),
        }
        return Snapshot(arrays, {}, Knowledge.fresh(torch.zeros(1)), None)

    def restore(self, snapshot: Snapshot) -> None:
        self._state = dict(zip(snapshot.names, snapshot.arrays["arena.state"].tolist(), strict=True))
