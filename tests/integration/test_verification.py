"""`foretick backtest --verify`: a killed and restarted daemon published what the backtest says; a forgery is found."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from foretick.app import backtest
from foretick.app.settings import Settings
from partitions import wait_answered

pytestmark = pytest.mark.redis

MODEL = {"hidden": 8}
SETTINGS = Settings(model=MODEL)
BASE_MS = 1_760_000_000_000
ROUNDS = 120
KEY = "foretick:{ticks}:forecasts"


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def push(client, start, stop):
    """Two series that can be learned, and now and then something that is no tick."""
    pipe = client.pipeline(transaction=False)
    for i in range(start, stop):
        ms = BASE_MS + 60_000 * i
        pipe.xadd("ticks", {"series": "a", "value": (i * 7) % 5 + i / 9}, id=f"{ms}-0")
        pipe.xadd("ticks", {"series": "b", "value": (i * i) % 11}, id=f"{ms}-1")
        if i % 50 == 3:
            pipe.xadd("ticks", {"series": "a", "value": "x"}, id=f"{ms}-2")
    pipe.execute()


@pytest.fixture
def verified(redis_server, capsys):
    def verify(settings=SETTINGS):
        options = SimpleNamespace(
            files=[f"{redis_server.url}?stream=ticks"],
            burn_in=200,
            by=None,
            json=True,
            plot=None,
            html=None,
            series="worst",
            verify=True,
        )
        status = backtest.run(settings, options)
        return status, json.loads(capsys.readouterr().out)

    return verify


def test_what_a_killed_daemon_published_is_recomputed_bit_for_bit_and_a_forgery_is_found(
    redis_server, start_daemon, verified
):
    client = redis_server.client()
    push(client, 0, ROUNDS // 2)
    daemon = start_daemon(redis_server.url, model__hidden=MODEL["hidden"], checkpoint__every="1s")
    wait_answered(client, 10)
    daemon.kill()
    push(client, ROUNDS // 2, ROUNDS)
    daemon.start()
    wait_answered(client, 2 * ROUNDS)
    daemon.kill()
    push(client, ROUNDS, ROUNDS + 5)

    status, found = verified()
    assert (found["compared"], found["differ"], found["missing"], found["foreign"]) == (2 * ROUNDS, 0, 0, 0)
    assert (found["entries"], found["ahead"], found["named"]) == (2 * ROUNDS + 3, 10, [])
    assert status == 0
    assert verified(Settings(model=MODEL | {"seed": 1}))[1]["differ"] > 0  # it learned: the seed shows

    entries = client.xrange(KEY)
    forged = [dict(fields) for _, fields in entries]
    forged[200][b"yhat"] = repr(float(forged[200][b"yhat"]) + 1e-12).encode()
    forged[201][b"yhat_lower_80"] = b"0.5"
    client.delete(KEY)
    for (entry_id, _), fields in zip(entries[10:], forged[10:], strict=True):  # the first ten are gone
        if entry_id != entries[220][0]:
            client.xadd(KEY, fields, id=entry_id)
        ms = entry_id.partition(b"-")[0]
        if entry_id == entries[223][0]:
            client.xadd(KEY, fields, id=ms + b"-7")
    status, found = verified()
    assert status == 1
    assert (found["differ"], found["foreign"]) == (2, 1)
    assert found["missing"] == 11  # nothing says that they were trimmed: somebody made this stream anew
    assert len(found["named"]) == 5


def test_trimmed_forecasts_are_no_fault_and_a_trimmed_input_is_told(redis_server, start_daemon, verified):
    client = redis_server.client()
    push(client, 0, 20)
    daemon = start_daemon(redis_server.url, model__hidden=MODEL["hidden"])
    wait_answered(client, 40)
    daemon.kill()
    client.xtrim(KEY, maxlen=30, approximate=False)
    status, found = verified()
    assert status == 0
    assert (found["compared"], found["trimmed"], found["missing"]) == (30, 10, 0)

    client.xtrim("ticks", maxlen=25, approximate=False)
    status, found = verified()
    assert status == 1
    assert "the head of the stream is gone" in found["refusal"]


def test_a_stream_that_no_daemon_read_has_nothing_to_verify(redis_server, verified):
    push(redis_server.client(), 0, 3)
    status, found = verified()
    assert (status, found["refusal"]) == (1, "no daemon has read this stream")
