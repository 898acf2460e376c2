"""Bars of several features, two of them forecast, three steps ahead: from a file through Redis and back."""

from __future__ import annotations

import csv
import json
import math
import random
import urllib.request

import pytest

from commands import foretick
from servers import wait_until

pytestmark = pytest.mark.redis

KEY = "foretick:{ticks}:forecasts"
CHOSEN = {"features": "close,high,volume", "targets": "close,high", "horizon": 3, "profile": "lean"}
ROWS = 90


@pytest.fixture
def bars(tmp_path):
    """A file of two series; one row lacks its volume."""
    rng = random.Random(1)
    path = tmp_path / "bars.csv"
    with path.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["series", "ts", "close", "high", "volume", "note"])
        for i in range(ROWS):
            for name in ("a", "b"):
                close = math.sin(i / 5) + rng.random() / 9
                volume = "" if (i, name) == (40, "b") else rng.expovariate(1e-3)
                write([name, 1_760_000_000_000 + 60_000 * i, close, close + rng.random(), volume, "x"])
    return path


def send(folder, server, header, rows):
    (folder / "part.csv").write_text(header + "".join(rows))
    sent = foretick("produce", "--speed", "max", "part.csv", folder=folder, redis__url=server.url, **CHOSEN)
    assert sent.returncode == 0, sent.stderr


def test_bars_are_produced_forecast_through_a_kill_verified_watched_and_measured(
    redis_server, start_daemon, bars, tmp_path
):
    client = redis_server.client()
    header, *rows = bars.read_text().splitlines(keepends=True)
    daemon = start_daemon(redis_server.url, checkpoint__every="1s", batch=16, **CHOSEN)
    send(tmp_path, redis_server, header, rows[:ROWS])
    wait_until(lambda: client.xlen(KEY) > ROWS // 2, 30, "the first forecasts")
    daemon.kill()
    send(tmp_path, redis_server, header, rows[ROWS:])
    daemon.start()
    wait_until(lambda: client.xlen(KEY) == 2 * ROWS - 1, 30, "all forecasts")
    [(_, letter)] = client.xrange("foretick:{ticks}:dead")
    assert letter[b"reason"] == b"missing_field"
    assert b"volume" in letter[b"detail"]
    [(_, last)] = client.xrevrange(KEY, count=1)
    names = {
        "y.close",
        "yhat.close",
        "yhat_lower_80.close",
        "anomaly_score.high",
        "yhat_3.high",
        "yhat_2_upper_95.close",
    }
    assert names <= {name.decode() for name in last}

    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'foretick_horizon_scored_total{group="default",horizon="3",partition="default"}' in text
    assert 'series="a.high"' in text
    assert "foretick_checkpoint_failures_total 0.0" in text

    stream = f"{redis_server.url}?stream=ticks"
    verified = foretick("backtest", stream, "--verify", "--json", folder=tmp_path, **CHOSEN)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    scored = foretick("backtest", str(bars), "--json", "--burn-in", "20", folder=tmp_path, **CHOSEN)
    report = json.loads(scored.stdout)
    assert set(report["series"]) == {"a.close", "a.high", "b.close", "b.high"}
    assert report["series"]["a.close"]["ticks"] == ROWS
    assert set(report["series"]["a.close"]["horizons"]) == {"2", "3"}
    assert report["series"]["a.close"]["skill"] > 0.2
    assert report["refused"] == {"missing_field": 1}


def test_a_file_without_a_feature_is_refused_by_its_name(bars, tmp_path):
    told = foretick("backtest", str(bars), folder=tmp_path, features="close,low")
    assert told.returncode == 2
    assert "no column 'low'" in told.stderr
