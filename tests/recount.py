"""An independent recount: what a daemon owes for a stream, counted again from Redis alone.

Written from the wire contract with nothing but redis-py and the standard library; no line of foretick is imported, so
a mistake there cannot hide here. `Recount.faults` tells every way in which the streams break the promise of exactly
one answer per entry; `Recount.scores` computes the live accuracy again that the daemon tells Prometheus.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import redis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]

MOVE_RATE = 0.005  # slowest rate at which a series' mean absolute first difference forgets
SHOWN_MAX = 5  # faults of one kind in a message
SAMPLE = re.compile(r"^foretick_(\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Step(NamedTuple):
    """A forecast that met its actual: the series' value before, the forecast made there, the value that came."""

    before: float
    yhat: float
    y: float


@dataclass(frozen=True)
class Recount:
    """Everything that Redis holds about one input stream, read when nothing moves.

    `group` is None where the input has none; `aside` names streams of forecasts or dead letters that were set aside.
    """

    stream: bytes
    entries: list[Entry]
    forecasts: list[Entry]
    dead: list[Entry]
    latest: dict[bytes, bytes]
    group: dict[str, Any] | None
    aside: list[bytes]

    def faults(self) -> list[str]:
        """Every way in which entries and answers disagree; empty when each entry has exactly one answer."""
        return [*self._answers(), *self._copies(), *self._newest(), *self._position()]

    @property
    def reasons(self) -> dict[bytes, str]:
        """Reason of every dead letter, by entry id."""
        return {entry_id: fields[b"reason"].decode() for entry_id, fields in self.dead}

    def _answers(self) -> Iterator[str]:
        asked = {entry_id for entry_id, _ in self.entries}
        answers = Counter(entry_id for entry_id, _ in [*self.forecasts, *self.dead])
        yield from _found("without an answer", asked - set(answers))
        yield from _found("with an answer but never asked", set(answers) - asked)
        yield from _found("answered twice", (entry_id for entry_id, n in answers.items() if n > 1))
        for name, answered in (("forecasts", self.forecasts), ("dead", self.dead)):
            order = [order_of(entry_id) for entry_id, _ in answered]
            if any(one >= other for one, other in pairwise(order)):
                yield f"the ids of {name} do not rise"

    def _copies(self) -> Iterator[str]:
        """A forecast repeats the series, time and value of its own tick and no other."""
        ticks = dict(self.entries)
        for entry_id, fields in self.forecasts:
            if (tick := ticks.get(entry_id)) is None:
                continue
            if fields.get(b"series") != tick.get(b"series", self.stream):
                yield f"{entry_id!r} is a forecast of another series: {fields}"
            if int(fields[b"ts"]) != int(tick.get(b"ts", entry_id.partition(b"-")[0])):
                yield f"{entry_id!r} has another time than its tick: {fields}"
            if float(fields[b"y"]) != float(tick[b"value"]):
                yield f"{entry_id!r} has another value than its tick: {fields}"
            if not math.isfinite(float(fields[b"yhat"])):
                yield f"{entry_id!r} forecasts {fields[b'yhat']!r}"
            if fields[b"stage"] not in {b"cold", b"warm"}:
                yield f"{entry_id!r} is at stage {fields[b'stage']!r}"

    def _newest(self) -> Iterator[str]:
        """The hash of last forecasts holds exactly the last forecast of each series, number for number."""
        last = {fields[b"series"]: fields for _, fields in self.forecasts}
        yield from _found("in `latest` only", set(self.latest) - set(last))
        yield from _found("missing in `latest`", set(last) - set(self.latest))
        for series in set(last) & set(self.latest):
            told = json.loads(self.latest[series], parse_float=str, parse_int=str)
            if told != {name.decode(): text.decode() for name, text in last[series].items()}:
                yield f"`latest` of {series!r} is {told}, its last forecast {last[series]}"

    def _position(self) -> Iterator[str]:
        if self.group is None:
            yield "there is no group"
            return
        top = self.entries[-1][0] if self.entries else b"0-0"
        if self.group["last-delivered-id"] != top:
            yield f"the position is {self.group['last-delivered-id']!r}, the last entry {top!r}"
        if self.group["lag"] != 0 or self.group["pending"] != 0:
            yield f"the group lags or has pending entries: {self.group}"

    def steps(self) -> dict[bytes, list[list[Step]]]:
        """By series, its forecasts that met their actual; a new list wherever the series began anew.

        It begins anew where a tick with a time of its own was accepted although it is older than the one before.
        """
        ticks = dict(self.entries)
        before: dict[bytes, dict[bytes, bytes]] = {}
        runs: dict[bytes, list[list[Step]]] = defaultdict(lambda: [[]])
        for entry_id, fields in self.forecasts:
            series = fields[b"series"]
            last = before.get(series)
            before[series] = fields
            if last is None:
                continue
            if b"ts" in ticks[entry_id] and int(fields[b"ts"]) < int(last[b"ts"]):
                runs[series].append([])
                continue
            runs[series][-1].append(Step(float(last[b"y"]), float(last[b"yhat"]), float(fields[b"y"])))
        return dict(runs)

    def scores(self) -> dict[str, float]:
        """The accuracy counters: sums of errors over the running mean |first difference| of their series."""
        scored = 0
        errors: list[float] = []
        naive_errors: list[float] = []
        for run in (run for runs in self.steps().values() for run in runs):
            move = 0.0
            for t, step in enumerate(run, start=1):
                scored += 1
                difference = step.y - step.before
                move += max(MOVE_RATE, 1 / t) * (abs(difference) - move)
                if move > 0:
                    errors.append((step.y - step.yhat) / move)
                    naive_errors.append(difference / move)
        return {
            "scored_total": scored,
            "scaled_abs_error_total": math.fsum(map(abs, errors)),
            "naive_scaled_abs_error_total": math.fsum(map(abs, naive_errors)),
            "scaled_squared_error_total": math.fsum(error**2 for error in errors),
            "naive_scaled_squared_error_total": math.fsum(error**2 for error in naive_errors),
        }

    def rel_mae(self, burn_in_ticks: int) -> dict[bytes, float]:
        """By series, our mean absolute error over the naive forecast's, after its first ticks; 1 is naive."""
        found = {}
        for series, runs in self.steps().items():
            steps = [step for run in runs for step in run][burn_in_ticks:]
            naive = math.fsum(abs(step.y - step.before) for step in steps)
            if naive > 0:
                found[series] = math.fsum(abs(step.y - step.yhat) for step in steps) / naive
        return found


def recount(client: redis.Redis, stream: str = "ticks", prefix: str = "foretick") -> Recount:
    """Read the input and all that was written about it; the client must not decode replies."""
    own = f"{prefix}:{{{stream}}}"
    groups = client.xinfo_groups(stream) if client.exists(stream) else []
    return Recount(
        stream=stream.encode(),
        entries=read_stream(client, stream),
        forecasts=read_stream(client, f"{own}:forecasts"),
        dead=read_stream(client, f"{own}:dead"),
        latest=client.hgetall(f"{own}:latest"),
        group=next((group for group in groups if group["name"] == b"foretick"), None),
        aside=[key for key in client.scan_iter(f"{own}:*") if b":aside:" in key],
    )


def read_stream(client: redis.Redis, key: str) -> list[Entry]:
    """All entries; of a field that occurs twice in one the first counts, where redis-py would tell the last."""
    plain = redis.Redis(connection_pool=client.connection_pool)
    plain.response_callbacks.clear()
    return [
        (entry_id, dict(zip(flat[-2::-2], flat[-1::-2], strict=True)))  # from the end: the first is put in last
        for entry_id, flat in plain.execute_command("XRANGE", key, "-", "+")
    ]


def answers(client: redis.Redis, stream: str = "ticks", prefix: str = "foretick") -> int:
    """Forecasts and dead letters that stand."""
    return sum(client.xlen(f"{prefix}:{{{stream}}}:{what}") for what in ("forecasts", "dead"))


def is_drained(client: redis.Redis, stream: str = "ticks") -> bool:
    """Whether the committed position is the stream's last entry."""
    last = client.xrevrange(stream, count=1)
    groups = client.xinfo_groups(stream) if last else []
    return bool(groups) and groups[0]["last-delivered-id"] == last[0][0]


def order_of(entry_id: bytes) -> tuple[int, int]:
    """The entry id as numbers."""
    ms, seq = entry_id.split(b"-")
    return int(ms), int(seq)


def samples(exposition: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a metrics page, by name without `foretick_` and labels."""
    return {
        (name, frozenset(LABEL.findall(labels))): float(value) for name, labels, value in SAMPLE.findall(exposition)
    }


def total(exposition: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels; 0 where there are none."""
    found = samples(exposition).items()
    return sum(value for (other, given), value in found if other == name and given >= set(labels.items()))


def events(output: str, event: str | None = None) -> list[dict[str, Any]]:
    """The log lines, or those of one event, in a daemon's output; a line that is no JSON object counts as `stray`."""
    lines = [_line(text) for text in output.splitlines() if text.strip()]
    return [line for line in lines if event in {None, line["event"]}]


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) and "event" in line else {"event": "stray", "text": text}


def _found(what: str, ids: Iterable[bytes]) -> Iterator[str]:
    listed = sorted(ids)
    if listed:
        yield f"{len(listed)} {what}: {listed[:SHOWN_MAX]}"
