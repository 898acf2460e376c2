"""A device that fails as it works ends the daemon; no tick is blamed, and none is lost."""

from __future__ import annotations

import pytest

from foretick.errors import UsageError
from forked import ForkedDaemon
from partitions import push
from servers import wait_until

pytestmark = pytest.mark.redis


probes = []


def another_way(name, setting):
    """In the place of a GPU: torch's `cpu:0` goes a device's way. It is found once, and then gone."""
    probes.append(name)
    if len(probes) > 1:
        raise UsageError(f"{setting} was sought again after the start")
    return "cpu:0"


def fall_off_the_bus(*_):
    raise RuntimeError("CUDA error: unknown error")  # as torch says it


def test_a_device_that_fails_ends_the_daemon_with_a_status_of_its_own_and_loses_no_tick(redis_server):
    client = redis_server.client()
    streams = {"{a}ticks": "foretick:{a}ticks:forecasts", "{b}ticks": "foretick:{b}ticks:forecasts"}  # two partitions
    for stream in streams:
        push(client, 20, stream)
    settings = {"lease__ttl": "1s", "streams": ",".join(streams)}
    spoiled = {"foretick.app.recipes.find_device": another_way, "torch.lstm_cell": fall_off_the_bus}
    failing = ForkedDaemon(redis_server.url, spoiled, **settings)
    try:
        failing.start(ready=False)
        wait_until(lambda: failing._daemon.poll() is not None, 30, "the daemon's end")
        assert failing._daemon.poll() == 5
        assert failing.output().splitlines()[-1] == "foretick: cpu:0 failed: CUDA error: unknown error"
    finally:
        failing.discard()
    assert not list(client.scan_iter("foretick:*:dead"))
    sound = ForkedDaemon(redis_server.url, **settings)
    try:
        sound.start()
        assert '"device": "cpu"' in sound.output()
        for stream, published in streams.items():
            wait_until(lambda key=published: client.xlen(key) >= 20, 20, "the forecasts")
            assert [i for i, _ in client.xrange(published)] == [i for i, _ in client.xrange(stream)]
    finally:
        sound.discard()
