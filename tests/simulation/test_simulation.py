"""The commit protocol in virtual time, against a Redis that fails anywhere; `make simulate` takes more seeds."""

from __future__ import annotations

from typing import Any

import pytest
from world import World

from foretick.app import commits
from foretick.app.commits import Committer
from foretick.ports.connection import pack
from foretick.ports.leases import Lease
from foretick.ports.streams import Outcome

SEEDS_EACH = 25  # about two seconds
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_fails_every_tick_has_the_one_answer_of_an_undisturbed_run(part: int) -> None:
    for seed in range(part * SEEDS_EACH, (part + 1) * SEEDS_EACH):
        report = World(seed).run()
        assert report.ticks > 0
        assert not report.violations, f"make simulate SEED={seed}\n{report}"


@pytest.mark.parametrize("seed", [9006, 30308])
def test_a_seed_that_once_failed_does_so_no_more(seed: int) -> None:
    report = World(seed).run()
    assert not report.violations, report


def test_a_seed_repeats_to_the_last_log_line() -> None:
    first, again = World(7).run(), World(7).run()
    assert (first.ticks, first.switches, first.commands, first.faults) == (
        again.ticks,
        again.switches,
        again.commands,
        again.faults,
    )
    assert first.lines == again.lines
    assert first.faults, "this seed shows nothing"


def guard_nothing(lease: Lease, _keys: object) -> None:
    """In the place of `Lease.guard`: the lease is asked for, not watched."""
    lease.guarded = ()
    lease.fence = ((b"UNWATCH",), (b"GET", lease.key))
    lease.fence_request = pack(lease.fence)


# What is taken out of the protocol, and a seed that shows it; where a change of the plan hides it there, a later one.
HOLES: dict[str, tuple[int, Any, str, Any]] = {
    "nobody watches the lease": (6, Lease, "guard", guard_nothing),
    "who held the lease meanwhile is not asked": (38, Lease, "_check_record", lambda *_: None),
    "a commit in trouble is dropped": (10, Committer, "_send_again", lambda *_: Outcome()),
    "what redis forgot is not noticed": (88, commits, "forgotten", lambda *_: None),
}


@pytest.mark.parametrize(("first", "place", "name", "substitute"), HOLES.values(), ids=HOLES)
def test_a_protocol_with_a_hole_is_found_out(
    monkeypatch: pytest.MonkeyPatch, first: int, place: Any, name: str, substitute: Any
) -> None:
    monkeypatch.setattr(place, name, substitute)
    assert any(World(seed).run().violations for seed in range(first, first + 300))
