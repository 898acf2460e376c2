"""The plan of a start, from nothing but what was found."""

from __future__ import annotations

from typing import Any

import pytest

from foretick.app.recovery import decide
from foretick.ports.positions import Group, StreamInfo, Survey


def found(top: bytes | None = b"100-0", group: Group | None = None, **facts: Any) -> Survey:
    info = None
    if top is not None:
        info = StreamInfo(
            length=facts.get("length", 10),
            top=top,
            first=facts.get("first", b"1-0"),
            added=facts.get("added", 10),
            deleted_up_to=b"0-0",
        )
    return Survey(info, group, facts.get("tops", {}), facts.get("origin"))


def test_a_stream_never_read_begins_at_its_head() -> None:
    plan = decide(found(), "earliest", None)
    assert (plan.position, plan.origin, plan.entries_read, plan.has_group) == (b"0-0", b"0-0", 0, False)


def test_a_stream_never_read_begins_at_its_top_if_so_told() -> None:
    plan = decide(found(), "latest", None)
    assert (plan.position, plan.origin, plan.entries_read) == (b"100-0", b"100-0", 10)


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_stream_that_does_not_exist_begins_at_the_head(start: Any) -> None:
    assert decide(found(top=None), start, None).position == b"0-0"


def test_a_trimmed_stream_counts_what_is_gone_as_read() -> None:
    assert decide(found(length=4), "earliest", None).entries_read == 6


def test_the_group_tells_the_position() -> None:
    plan = decide(found(group=Group(b"9-1", 3), origin=b"0-0"), "latest", None)
    assert (plan.position, plan.origin, plan.entries_read, plan.regressed) == (b"9-1", b"0-0", 3, False)


def test_ids_are_compared_as_numbers() -> None:
    plan = decide(found(group=Group(b"9-0", 3), tops={b"f": b"10-0"}, origin=b"0-0"), "earliest", None)
    assert plan.aside == (b"f",)
    plan = decide(found(group=Group(b"10-0", 3), tops={b"f": b"9-0"}, origin=b"0-0"), "earliest", None)
    assert plan.aside == ()


def test_a_lost_count_is_left_to_the_replay_unless_it_is_certain() -> None:
    assert decide(found(group=Group(b"50-0", None), origin=b"0-0"), "earliest", None).entries_read is None
    assert decide(found(group=Group(b"100-0", None), origin=b"0-0"), "earliest", None).entries_read == 10


def test_a_position_beyond_the_top_means_another_stream() -> None:
    plan = decide(
        found(group=Group(b"500-0", 7), tops={b"f": b"500-0", b"d": b"3-0"}, origin=b"400-0"), "earliest", None
    )
    assert plan.regressed
    assert (plan.position, plan.origin, plan.aside) == (b"0-0", b"0-0", (b"f", b"d"))


def test_an_empty_stream_is_not_another_stream() -> None:
    plan = decide(found(top=b"0-0", added=0, length=0, first=None, group=Group(b"500-0", 7)), "earliest", None)
    assert not plan.regressed
    assert plan.position == b"500-0"


def test_without_a_group_our_last_forecast_tells_the_position() -> None:
    plan = decide(found(tops={b"f": b"50-0", b"d": b"40-0"}, origin=b"0-0"), "earliest", b"50-0")
    assert (plan.position, plan.aside, plan.has_group) == (b"50-0", (), False)


def test_without_a_group_a_trimmed_tick_still_tells_the_position() -> None:
    plan = decide(found(first=b"60-0", tops={b"f": b"50-0"}, origin=b"0-0"), "earliest", None)
    assert (plan.position, plan.aside) == (b"50-0", ())


def test_without_a_group_and_without_a_forecast_the_origin_tells_the_position() -> None:
    assert decide(found(origin=b"70-0"), "latest", None).position == b"70-0"


def test_a_group_that_was_set_back_means_reading_again_from_there() -> None:
    plan = decide(found(group=Group(b"0-0", 0), tops={b"f": b"100-0"}, origin=b"50-0"), "latest", None)
    assert (plan.position, plan.origin, plan.aside) == (b"0-0", b"0-0", (b"f",))


def test_a_key_that_is_no_stream_is_set_aside() -> None:
    assert decide(found(tops={b"f": None}), "earliest", None).aside == (b"f",)
