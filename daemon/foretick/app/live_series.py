"""The series that the page offers: searched for by name, the worst first, the newest first, or the longest silent.

It reads the engines' own arrays on a thread of the HTTP server, without stopping anybody: one search at a time, names
in stretches with pauses between, and the same question is answered once in a while only.
"""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foretick.core.targets import TARGET_MARK
from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from foretick.core.scores import SeriesStates

Order = Literal["worst", "newest", "silent"]

ROWS_MAX = 100  # that a person looks through; the search finds the others
STRETCH_NAMES = 5000  # 0.5 ms of the interpreter
PAUSE_SECONDS = 0.001  # between two stretches, for the loop
MATCHES_MAX = 2000  # of a search; who finds more has to type more
SEARCH_MAX_SECONDS = 2.0  # a million names on an idle machine; on a busy one the rest is not searched, and said so
FRESH_SECONDS = 1.0  # an answer holds so long at least,
FRESH_COSTS = 20.0  # and so many times as long as it took: 5% of a core at most
REMEMBERED_MAX = 64  # questions
SETTLED_MIN = 100  # forecasts whose actual has arrived, before a series counts among the worst: fewer are chance
_FREE_MS = np.iinfo(np.int64).max  # entry time in a free row


@dataclass(frozen=True, slots=True)
class _Answer:
    rows: dict[str, Any]
    good_until: float


class SeriesList:
    """What series there are, for people.

    Args:
        states: of all groups of all partitions.
    """

    def __init__(self, states: Callable[[], Iterable[SeriesStates]]) -> None:
        self._states = states
        self._turn = threading.Lock()
        self._answers: dict[tuple[Order, str], _Answer] = {}

    def ask(self, order: Order, text: str) -> dict[str, Any]:
        """The first series in this order whose name, or whose stream's, holds the text in any case; as JSON values."""
        with self._turn:
            known = self._answers.get((order, text))
            if known is not None and known.good_until > time.monotonic():
                return known.rows
            begun = time.monotonic()
            rows = self._find(order, text.lower().encode())
            now = time.monotonic()
            if len(self._answers) >= REMEMBERED_MAX:
                self._answers = {asked: one for asked, one in self._answers.items() if one.good_until > now}
            if len(self._answers) < REMEMBERED_MAX:
                self._answers[order, text] = _Answer(rows, now + max(FRESH_SECONDS, FRESH_COSTS * (now - begun)))
            return rows

    def _find(self, order: Order, text: bytes) -> dict[str, Any]:
        total = matches = 0
        give_up = time.monotonic() + SEARCH_MAX_SECONDS
        found: list[tuple[float, dict[str, Any]]] = []
        for states in self._states():
            view = _View(states)
            total += view.live
            rows = view.rows if not text else _matching(states, view, text, MATCHES_MAX - matches, give_up)
            matches += len(rows)
            found += view.told(rows, order)
        found.sort(key=lambda pair: pair[0])
        told = [row for _, row in found[:ROWS_MAX]]
        more = bool(text) and (matches >= MATCHES_MAX or time.monotonic() > give_up)
        return {"total": total, "matches": matches, "more": more, "rows": told}


def _matching(states: SeriesStates, view: _View, text: bytes, at_most: int, give_up: float) -> NDArray[np.int64]:
    """Rows whose names hold the text, in no longer a time than a person waits."""
    found: list[int] = []
    for start in range(0, len(view.last_ms), STRETCH_NAMES):
        if start:
            time.sleep(PAUSE_SECONDS)
        names = states.names[start : min(start + STRETCH_NAMES, len(view.last_ms))]
        found += [start + i for i, name in enumerate(names) if name is not None and text in name.lower()]
        if len(found) >= at_most or time.monotonic() > give_up:
            break
    return np.array(found[: max(at_most, 0)], np.int64)


class _View:
    """The states of one group, all of one length whatever the loop adds meanwhile."""

    def __init__(self, states: SeriesStates) -> None:
        n = min(len(states.names), len(states.last_ms), len(states.t))
        self._states = states
        self.last_ms, self._t = states.last_ms[:n].copy(), states.t[:n].copy()
        self._error, self._naive = states.mean_error[:n].copy(), states.mean_naive[:n].copy()
        self.rows = np.flatnonzero(self.last_ms != _FREE_MS)
        self.live = len(self.rows)

    def told(self, rows: NDArray[np.int64], order: Order) -> list[tuple[float, dict[str, Any]]]:
        """The first of these rows, with their places in the order."""
        rank = self._rank(rows, order)
        if len(rows) > ROWS_MAX:
            first = np.argpartition(rank, ROWS_MAX)[:ROWS_MAX]
            rows, rank = rows[first], rank[first]
        pairs = ((self._row(row), place) for row, place in zip(rows.tolist(), rank.tolist(), strict=True))
        return [(place, row) for row, place in pairs if row is not None]

    def _rank(self, rows: NDArray[np.int64], order: Order) -> NDArray[np.float64]:
        """(n,) the smaller the earlier."""
        if order == "newest":
            return len(self.last_ms) - rows.astype(np.float64)  # rows are in the order of first appearance
        if order == "silent":
            return self.last_ms[rows].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self._error[rows].astype(np.float64) / self._naive[rows]
        counts = (self._t[rows] >= SETTLED_MIN) & np.isfinite(ratio)
        return np.where(counts, -ratio, 1.0)  # those that cannot be judged come last

    def _row(self, row: int) -> dict[str, Any] | None:
        key = self._states.names[row]
        if key is None:
            return None
        error, naive = float(self._error[row]), float(self._naive[row])
        return {
            **names_of(key),
            "t": int(self._t[row]),
            "last_ms": int(self.last_ms[row]),
            "mae": error if np.isfinite(error) else None,
            "naive_mae": naive if np.isfinite(naive) else None,
        }


def names_of(key: bytes) -> dict[str, str]:
    """How a series is called, by people and by the page."""
    stream, series = split_series_key(key.replace(TARGET_MARK, b"."))
    return {
        "id": base64.urlsafe_b64encode(key).decode().rstrip("="),
        "stream": stream.decode(errors="replace"),
        "series": series.decode(errors="replace"),
    }


def key_of(series_id: str) -> bytes | None:
    """The key that an id stands for; none where it stands for none."""
    try:
        key = base64.b64decode(series_id + "=" * (-len(series_id) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return key if b"\0" in key else None
