"""The peer: the simplest correct loop that one would write with redis-py. No model: the forecast is the value.

Exactly once as well: the forecast carries its tick's id, and the position moves in the same transaction.

    python bench/echo.py redis://127.0.0.1:6379 STREAM OUTPUT
"""

from __future__ import annotations

import sys
from typing import Any

import redis

GROUP = "echo"


def main(url: str, stream: str, output: str) -> None:
    client: Any = redis.Redis.from_url(url, protocol=2)  # its annotations cover RESP3 and asyncio as well
    if not client.exists(stream) or not client.xinfo_groups(stream):
        client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    position = client.xinfo_groups(stream)[0]["last-delivered-id"]
    while True:
        for _, entries in client.xread({stream: position}, count=500, block=1000):
            with client.pipeline(transaction=True) as pipe:
                for entry_id, tick in entries:
                    y = tick[b"value"]
                    pipe.xadd(output, {"series": tick[b"series"], "ts": tick[b"ts"], "y": y, "yhat": y}, id=entry_id)
                position = entries[-1][0]
                pipe.xgroup_setid(stream, GROUP, position)
                pipe.execute()


if __name__ == "__main__":
    main(*sys.argv[1:])
