"""Real series through Redis, end to end: exactly once, better than naive, and bit for bit what a backtest says."""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from foretick.core.engine import Engine
from foretick.core.recipe import Recipe
from foretick.ports.recordings import read_recordings
from recount import answers, is_drained, recount, total
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from foretick.core.records import Ticks
    from servers import DaemonProcess, Server

pytestmark = [pytest.mark.redis, pytest.mark.data, pytest.mark.timeout(180)]

TICKS_OF = {"ETTh1": 500, "m4h": 300}  # each
BURN_IN_TICKS = 200  # of each series; before them the model knows nothing
SERIES_OF = {"ETTh1": 7, "m4h": 8}
SERIES_STEP = 6  # every sixth of M4's fifty, so that short and long scales are both there
BATCH = 193  # of the backtest: not the daemon's


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the daemon
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recording(shared_series: Path, tmp_path: Path) -> Path:
    """A CSV of some of the real series, in the order of their event time."""
    rows: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
    with gzip.open(shared_series / "dev.csv.gz", "rt", newline="") as file:
        for row in csv.reader(file):
            if len(rows[row[0], row[1]]) < TICKS_OF.get(row[0], 0):
                rows[row[0], row[1]].append(row)
    chosen = [name for name in rows if name[0] == "ETTh1"]
    chosen += [name for name in rows if name[0] == "m4h"][::SERIES_STEP][: SERIES_OF["m4h"]]
    ticks = sorted((row for name in chosen for row in rows[name]), key=lambda row: int(row[2]))
    path = tmp_path / "recording.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["source", "series", "ts", "value"], *ticks])
    return path


def push(client: redis.Redis, rows: list[list[str]], last: dict[str, int]) -> list[bytes]:
    """Push rows under ids whose milliseconds are their event time; `last` counts the ticks of each millisecond."""
    pipe = client.pipeline(transaction=False)
    for _, series, ts, value in rows:
        last[ts] += 1
        pipe.xadd("ticks", {"series": series, "ts": ts, "value": value}, id=f"{ts}-{last[ts]}")
    return pipe.execute()


def backtested(ticks: Ticks) -> list[tuple[bytes, float]]:
    """Series and forecast of every tick, by the engine alone."""
    engine = Engine(Recipe())
    found: list[tuple[bytes, float]] = []
    for start in range(0, len(ticks), BATCH):
        part = ticks.slice(start, start + BATCH)
        keyed = replace(part, series=[b"ticks\0" + series for series in part.series])  # a series is stream and id
        found += zip(part.series, engine.advance(keyed).yhat.tolist(), strict=True)
    return found


def test_real_series_are_answered_once_beat_naive_and_equal_their_backtest(
    recording: Path, redis_server: Server, start_daemon: Callable[..., DaemonProcess], one_thread: None
) -> None:
    client = redis_server.client()
    with recording.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == sum(n * TICKS_OF[source] for source, n in SERIES_OF.items())
    last: dict[str, int] = defaultdict(int)
    push(client, rows[: len(rows) // 2], last)  # history, read in full batches
    daemon = start_daemon(redis_server.url)
    for start in range(len(rows) // 2, len(rows), 37):  # then live, in small ones
        push(client, rows[start : start + 37], last)
    expected = backtested(read_recordings([recording]).ticks)
    wait_until(lambda: is_drained(client) and answers(client) == len(rows), 120, "the drain")

    found = recount(client)
    assert found.faults() == []
    assert found.dead == []
    assert [(fields[b"series"], float(fields[b"yhat"])) for _, fields in found.forecasts] == expected

    source_of = {series.encode(): source for source, series, *_ in rows}
    logs: dict[str, list[float]] = defaultdict(list)
    for series, rel_mae in found.rel_mae(BURN_IN_TICKS).items():
        logs[source_of[series]].append(math.log(rel_mae))
    skill = {source: 1 - math.exp(math.fsum(each) / len(each)) for source, each in logs.items()}
    print(skill)
    assert {source: len(each) for source, each in logs.items()} == SERIES_OF
    assert min(skill.values()) > 0, skill

    page = daemon.get("/metrics")[1]
    scores = found.scores()
    assert {name: total(page, name) for name in scores} == pytest.approx(scores, rel=1e-9)
    wait_until(lambda: total(daemon.get("/metrics")[1], "forecasts_total") == len(rows))
    assert total(daemon.get("/metrics")[1], "ticks_total") == len(rows)
    assert daemon.terminate(5) == 0
