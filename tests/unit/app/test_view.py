"""The board settles each forecast with the tick that came next, and shows only what it can know."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from foretick.app.board import BARS, SETTLED_MIN, Board
from foretick.app.view import (
    COLUMNS,
    Addresses,
    cells,
    graph,
    headline,
    number,
    plain_table,
    screen,
    sparkline,
)
from foretick.ports.follower import SeenForecast

ADDRESSES = Addresses("http://127.0.0.1:9464/metrics", "redis://127.0.0.1:40123/0")


def seen(series="a", y=1.0, yhat=1.0, *, warm=True, arrival_ms=1000, seen_ms=1002.0, bounds=(None, None)):
    return SeenForecast(series, y, yhat, warm, arrival_ms, seen_ms, *bounds)


def shown(board, height=40):
    out = io.StringIO()
    Console(file=out, width=80, height=height).print(screen(board, ADDRESSES, state="3 s", height=height))
    return out.getvalue()


def test_a_forecast_is_settled_by_the_next_tick_of_its_own_series():
    board = Board()
    board.observe([seen("a", 10.0, 12.0), seen("b", 5.0, 5.0), seen("a", 13.0, 13.0)])
    assert board.rows["a"].error == 1.0
    assert board.rows["a"].absolute_error == 1.0
    assert board.rows["a"].naive_absolute_error == 3.0
    assert board.rows["b"].error is None


def test_skill_is_one_less_our_mean_error_over_the_naives():
    board = Board()
    board.observe([seen(y=float(k), yhat=k + 0.75) for k in range(SETTLED_MIN + 1)])  # the naive is off by 1, we by 1/4
    assert board.skill == pytest.approx(0.75)
    assert "+75.0%" in shown(board)


def test_naive_forecasts_of_a_cold_series_do_not_count():
    board = Board()
    board.observe([seen(y=float(k), yhat=float(k), warm=False) for k in range(50)])
    assert board.rows["a"].settled == 0
    assert board.skill is None
    assert "warming" in shown(board)


def test_no_skill_is_claimed_from_a_handful_of_errors():
    board = Board()
    board.observe([seen(y=float(k), yhat=k + 0.75) for k in range(SETTLED_MIN)])
    assert board.skill is None
    assert cells("a", board.rows["a"])[6] == "…"


def test_a_series_that_never_moved_has_no_skill_but_a_word():
    board = Board()
    board.observe([seen(y=5.0, yhat=5.0) for _ in range(SETTLED_MIN + 1)])
    assert cells("a", board.rows["a"])[6] == "still"


def test_a_series_far_worse_than_naive_is_shown_as_such():
    board = Board()
    board.observe([seen(y=float(k), yhat=k + 1001.0) for k in range(SETTLED_MIN + 1)])
    assert cells("a", board.rows["a"])[6] == "<-999%"


def test_latency_leaves_out_the_backlog_from_before_the_first_forecast():
    board = Board()
    board.observe([seen(arrival_ms=1000, seen_ms=9000.0), seen(arrival_ms=1100, seen_ms=9000.0)])
    assert board.latency_ms(0.5) is None
    board.observe([seen(arrival_ms=9100 + 10 * k, seen_ms=9101.0 + 11 * k) for k in range(100)])
    assert board.latency_ms(0.5) == pytest.approx(51.0)
    assert board.latency_ms(0.99) == pytest.approx(100.0)


def test_rates_forget_what_is_long_ago():
    board = Board()
    board.count(0.0, 0)
    board.count(10.0, 10_000)
    board.count(12.0, 10_050)
    assert board.rates == (25.0, 0.0)


def test_rows_keep_the_order_of_their_first_appearance():
    board = Board()
    board.observe([seen("z"), seen("a"), seen("m"), seen("a"), seen("z")])
    assert [line.split()[0] for line in plain_table(board).splitlines()[1:]] == ["z", "a", "m"]


@pytest.mark.parametrize("height", [12, 15, 24, 50])
def test_the_screen_fits_and_says_how_many_rows_did_not(height):
    board = Board()
    board.observe([seen(f"series{k}") for k in range(30)])
    text = shown(board, height)
    lines = text.splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= 80
    rows = sum(line.startswith("series") for line in lines) - 1
    assert (f"and {30 - rows} more series" in text) == (rows < 30)


def test_the_addresses_and_the_meaning_of_skill_are_on_the_screen():
    text = shown(Board())
    assert ADDRESSES.metrics in text
    assert ADDRESSES.redis in text
    assert "skill = 1 - |error| / naive" in text
    assert "waiting for the first forecast" in text


def test_the_busiest_headline_still_fits_80_columns():
    board = Board()
    board.observe([seen(y=float(k), yhat=k + 0.5, arrival_ms=5000, seen_ms=5000.0 + k) for k in range(2000)])
    board.count(0.0, 0)
    board.count(1.0, 9999)
    assert len(headline(board)) <= 80


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_every_number_fits_its_column_and_says_its_size(value):
    text = number(value)
    assert len(text) <= COLUMNS["last"]
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    read = float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)
    size = abs(value)
    rel = 0.51 if size < 1e-3 or size >= 1e15 else 0.051 if size < 0.1 else 0.0051
    assert read == pytest.approx(value, rel=rel, abs=0.0)


@given(st.lists(st.floats(min_value=-1e30, max_value=1e30), max_size=20))
def test_a_sparkline_has_one_bar_a_value_and_keeps_their_order(values):
    bars = sparkline(values)
    assert len(bars) == len(values)
    by_value = [bar for _, bar in sorted(zip(values, bars, strict=True))]
    assert by_value == sorted(by_value)


def test_what_the_intervals_held_and_what_was_far_outside_are_counted():
    board = Board(bar_ticks=1)
    board.observe(
        [seen(y=0.0, yhat=1.0, bounds=(0.0, 2.0)), *(seen(y=y, yhat=1.0, bounds=(0.0, 2.0)) for y in (1, 2.5, 9))]
    )
    row = board.rows["a"]
    assert (row.bounded, row.held, row.far_outside) == (3, 1, 1)
    assert board.held is None  # of three nothing can be said
    board.observe([seen(y=1.0, yhat=1.0, bounds=(0.0, 2.0)) for _ in range(17)])
    assert board.held == pytest.approx(18 / 20)
    assert "widest intervals held 90.0%   1 far outside" in shown(board)


def test_the_graph_ends_with_the_forecast_and_marks_what_was_far_outside():
    board = Board(bar_ticks=1)
    board.observe([seen(y=y, yhat=4.0, bounds=(3.0, 5.0)) for y in (4.0, 4.0, 8.0, 0.0)])
    drawn = graph(board.rows["a"])
    assert drawn.plain == f"{'▅▅█▁▅':>{BARS + 1}}"
    assert [(drawn.plain[span.start], str(span.style)) for span in drawn.spans] == [
        ("▅", "cyan"),
        ("▅", "cyan"),
        ("█", "bold red"),
        ("▁", "bold red"),
        ("▅", "yellow"),
    ]
