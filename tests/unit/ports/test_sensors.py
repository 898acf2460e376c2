"""The sensors measure this very machine; the price is exactly as predictable as its docstring says."""

from __future__ import annotations

import importlib
import math

import pytest

from foretick.errors import UsageError
from foretick.ports.sensors import HostSensors, SyntheticPrice
from servers import wait_until


def test_every_sensor_is_a_finite_number_in_its_range():
    values = HostSensors().read()
    assert all(math.isfinite(value) and value >= 0.0 for value in values.values())
    assert "load_1min" in values
    percentages = [value for name, value in values.items() if name.endswith("_percent")]
    assert len(percentages) >= 2  # memory and a core
    assert max(percentages) <= 100.0


def test_names_and_their_order_stay_the_same():
    sensors = HostSensors()
    assert list(sensors.read()) == list(sensors.read())


def test_a_busy_core_is_seen():
    sensors = HostSensors()
    sensors.read()

    def busiest():
        sum(k * k for k in range(300_000))
        return max(value for name, value in sensors.read().items() if name.startswith("cpu")) > 50.0

    wait_until(busiest, 20, "a core above 50 %")


class Counters:
    """What psutil would say, under our control."""

    def __init__(self, **values):
        self.__dict__.update(values)


def test_rates_are_bytes_over_seconds_without_loopback(monkeypatch):
    sensors = HostSensors()
    total = {"eth0": 1000, "lo": 5}
    monkeypatch.setattr(
        sensors._psutil,
        "net_io_counters",
        lambda pernic: {name: Counters(bytes_recv=count, bytes_sent=0) for name, count in total.items()},
    )
    monkeypatch.setattr(sensors._psutil, "disk_io_counters", lambda: None)
    clock = [10.0]
    monkeypatch.setattr("foretick.ports.sensors.time.monotonic", lambda: clock[0])
    sensors.read()
    total["eth0"], total["lo"], clock[0] = 3000, 900_000, 10.5
    assert sensors.read()["net_in_Bps"] == 4000.0
    total["eth0"], clock[0] = 0, 11.0  # the interface went down and came back
    assert sensors.read()["net_in_Bps"] == 0.0


def test_a_machine_without_disks_and_networks_has_the_other_sensors(monkeypatch):
    sensors = HostSensors()
    monkeypatch.setattr(sensors._psutil, "net_io_counters", lambda pernic: {})
    monkeypatch.setattr(sensors._psutil, "disk_io_counters", lambda: None)
    assert not [name for name in sensors.read() if name.endswith("_Bps")]
    assert "memory_percent" in sensors.read()


def test_without_psutil_the_message_says_what_to_install(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"pip install 'foretick\[demo\]'"):
        HostSensors()


def test_equal_seeds_give_equal_prices_and_others_do_not():
    first, second, other = SyntheticPrice(1), SyntheticPrice(1), SyntheticPrice(2)
    prices = [first.read() for _ in range(50)]
    assert prices == [second.read() for _ in range(50)]
    assert prices != [other.read() for _ in range(50)]


def test_knowing_the_cycle_is_worth_a_skill_of_0_29_and_no_more():
    price = SyntheticPrice(3)
    prices = [price.read() for _ in range(60_000)]
    cycle = [price.AMPLITUDE * math.sin(math.tau * k / price.PERIOD) for k in range(60_001)]
    naive = knowing = 0.0
    for k in range(len(prices) - 1):
        wander = prices[k] - 100.0 - cycle[k]
        best = 100.0 + cycle[k + 1] + (1.0 - price.REVERSION) * wander
        naive += abs(prices[k + 1] - prices[k])
        knowing += abs(prices[k + 1] - best)
    assert 1.0 - knowing / naive == pytest.approx(0.29, abs=0.02)
