"""The chart shows actuals at their height, and each forecast at the tick it was made for."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from foretick.app.chart import COLUMNS, WIDTH, History, Moment, bars, chart
from foretick.app.watch_view import Watched
from foretick.ports.follower import SeenForecast


def seen(y, yhat, series="a", *, warm=True, bounds=(None, None)):
    return SeenForecast(series, y, yhat, warm, 1000, 1002.0, *bounds)


def lines(*moments, rows=5):
    return [line.plain[10:] for line in chart(moments, rows)]


def test_a_forecast_stands_at_the_tick_it_was_made_for_and_the_last_at_the_tick_to_come():
    history = History()
    for one in (seen(1.0, 5.0), seen(2.0, 6.0)):
        history.observe(one)
    assert history.moments(COLUMNS) == [Moment(1.0, None), Moment(2.0, 5.0), Moment(None, 6.0)]


def test_the_largest_is_at_the_top_and_the_smallest_at_the_bottom():
    drawn = lines(Moment(0.0, None), Moment(4.0, 2.0), Moment(None, 1.0))
    assert [line[-3:] for line in drawn] == [" ● ", "   ", " ━ ", "  ━", "●  "]


def test_an_actual_hides_the_forecast_that_hit_it():
    assert lines(Moment(0.0, 0.0), Moment(1.0, 1.0), rows=2) == [f"{'●':>{COLUMNS}}", f"{'● ':>{COLUMNS}}"]


def test_the_interval_lies_behind_and_ends_at_the_edges():
    drawn = lines(Moment(0.0, None), Moment(4.0, 2.0, lower=-9.0, upper=3.0))
    assert [line[-1] for line in drawn] == ["◆", "░", "━", "░", "░"]


def test_a_series_that_does_not_move_is_a_line_in_the_middle():
    assert [bool(line.strip()) for line in lines(Moment(7.0, 7.0), Moment(None, 7.0))] == [
        False,
        False,
        True,
        False,
        False,
    ]


@given(st.lists(st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)), max_size=100), st.integers(3, 20))
def test_whatever_comes_the_chart_keeps_its_size(pairs, rows):
    history = History()
    for y, yhat in pairs:
        history.observe(seen(y, yhat))
    drawn = chart(history.moments(COLUMNS), rows)
    assert len(drawn) == (rows if pairs else 0)
    assert all(line.cell_len == WIDTH for line in drawn)


def test_bars_begin_at_nothing():
    assert bars([0.0, 1.0, 2.0], 2.0) == "▁▅█"
    assert bars([0.0, 0.0], 0.0) == "▁▁"


def screen(watched, height=24):
    out = io.StringIO()
    Console(file=out, width=80, height=height).print(watched.screen(3.0, height))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("height", [15, 24, 40])
def test_the_screen_of_one_series_fits(height):
    watched = Watched("ticks", "a", worst=False)
    watched.lag_ticks = 1_000_000
    watched.observe([seen(k * 1e5, -k * 1e5, bounds=(-1e6, 1e6)) for k in range(100)])
    drawn = screen(watched, height)
    assert len(drawn) < height
    assert max(map(len, drawn)) <= 80
    assert drawn[0].startswith("a in ticks   3 s, Ctrl-C ends it")


def test_the_worst_series_is_on_top_and_those_without_a_skill_at_the_end():
    watched = Watched("ticks", None, worst=True)
    for series, share in (("good", 0.1), ("new", None), ("bad", 2.0)):
        for k in range(30 if share is not None else 3):
            watched.observe([seen(float(k), k + 1 - (share or 0.0), series)])
    rows = [line.split()[0] for line in screen(watched)[5:8]]
    assert rows == ["bad", "good", "new"]
    assert "worst: bad -100.0%, good +90.0%" in next(iter(watched.lines(1.0)))


def test_every_live_forecast_is_a_line_and_the_past_is_none():
    watched = Watched("ticks", "a", worst=False)
    watched.observe([seen(1.0, 1.5)], live=False)
    watched.observe([seen(2.0, 2.5), seen(9.0, 9.0, "b")])
    assert list(watched.lines(1.0)) == ["1970-01-01 00:00:01.000  a  y 2  yhat 2.5  error 0.5  skill …"]
    assert list(watched.lines(2.0)) == []


def test_a_server_that_goes_and_comes_is_told_once_each():
    watched = Watched("ticks", None, worst=False)
    watched.trouble = "the server is away: gone"
    assert list(watched.lines(1.0)) == ["the server is away: gone"]
    watched.trouble = "the server is away: refused"
    assert list(watched.lines(2.0)) == []
    assert "the server is away: refused" in screen(watched)[0]
    watched.trouble = None
    assert list(watched.lines(3.0)) == ["the server is back"]
