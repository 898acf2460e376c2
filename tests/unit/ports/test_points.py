"""One series' forecasts as columns: the same from the engine's answer and from what was published of it."""

from __future__ import annotations

import numpy as np
import pytest

from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.records import Ticks
from foretick.core.targets import TARGET_MARK
from foretick.ports.points import Place, Points, levels_of, points_at, points_of
from foretick.ports.wire import FieldNames, decode, forecast_fields, keyed, series_key

NAMES = [b"a", b"b"]
STILL = LearnRecipe(enabled=False)  # learning costs seconds, and is not what is tested here


def published(n: int, recipe: Recipe, fields: FieldNames = FieldNames()):  # noqa: B008  frozen
    """Ticks of two series, decoded, their forecasts, and what was published of these."""
    y = np.random.default_rng(1).normal(size=(n, 2)).cumsum(axis=0).round(3)
    rows = [
        [b"%d-0" % (1000 + i), [b"series", NAMES[i % 2], b"value", str(u).encode(), b"high", str(v).encode()]]
        for i, (u, v) in enumerate(y)
    ]
    decoded = decode(rows, b"ticks", fields)
    forecasts = Engine(recipe, carried=("value", *fields.more)).advance(keyed(decoded))
    return decoded, forecasts, forecast_fields(decoded, forecasts)


def test_the_answer_and_the_stream_tell_the_same() -> None:
    decoded, forecasts, entries = published(120, Recipe(learn=STILL))
    for series in NAMES:
        at = [i for i, name in enumerate(decoded.ticks.series) if name == series]
        live = points_at(decoded.ids, decoded.ticks, forecasts, at, "")
        assert live == points_of([pair for pair in entries if pair[1][1] == series], "")
        assert list(live.bounds) == ["80", "95"]
        assert live.bounds["80"][0][0] is None, "no interval before calibration"
        assert live.bounds["80"][0][-1] is not None


def test_of_several_targets_each_has_its_own_points() -> None:
    recipe = Recipe(features=("value", "high"), targets=("value", "high"), learn=STILL)
    decoded, forecasts, entries = published(140, recipe, FieldNames(more=("high",)))
    for target in ("value", "high"):
        place = Place.of(series_key(b"ticks", b"a") + TARGET_MARK + target.encode())
        assert (place.stream, place.series, place.suffix) == (b"ticks", b"a", f".{target}")
        live = points_at(decoded.ids, decoded.ticks, forecasts, list(range(0, 140, 2)), place.suffix)
        assert live == points_of(entries[::2], place.suffix)
        assert live.y == decoded.ticks.y[::2, ["value", "high"].index(target)].tolist()


def test_what_somebody_else_wrote_into_the_stream_is_left_out() -> None:
    good = (b"2-0", (b"series", b"a", b"ts", b"5", b"y", b"1", b"yhat", b"2", b"stage", b"warm"))
    odd = [
        (b"1-0", (b"series", b"a")),
        (b"3-0", (b"series", b"a", b"ts", b"x", b"yhat", b"1")),
        (b"4-0", (b"series", b"a", b"ts", b"1", b"yhat", b"nan")),
        (b"5-0", (b"series",)),
        (b"6-0", (b"series", b"a", b"ts", b"1", b"yhat", b"\xff")),
        (b"7-0", (b"series", b"a", b"ts", b"1" * 5000, b"yhat", b"1")),
    ]
    points = points_of([odd[0], good, *odd[1:]], "")
    assert (points.ids, points.ts, points.y, points.yhat, points.warm) == ([b"2-0"], [5], [1.0], [2.0], [True])


def test_parts_join_to_the_whole() -> None:
    decoded, forecasts, _ = published(80, Recipe(learn=STILL))
    whole = points_at(decoded.ids, decoded.ticks, forecasts, list(range(80)), "")
    assert Points.joined([whole.slice(0, 30), whole.slice(30, 31), whole.slice(31)]) == whole
    assert Points.joined([]) == Points()
    assert len(whole.slice(-5)) == 5


@pytest.mark.parametrize(
    ("names", "suffix", "levels"),
    [
        (["yhat", "yhat_lower_95", "yhat_upper_95", "yhat_lower_8", "yhat_upper_8"], "", ["8", "95"]),
        (["yhat_lower_995", "yhat_upper_995", "yhat_lower_80", "yhat_upper_80"], "", ["80", "995"]),
        (["yhat_2_lower_80", "yhat_2_upper_80", "yhat_lower_80"], "", []),
        (["yhat_lower_²", "yhat_upper_²"], "", []),
        (["yhat_lower_80.x", "yhat_upper_80.x", "yhat_lower_95", "yhat_upper_95"], ".x", ["80"]),
    ],
)
def test_levels_are_found_by_the_names_of_their_bounds(names: list[str], suffix: str, levels: list[str]) -> None:
    found = levels_of(names, suffix)
    assert [level for level in found if level != "95" or not suffix] == levels


def test_ticks_have_no_forecast_where_they_were_refused() -> None:
    ms = np.array([1, 2], np.int64)
    ticks = Ticks([b"t\0a"] * 2, ms, np.array([5, 3], np.int64), np.ones(2, np.bool_), np.array([1.0, 2.0]))
    forecasts = Engine().advance(ticks)
    assert forecasts.verdict.tolist() == [0, 1]
    assert points_at([b"1-0", b"2-0"], ticks, forecasts, [0], "").yhat == [1.0]
