"""The series that the page offers."""

from __future__ import annotations

import numpy as np
import pytest

from foretick.app import live_series
from foretick.app.live_series import SeriesList, key_of, names_of
from foretick.core.scores import SeriesStates
from foretick.core.targets import TARGET_MARK

NEVER = np.iinfo(np.int64).max


def states(names: list[bytes | None], *, error: list[float], t: int = 500) -> SeriesStates:
    n = len(names)
    last_ms = np.array([NEVER if name is None else 1000 - 7 * i for i, name in enumerate(names)], np.int64)
    return SeriesStates("default", names, last_ms, np.full(n, t, np.int64), np.array(error), np.ones(n), [])


def ask(*groups: SeriesStates, order: str = "worst", text: str = "") -> list[str]:
    found = SeriesList(lambda: groups).ask(order, text)
    assert found["total"] == sum(name is not None for group in groups for name in group.names)
    return [row["series"] for row in found["rows"]]


ONE = states([b"t\0a", b"t\0b", None, b"t\0c"], error=[0.5, 1.5, 0.0, 0.9])
TWO = states([b"u\0d"], error=[1.2])


@pytest.mark.parametrize(
    ("order", "wanted"),
    [("worst", ["b", "d", "c", "a"]), ("newest", ["c", "d", "b", "a"]), ("silent", ["c", "b", "a", "d"])],
)
def test_orders_go_over_all_groups_and_leave_free_rows_out(order: str, wanted: list[str]) -> None:
    found = ask(ONE, TWO, order=order)
    assert sorted(found) == sorted(wanted)
    assert [name for name in found if name != "d"] == [name for name in wanted if name != "d"]
    if order == "worst":
        assert found == wanted


def test_series_that_cannot_be_judged_yet_are_never_the_worst() -> None:
    young = states([b"t\0young", b"t\0still"], error=[9.0, np.nan], t=99)
    assert ask(young, ONE)[:3] == ["b", "c", "a"]
    assert set(ask(young)) == {"young", "still"}


def test_a_search_is_for_any_part_of_the_name_or_the_stream_in_any_case() -> None:
    group = states([b"t\0Boiler-7", b"t\0pump", b"Boil\0x", None], error=[1.0] * 4)
    assert sorted(ask(group, text="boil")) == ["Boiler-7", "x"]
    assert ask(group, text="OILER-7") == ["Boiler-7"]
    assert ask(group, text="nothing") == []


def test_many_matches_are_cut_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_series, "STRETCH_NAMES", 10)
    monkeypatch.setattr(live_series, "MATCHES_MAX", 120)
    many = states([b"t\0s%d" % i for i in range(400)], error=list(np.linspace(0.1, 2.0, 400)))
    found = SeriesList(lambda: [many, many]).ask("worst", "s")
    assert (found["matches"], found["more"], len(found["rows"])) == (120, True, 100)
    everything = SeriesList(lambda: [many]).ask("worst", "")
    assert (everything["matches"], everything["more"], len(everything["rows"])) == (400, False, 100)
    assert [row["series"] for row in everything["rows"][:2]] == ["s399", "s398"]


def test_a_search_that_takes_too_long_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_series, "STRETCH_NAMES", 10)
    monkeypatch.setattr(live_series, "SEARCH_MAX_SECONDS", 0.0)
    many = states([b"t\0s%d" % i for i in range(400)], error=[1.0] * 400)
    found = SeriesList(lambda: [many]).ask("worst", "s")
    assert found["more"]
    assert 0 < found["matches"] < 400


def test_the_same_question_is_answered_from_memory_for_a_while() -> None:
    asked = []
    listing = SeriesList(lambda: [asked.append(1) or ONE][:1])
    for _ in range(50):
        listing.ask("worst", "")
    assert len(asked) == 1
    for i in range(3 * live_series.REMEMBERED_MAX):
        listing.ask("worst", f"text {i}")
    assert len(listing._answers) <= live_series.REMEMBERED_MAX


@pytest.mark.parametrize("key", [b"ticks\0boiler-7", b"t\0" + TARGET_MARK, b"\xff\xfe\0\xc3\xa9", b"a\0b\0c"])
def test_an_id_leads_back_to_its_series(key: bytes) -> None:
    told = names_of(key)
    assert key_of(told["id"]) == key
    assert set(told["id"]).isdisjoint("+/=")


@pytest.mark.parametrize("series_id", ["", "!", "a", "bm8tbWFyaw", "é", "dGlja3MAczA=x"])
def test_what_is_no_id_leads_nowhere(series_id: str) -> None:
    assert key_of(series_id) is None


def test_of_several_targets_each_is_called_by_its_own_name() -> None:
    assert names_of(b"t\0a" + TARGET_MARK + b"close")["series"] == "a.close"
