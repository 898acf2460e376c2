"""Live series that every machine has: its own sensors, and a price that is honestly half predictable.

Series of `HostSensors`, one value each at every call:

    cpuN_percent        core N busy since the last call; the kernel counts in steps of 10 ms
    memory_percent      memory that is not available
    load_1min           run queue, averaged by the kernel over a minute
    net_in_Bps …        bytes per second since the last call, over all interfaces but loopback
    disk_read_Bps …     bytes per second since the last call, over all disks
"""

from __future__ import annotations

import importlib
import math
import random
import time
from typing import Any

from foretick.errors import UsageError


class HostSensors:
    """This computer's sensors. A sensor that the machine does not have (disks in some containers) is left out.

    Raises:
        UsageError: psutil is not installed.
    """

    def __init__(self) -> None:
        try:
            self._psutil: Any = importlib.import_module("psutil")
        except ImportError as error:
            raise UsageError("this computer's sensors need psutil: pip install 'foretick[demo]'") from error
        self._psutil.cpu_percent(percpu=True)  # psutil measures from the last call, and the first has none
        self._totals = self._byte_totals()
        self._read_at = time.monotonic()

    def read(self) -> dict[str, float]:
        """Every sensor's value now, by name, always in the same order."""
        values = {"memory_percent": self._memory_percent(), "load_1min": float(self._psutil.getloadavg()[0])}
        for core, percent in enumerate(self._psutil.cpu_percent(percpu=True)):
            values[f"cpu{core}_percent"] = float(percent)
        return values | self._byte_rates()

    def _memory_percent(self) -> float:
        memory = self._psutil.virtual_memory()
        return 100.0 - 100.0 * float(memory.available) / float(memory.total)  # psutil's own is rounded to 0.1

    def _byte_rates(self) -> dict[str, float]:
        now, totals = time.monotonic(), self._byte_totals()
        elapsed_seconds = max(now - self._read_at, 1e-3)  # a clock that did not move yet must not divide by zero
        rates = {
            name: max(total - self._totals.get(name, total), 0)
            / elapsed_seconds  # an interface that goes takes its bytes
            for name, total in totals.items()
        }
        self._totals, self._read_at = totals, now
        return rates

    def _byte_totals(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        interfaces = self._psutil.net_io_counters(pernic=True)
        outside = [count for name, count in interfaces.items() if name not in {"lo", "lo0"}]
        if outside:
            totals["net_in_Bps"] = sum(count.bytes_recv for count in outside)
            totals["net_out_Bps"] = sum(count.bytes_sent for count in outside)
        if disks := self._psutil.disk_io_counters():
            totals["disk_read_Bps"] = disks.read_bytes
            totals["disk_write_Bps"] = disks.write_bytes
        return totals


class SyntheticPrice:
    """A price whose next change is half predictable: half of its variance is a cycle, half is news.

    p(k) = 100 + A sin(2πk/P) + x(k), with x(k+1) = x(k) - κ x(k) + s ε(k) and A such that the cycle's change has the
    variance s² of the news. Who knows the cycle has a mean error of 1/√2 of the naive's, a skill of 0.29; more is luck.

    Args:
        seed: of the news; equal seeds give equal prices.
    """

    PERIOD = 120  # ticks in a "day": 12 s at ten ticks a second, so that a short demo sees several
    NOISE = 0.05  # s, in units of the price
    REVERSION = 0.01  # κ: the price forgets a piece of news in about 100 ticks
    AMPLITUDE = NOISE * math.sqrt(2.0) * PERIOD / math.tau

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  a price to forecast, not a secret
        self._ticks = 0
        self._wander = 0.0

    def read(self) -> float:
        """The next price."""
        cycle = self.AMPLITUDE * math.sin(math.tau * self._ticks / self.PERIOD)
        self._ticks += 1
        self._wander += self._random.gauss(0.0, self.NOISE) - self.REVERSION * self._wander
        return round(100.0 + cycle + self._wander, 4)  # prices have a smallest step
