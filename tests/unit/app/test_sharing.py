"""Who should own what, decided by each daemon for itself."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from foretick.app.sharing import decide
from foretick.ports.registry import RollCall

PARTITIONS = [b"p%d" % i for i in range(6)]


def roll(owners: dict[bytes, str], *members: str) -> RollCall:
    return RollCall(frozenset(members), owners)


def settle(partitions: list[bytes], owners: dict[bytes, str], members: list[str]) -> tuple[dict[bytes, str], int]:
    """What the owners come to when every member acts in turn until nobody moves; and the moves it took."""
    owners, moved = dict(owners), 0
    for _ in range(50):
        before = dict(owners)
        for me in members:
            mine = [partition for partition, owner in owners.items() if owner == me]
            moves = decide(partitions, roll(owners, *members), me, mine)
            for partition in moves.give:
                del owners[partition]
            for partition in moves.take:
                owners[partition] = me
                moved += 1
        if owners == before:
            return owners, moved
    raise AssertionError("they never settle")


def test_one_daemon_takes_all() -> None:
    moves = decide(PARTITIONS, roll({}, "a"), "a", [])
    assert (sorted(moves.take), moves.give, moves.is_waiting) == (PARTITIONS, (), False)


def test_the_one_that_has_all_gives_the_newest_half_to_a_second() -> None:
    owners = dict.fromkeys(PARTITIONS, "a")
    assert decide(PARTITIONS, roll(owners, "a", "b"), "a", PARTITIONS).give == tuple(PARTITIONS[3:])
    second = decide(PARTITIONS, roll(owners, "a", "b"), "b", [])
    assert (second.take, second.is_waiting) == ((), True)


def test_a_daemon_too_many_waits_for_nothing() -> None:
    moves = decide([b"p"], roll({b"p": "a"}, "a", "b"), "b", [])
    assert (moves.take, moves.give, moves.is_waiting) == ((), (), False)


def test_a_partition_that_another_owns_is_given_up() -> None:
    assert decide(PARTITIONS, roll({b"p0": "b"}, "a", "b"), "a", [b"p0", b"p1"]).give == (b"p0",)


def test_a_partition_without_streams_is_given_up() -> None:
    assert decide([b"p0"], roll({b"p0": "a", b"p1": "a"}, "a"), "a", [b"p0", b"p1"]).give == (b"p1",)


def test_what_a_dead_daemon_still_holds_is_left_alone() -> None:
    moves = decide(PARTITIONS[:2], roll({b"p0": "dead"}, "a"), "a", [b"p1"])
    assert (moves.take, moves.is_waiting) == ((), True)


def test_what_nobody_takes_may_be_taken_by_anybody() -> None:
    idle = roll({}, "a", "b")
    assert decide([b"p"], idle, "b", []).take == ()
    assert decide([b"p"], idle, "b", [], {b"p"}).take == (b"p",)
    assert decide([b"p"], roll({b"p": "b"}, "a", "b"), "b", [b"p"]).give == ()


names = st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(st.integers(0, 9), names, st.data())
def test_they_always_settle_evenly_with_no_needless_move(count: int, members: list[str], data: st.DataObject) -> None:
    partitions = [b"p%d" % i for i in range(count)]
    held = data.draw(st.lists(st.sampled_from([*members, None]), min_size=count, max_size=count))
    owners = {partition: owner for partition, owner in zip(partitions, held, strict=True) if owner is not None}
    settled, moved = settle(partitions, owners, members)
    shares = Counter(settled.values())
    assert sorted(settled) == partitions
    assert max(shares.values(), default=0) - min(shares[member] for member in members) <= 1
    have = sorted((Counter(owners.values())[member] for member in members), reverse=True)
    least, more = divmod(count, len(members))
    assert moved == sum(max(least + (rank < more) - n, 0) for rank, n in enumerate(have))
