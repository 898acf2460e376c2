from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from foretick import __version__
from foretick.core.scores import GroupScores
from foretick.ports.collectors import BUCKETS_SECONDS
from foretick.ports.telemetry import STREAM_LABELS_MAX, Telemetry
from foretick.ports.turn_collectors import WAITING_TICKS


def scraped(telemetry):
    """Every sample by its name and sorted labels; an exposition with a sample twice is invalid."""
    samples = {}
    for family in text_string_to_metric_families(telemetry.exposition().decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def read(telemetry, name, **labels):
    return scraped(telemetry)[(f"foretick_{name}", *sorted(labels.items()))]


def scores(group="all", scored=10, active=3, **weights):
    return GroupScores(
        group=group,
        series_active=active,
        scored=scored,
        scaled_abs_error=1.5,
        naive_scaled_abs_error=2.5,
        scaled_squared_error=3.5,
        naive_scaled_squared_error=4.5,
        interval_scored=8,
        interval_covered={"0.8": 6},
        expert_weight=weights,
    )


def test_counts_add_up_under_the_names_of_the_contract():
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.count_answers(b"ticks", 5, cold=1, warm=4)
        telemetry.count_dead(b"ticks", "bad_ts", 2)
        telemetry.observe_turn(read=0.002)
        telemetry.observe_learn(0.1, steps=32)
        telemetry.count_reconnect()
        telemetry.hold_lease("default")
        telemetry.count_lease_lost()
        telemetry.count_position_regression()
        telemetry.count_replayed(100)
    assert read(telemetry, "ticks_total", stream="ticks") == 10
    assert read(telemetry, "forecasts_total", stream="ticks", stage="cold") == 2
    assert read(telemetry, "forecasts_total", stream="ticks", stage="warm") == 8
    assert read(telemetry, "dead_letters_total", stream="ticks", reason="bad_ts") == 4
    assert read(telemetry, "turn_seconds_count", stage="read") == 2
    assert read(telemetry, "turn_seconds_bucket", stage="read", le="0.0025") == 2
    assert read(telemetry, "learn_seconds_sum") == pytest.approx(0.2)
    assert read(telemetry, "learn_steps_total") == 64
    assert read(telemetry, "redis_reconnects_total") == 2
    assert read(telemetry, "leases_held") == 1
    assert read(telemetry, "lease_lost_total") == 2
    assert read(telemetry, "position_regressions_total") == 2
    assert read(telemetry, "replayed_ticks_total") == 200


def test_conditions_are_told_by_partition_and_those_of_the_daemon_without():
    telemetry = Telemetry()
    telemetry.watch_conditions(lambda: {"redis": (False, "gone"), "default/lease": (True, ""), "a/b/state": (True, "")})
    assert read(telemetry, "condition_ok", partition="", condition="redis") == 0
    assert read(telemetry, "condition_ok", partition="default", condition="lease") == 1
    assert read(telemetry, "condition_ok", partition="a/b", condition="state") == 1


def test_what_is_expected_is_told_beside_what_happens():
    telemetry = Telemetry()
    telemetry.tell_settings(30.0, {"default": 8, "boiler-*": 0})
    telemetry.watch_scores(lambda: [scores()])
    assert read(telemetry, "checkpoint_every_seconds") == 30
    assert read(telemetry, "learn_every_ticks", group="default") == 8
    assert read(telemetry, "learn_every_ticks", group="boiler-*") == 0
    assert read(telemetry, "interval_nominal", partition="default", group="all", level="0.8") == 0.8


def test_the_build_and_the_process_are_told():
    samples = scraped(Telemetry())
    assert samples["foretick_build_info", ("torch", torch.__version__), ("version", __version__)] == 1
    assert samples["process_resident_memory_bytes",] > 0


def test_no_sample_tells_when_a_counter_was_made():
    telemetry = Telemetry()
    telemetry.count_answers(b"ticks", 1)
    assert b"_created" not in telemetry.exposition()


def test_two_telemetries_count_apart():
    one, other = Telemetry(), Telemetry()
    one.count_replayed(1)
    assert read(other, "replayed_ticks_total") == 0


def test_only_a_daemon_with_an_embedded_server_tells_of_it():
    assert b"embedded_server_up" not in Telemetry().exposition()
    telemetry = Telemetry(embedded=True)
    telemetry.set_embedded_up(up=True)
    assert read(telemetry, "embedded_server_up") == 1
    with pytest.raises(RuntimeError, match="embedded"):
        Telemetry().set_embedded_up(up=True)


@given(st.lists(st.one_of(st.floats(-1, 100), st.sampled_from(BUCKETS_SECONDS)), max_size=50))
def test_latencies_fall_into_the_buckets_that_hold_them(seconds):
    telemetry = Telemetry()
    for some in (seconds[:20], seconds[20:]):
        telemetry.observe_latency(-1000 * np.array(some), 0.0, -1e9)
    samples = scraped(telemetry)
    for bound in BUCKETS_SECONDS:
        held = sum(latency <= bound for latency in seconds)
        assert samples["foretick_tick_latency_seconds_bucket", ("le", str(bound))] == held
    assert samples["foretick_tick_latency_seconds_bucket", ("le", "+Inf")] == len(seconds)
    assert samples["foretick_tick_latency_seconds_count",] == len(seconds)
    assert samples["foretick_tick_latency_seconds_sum",] == pytest.approx(sum(max(s, 0) for s in seconds))


def test_latencies_told_one_by_one_are_all_counted_whenever_somebody_asks_but_for_history():
    telemetry = Telemetry()
    for told in range(1, WAITING_TICKS + 5):
        telemetry.observe_latency(np.array([900, 1000]), 1250.0, 900.0)
        if told in {1, WAITING_TICKS // 3, WAITING_TICKS + 4}:
            assert read(telemetry, "tick_latency_seconds_bucket", le="0.25") == told
            assert telemetry.pulse().latencies.sum() == told
    assert read(telemetry, "tick_latency_seconds_sum") == (WAITING_TICKS + 4) / 4


def test_a_stream_is_told_from_when_it_is_known():
    telemetry = Telemetry()
    telemetry.set_lag(b"ticks", 5, 1.0)
    assert scraped(telemetry)["foretick_ticks_total", ("stream", "ticks")] == 0
    assert scraped(telemetry)["foretick_forecasts_total", ("stage", "warm"), ("stream", "ticks")] == 0


def test_streams_beyond_the_bound_count_under_their_partition():
    telemetry = Telemetry()
    for i in range(STREAM_LABELS_MAX):
        telemetry.count_answers(b"s%d" % i, 1)
    for stream in (b"late{a}", b"later{a}", b"last"):
        telemetry.count_answers(stream, 10)
    telemetry.set_lag(b"late{a}", 3, 0.5)
    telemetry.set_lag(b"later{a}", 4, 0.25)
    telemetry.set_lag(b"s7", 9, 9.0)
    telemetry.count_answers(b"s7", 1)
    assert read(telemetry, "ticks_total", stream="s7") == 2
    assert read(telemetry, "ticks_total", stream="a") == 20
    assert read(telemetry, "ticks_total", stream="default") == 10
    assert read(telemetry, "stream_lag_ticks", stream="a") == 7
    assert read(telemetry, "stream_lag_seconds", stream="a") == 0.5
    assert read(telemetry, "stream_lag_ticks", stream="s7") == 9


def test_lag_is_the_latest_told_until_it_is_forgotten():
    telemetry = Telemetry()
    telemetry.set_lag(b"ticks", 5, 1.0)
    telemetry.set_lag(b"ticks", 2, 0.5)
    assert read(telemetry, "stream_lag_ticks", stream="ticks") == 2
    telemetry.forget_lag(b"ticks")
    assert b"foretick_stream_lag_ticks{" not in telemetry.exposition()


@pytest.mark.parametrize("stream", [b'q"u\\o\nte', b"\xff\x00", "Öl".encode()])
def test_any_stream_key_makes_a_valid_label(stream):
    telemetry = Telemetry()
    telemetry.count_answers(stream, 1)
    assert read(telemetry, "ticks_total", stream=stream.decode(errors="backslashreplace")) == 1


def test_scores_are_asked_for_at_every_scrape_and_no_more_when_forgotten():
    telemetry = Telemetry()
    counted = iter((10, 11))
    telemetry.watch_scores(lambda: [scores(scored=next(counted), naive=0.25, lstm=0.75)])
    labels = {"partition": "default", "group": "all"}
    samples = scraped(telemetry)
    told = {
        name.removeprefix("foretick_"): value
        for (name, *rest), value in samples.items()
        if rest == sorted(labels.items())
    }
    assert told == {
        "scored_total": 10,
        "scaled_abs_error_total": 1.5,
        "naive_scaled_abs_error_total": 2.5,
        "scaled_squared_error_total": 3.5,
        "naive_scaled_squared_error_total": 4.5,
        "interval_scored_total": 8,
    }
    assert samples["foretick_interval_covered_total", ("group", "all"), ("level", "0.8"), ("partition", "default")] == 6
    assert samples["foretick_expert_weight", ("expert", "lstm"), ("group", "all")] == 0.75
    assert samples["foretick_series_active", ("group", "all")] == 3
    assert read(telemetry, "scored_total", **labels) == 11
    telemetry.forget_scores()
    assert b"scored_total{" not in telemetry.exposition()


def test_a_group_in_several_partitions_has_one_activity_and_one_mean_weight():
    telemetry = Telemetry()
    telemetry.watch_scores(lambda: [scores(active=3, lstm=1.0)], partition="a")
    telemetry.watch_scores(lambda: [scores(active=1, lstm=0.0), scores("idle", active=0, lstm=0.5)], partition="b")
    assert read(telemetry, "series_active", group="all") == 4
    assert read(telemetry, "expert_weight", group="all", expert="lstm") == 0.75
    assert read(telemetry, "expert_weight", group="idle", expert="lstm") == 0.5
    assert read(telemetry, "scored_total", partition="a", group="all") == 10
    assert read(telemetry, "scored_total", partition="b", group="all") == 10


def test_scrapes_beside_the_loop_are_whole_and_never_go_back():
    telemetry = Telemetry()
    turns, seen, done = 200, [], threading.Event()

    def loop():
        for i in range(turns):
            telemetry.count_answers(b"s%d" % i, 10)
            telemetry.set_lag(b"s%d" % i, 1, 0.1)
            telemetry.observe_latency(np.full(10, 1500), 2000.0, 0.0)
        done.set()

    thread = threading.Thread(target=loop)
    thread.start()
    while not done.is_set():
        samples = scraped(telemetry)
        seen.append((samples["foretick_tick_latency_seconds_count",], samples["foretick_tick_latency_seconds_sum",]))
    thread.join()
    seen.append((10 * turns, 5 * turns))
    assert seen == sorted(seen)
    assert all(count == 2 * total for count, total in seen)
    ticks = [value for (name, *_), value in scraped(telemetry).items() if name == "foretick_ticks_total"]
    assert (sum(ticks), len(ticks)) == (10 * turns, STREAM_LABELS_MAX + 1)
