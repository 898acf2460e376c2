"""The peer: the simplest correct loop that one would write with redis-py. No model: the forecast is the value.

Exactly once as well: the forecast carries its tick's id, and the position moves in the same transaction.

    python bench/echo.py redis://127.0.0.1:6379 STREAM OUTPUT COUNT [deep]

With `deep` the forecast comes from deep-river's LSTMForecaster with its defaults, one a series, which learns from every
tick.
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
    import torch  # noqa: PLC0415  takes seconds
    from deep_river.forecasting import LSTMForecaster  # noqa: PLC0415  likewise, and it lives elsewhere

    torch.set_num_threads(1)
    models: dict[bytes, Any] = defaultdict(LSTMForecaster)

    def forecast(series: bytes, y: bytes) -> float:
        model = models[series]
        model.learn_one(float(y))
        return float(model.forecast(1)[0])

    return forecast


def main(url: str, stream: str, output: str, count: str, model: str = "") -> None:
    forecast: Callable[[bytes, bytes], Any] = deep_river() if model else naive
    client: Any = redis.Redis.from_url(url, protocol=2)  # its annotations cover RESP3 and asyncio as well
    if not client.exists(stream) or not client.xinfo_groups(stream):
        client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    position = client.xinfo_groups(stream)[0]["last-delivered-id"]
    while True:
        for _, entries in client.xread({stream: position}, count=int(count), block=1000):
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
