"""The peer: the simplest correct loop that one would write with redis-py. No model: the forecast is the value.

Exactly once as well: the forecast carries its tick's id, and the position moves in the same transaction.

    python bench/echo.py redis://127.0.0.1:6379 STREAM OUTPUT [deep]

With `deep` the forecast comes from its LSTM, one model a series, which learns from every tick.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "echo"


def naive(_series: bytes, y: bytes) -> bytes:
    return y


def deep_river() -> Callable[[bytes, bytes], float]:
    """What `peers.py` runs over a recording, tick by tick."""
    from peers import deep_river_model  # noqa: PLC0415  takes seconds

    models: dict[bytes, Any] = defaultdict(deep_river_model)
    last: dict[bytes, float] = {}

    def forecast(series: bytes, text: bytes) -> float:
        y = float(text)
        if series in last:
            models[series].learn_one({"y": last[series]}, y)
        last[series] = y
        return float(models[series].predict_one({"y": y}))

    return forecast


def main(url: str, stream: str, output: str, model: str = "") -> None:
    forecast: Callable[[bytes, bytes], Any] = deep_river() if model else naive
    client: Any = redis.Redis.from_url(url, protocol=2)  # its annotations cover RESP3 and asyncio as well
    if not client.exists(stream) or not client.xinfo_groups(stream):
        client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    position = client.xinfo_groups(stream)[0]["last-delivered-id"]
    while True:
        for _, entries in client.xread({stream: position}, count=500, block=1000):
            with client.pipeline(transaction=True) as pipe:
                for entry_id, tick in entries:
                    series, y = tick[b"series"], tick[b"value"]
                    yhat = forecast(series, y)
                    pipe.xadd(output, {"series": series, "ts": tick[b"ts"], "y": y, "yhat": yhat}, id=entry_id)
                position = entries[-1][0]
                pipe.xgroup_setid(stream, GROUP, position)
                pipe.execute()


if __name__ == "__main__":
    main(*sys.argv[1:])
