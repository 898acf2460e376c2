"""The recount itself: sound streams pass, and each way of cheating is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recount import recount, total

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from servers import Server

pytestmark = pytest.mark.redis

FORECASTS, DEAD, LATEST = "foretick:{ticks}:forecasts", "foretick:{ticks}:dead", "foretick:{ticks}:latest"


def forecast(series: str, ms: int, y: str, yhat: str) -> dict[str, str | int]:
    return {"series": series, "ts": ms, "y": y, "yhat": yhat, "stage": "cold"}


@pytest.fixture
def client(redis_server: Server) -> redis.Redis:
    """Four entries of two series, one of them bad, answered by hand as the contract asks."""
    client = redis_server.client()
    client.xgroup_create("ticks", "foretick", "0-0", mkstream=True)
    for ms, series, value in [(1, "a", "1"), (2, "b", "5"), (3, "a", "x"), (4, "a", "3")]:
        client.xadd("ticks", {"series": series, "value": value}, id=f"{ms}-0")
    for ms, series, y, yhat in [(1, "a", "1.0", "2.0"), (2, "b", "5.0", "5.0"), (4, "a", "3.0", "3.5")]:
        client.xadd(FORECASTS, forecast(series, ms, y, yhat), id=f"{ms}-0")
    client.xadd(DEAD, {"reason": "not_a_number", "detail": "", "fields": "{}"}, id="3-0")
    client.hset(LATEST, "a", '{"series":"a","ts":4,"y":3.0,"yhat":3.5,"stage":"cold"}')
    client.hset(LATEST, "b", '{"series":"b","ts":2,"y":5.0,"yhat":5.0,"stage":"cold"}')
    client.execute_command("XGROUP", "SETID", "ticks", "foretick", "4-0", "ENTRIESREAD", 4)
    return client


def test_streams_that_owe_nothing_have_no_fault(client: redis.Redis) -> None:
    found = recount(client)
    assert found.faults() == []
    assert found.reasons == {b"3-0": "not_a_number"}
    assert found.rel_mae(0) == {b"a": 0.5}
    assert found.scores() == {
        "scored_total": 1,
        "scaled_abs_error_total": 0.5,
        "naive_scaled_abs_error_total": 1.0,
        "scaled_squared_error_total": 0.25,
        "naive_scaled_squared_error_total": 1.0,
    }


@pytest.mark.parametrize(
    ("cheat", "fault"),
    [
        (lambda c: c.xdel(FORECASTS, "2-0"), "without an answer"),
        (lambda c: c.xdel(DEAD, "3-0"), "without an answer"),
        (lambda c: c.xadd(DEAD, {"reason": "late"}, id="4-0"), "answered twice"),
        (lambda c: c.xadd(FORECASTS, forecast("a", 5, "1", "1"), id="5-0"), "never asked"),
        (lambda c: c.xadd("ticks", {"value": "1"}, id="5-0"), "without an answer"),
        (lambda c: c.hset(LATEST, "a", '{"series":"a","ts":1,"y":1.0,"yhat":2.0,"stage":"cold"}'), "`latest` of b'a'"),
        (lambda c: c.hdel(LATEST, "b"), "missing in `latest`"),
        (lambda c: c.hset(LATEST, "c", "{}"), "in `latest` only"),
        (lambda c: c.execute_command("XGROUP", "SETID", "ticks", "foretick", "3-0"), "the position is b'3-0'"),
        (lambda c: c.xgroup_destroy("ticks", "foretick"), "no group"),
    ],
)
def test_every_way_of_cheating_is_found(
    client: redis.Redis, cheat: Callable[[redis.Redis], object], fault: str
) -> None:
    cheat(client)
    assert fault in " ".join(recount(client).faults())


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (forecast("b", 1, "1.0", "2.0"), "another series"),
        (forecast("a", 2, "1.0", "2.0"), "another time"),
        (forecast("a", 1, "1.5", "2.0"), "another value"),
        (forecast("a", 1, "1.0", "nan"), "forecasts b'nan'"),
        (forecast("a", 1, "1.0", "2.0") | {"stage": "hot"}, "stage b'hot'"),
    ],
)
def test_a_forecast_of_something_else_than_its_tick_is_found(
    client: redis.Redis, forged: dict[str, str], fault: str
) -> None:
    kept = client.xrange(FORECASTS)[1:]
    client.delete(FORECASTS)
    for entry_id, fields in [("1-0", forged), *kept]:
        client.xadd(FORECASTS, fields, id=entry_id)
    assert fault in " ".join(recount(client).faults())


def test_metrics_are_summed_over_the_labels_that_are_not_asked_for() -> None:
    page = 'foretick_x_total{a="1",b="q\\"}"} 2.0\nforetick_x_total{a="1",b="r"} 3e0\nforetick_x_total{a="2",b="r"} 4\n'
    assert (total(page, "x_total"), total(page, "x_total", a="1"), total(page, "x_total", a="1", b="r")) == (9, 5, 3)
