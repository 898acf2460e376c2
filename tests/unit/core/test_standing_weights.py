"""What the engine tells of the mix behind a standing forecast, to whoever looks at it from another thread."""

from __future__ import annotations

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.groups import GroupedEngine
from foretick.core.profiles import PROFILES
from foretick.core.records import Ticks


def ticks(n: int, names: list[bytes]) -> Ticks:
    ms = np.arange(n, dtype=np.int64) * 1000
    y = np.sin(ms / 9000.0) * 3 + np.arange(n) % 5
    return Ticks([names[i % len(names)] for i in range(n)], ms, ms, np.ones(n, np.bool_), y)


@pytest.mark.parametrize("profile", ["accurate", "lean"])
def test_the_weights_told_are_those_that_the_forecast_was_blended_with(profile: str) -> None:
    engine = Engine(PROFILES[profile]())
    told: dict[bytes, list[float]] = {}
    engine.watch = lambda names, weight: told.update(zip(names, weight.tolist(), strict=True))
    engine.advance(ticks(90, [b"a", b"b"]))
    for name in (b"a", b"b"):
        assert list(engine.weights(name)) == list(engine.experts)
        assert list(engine.weights(name).values()) == told[name]
    assert engine.weights(b"nobody") == {}


def test_a_series_is_found_in_whatever_group_it_is() -> None:
    engines = {"one": Engine(group="one"), "two": Engine(group="two")}
    grouped = GroupedEngine(engines, lambda name: "one" if name == b"a" else "two", 10)
    grouped.advance(ticks(20, [b"a", b"b"]))
    for name in (b"a", b"b"):
        assert sum(grouped.weights(name).values()) == pytest.approx(1, abs=1e-6)
    assert grouped.weights(b"nobody") == {}
