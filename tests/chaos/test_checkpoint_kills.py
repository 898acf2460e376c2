"""Kill it inside a checkpoint: between its pieces, around the switch, while it tidies; the bits stay the same.

`FORETICK_TEST_SEED=… pytest tests/chaos` repeats the bytes at which the traps spring.
"""

from __future__ import annotations

import os
import random
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from killing_proxy import KillingProxy, Trap

from servers import DaemonProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from servers import Server

pytestmark = [pytest.mark.redis, pytest.mark.chaos, pytest.mark.timeout(300)]

CAMPAIGNS = int(os.environ.get("FORETICK_TEST_CAMPAIGNS", "1"))
SEEDS = [os.environ.get("FORETICK_TEST_SEED") or secrets.token_hex(4) for _ in range(CAMPAIGNS)]
FORECASTS = "foretick:{ticks}:forecasts"
SETTINGS: dict[str, Any] = {"model__hidden": 8, "lease__ttl": "1s", "learn__trainer": "inline", "batch": 20}
WHERE = {
    "a piece": b":checkpoint:generations",
    "the switch": b":checkpoint:manifest",
    "the removal of an older one": b"UNLINK",
}


class Producer:
    """Pushes ticks of which only their number decides the value."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.sent = 0

    def push(self, n: int) -> None:
        pipe = self.client.pipeline(transaction=False)
        for i in range(self.sent, self.sent + n):
            pipe.xadd("ticks", {"series": f"s{i % 5}", "value": (i * 7919) % 1000 / 8 + (i % 5) * 100})
        pipe.execute()
        self.sent += n

    def push_until(self, predicate: Callable[[], Any], what: str) -> None:
        wait_until(lambda: self.push(5) or predicate(), 60, what)


@pytest.fixture
def daemon(redis_server: Server) -> Iterator[tuple[DaemonProcess, KillingProxy]]:
    proxy = KillingProxy(redis_server.port, bool)
    made = DaemonProcess(proxy.url, checkpoint__every="0.1s", **SETTINGS)
    proxy.act = made.kill
    proxy.open()
    yield made, proxy
    made.discard()
    proxy.close()


@pytest.mark.parametrize("seed", SEEDS, ids=[str(i) for i in range(CAMPAIGNS)])  # xdist wants equal ids everywhere
def test_kills_inside_checkpoints_change_no_forecast(
    redis_server: Server,
    private_server: Callable[..., Server],
    start_daemon: Callable[..., DaemonProcess],
    daemon: tuple[DaemonProcess, KillingProxy],
    seed: str,
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    killed, proxy = daemon
    producer = Producer(redis_server.client())
    traps = [(where, side) for where in WHERE for side in ("request", "reply")]
    rng.shuffle(traps)
    if CAMPAIGNS == 1:  # the short form
        traps = [*traps[:2], ("the switch", "reply")]
    whole = 0  # starts that have a whole checkpoint before them
    for at, (where, side) in enumerate(traps):
        killed.start()
        restored = killed.output().count("state_restored")
        print(f"kill at {where}, {side}; restored so far {restored} times")
        proxy.set_trap(Trap(WHERE[where], side, rng.randint(1, 3), rng.randrange(100_000)))
        producer.push_until(proxy.has_sprung.is_set, f"{where}, {side}")
        wait_until(lambda: killed.returncode is not None)
        if (where, side) == ("the switch", "reply"):  # now done; before, pieces alone may lie about
            whole = len(traps) - at
    killed.start()
    producer.push(20)
    client = producer.client
    wait_until(lambda: client.xlen(FORECASTS) == producer.sent, 60, "all answers")
    assert killed.output().count("state_restored") >= whole >= 1
    assert client.keys("*aside*") == []
    assert killed.terminate() == 0
    generations = client.keys("foretick:{default}:checkpoint:0*")
    assert len(generations) == 2

    undisturbed = private_server("redis")
    copy = undisturbed.client()
    for entry_id, fields in client.xrange("ticks"):
        copy.xadd("ticks", fields, id=entry_id)
    start_daemon(undisturbed.url, checkpoint__every=0, **SETTINGS)
    wait_until(lambda: copy.xlen(FORECASTS) == producer.sent, 60, "all answers")
    assert copy.xrange(FORECASTS) == client.xrange(FORECASTS)
