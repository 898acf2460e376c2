"""The order over several streams does not depend on the pieces in which they were read."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from foretick.app.merging import Merge
from foretick.ports.streams import id_order

Streams = dict[bytes, list[Any]]


@st.composite
def streams_of(draw: st.DrawFn) -> Streams:
    """A few streams, of which some share ids and some have many more entries than others."""
    ids = st.sets(st.tuples(st.integers(1, 40), st.integers(0, 2)), max_size=25)
    names = [b"a", b"b", b"{c}", b"ticks:9", b"ticks:10"]
    return {
        name: [[b"%d-%d" % pair, [b"value", b"1"]] for pair in sorted(draw(ids))]
        for name in names[: draw(st.integers(1, 5))]
    }


def in_order(streams: Streams) -> list[tuple[bytes, bytes]]:
    entries = [(id_order(entry[0]), name, entry[0]) for name, held in streams.items() for entry in held]
    return [(name, entry_id) for _, name, entry_id in sorted(entries)]


def read_through(streams: Streams, draws: Any) -> list[tuple[bytes, bytes]]:
    """All entries in the order in which a merge gives them, read by any counts and limits."""
    merge, after = Merge(), dict.fromkeys(streams, 0)
    taken: list[tuple[bytes, bytes]] = []
    for _ in range(1000):
        count, limit = draws()
        read = {name: streams[name][after[name] : after[name] + count] for name in merge.to_read(streams)}
        for name, entries in read.items():
            after[name] += len(entries)
        entries, names = merge.advance(read, count=count, limit=limit)
        taken += [(name, entry[0]) for name, entry in zip(names, entries, strict=True)]
        if not merge.is_behind and all(after[name] == len(held) for name, held in streams.items()):
            return taken
        assert entries or any(read.values()) or merge.is_behind, "it stands still"
    raise AssertionError("it never ends")


@given(streams_of(), st.data())
def test_any_counts_and_limits_give_the_one_order_of_ids_and_then_keys(streams: Streams, data: st.DataObject) -> None:
    sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
    assert read_through(streams, lambda: data.draw(sizes)) == in_order(streams)


@given(streams_of())
def test_one_read_of_everything_gives_it_at_once(streams: Streams) -> None:
    merge = Merge()
    entries, names = merge.advance(streams, count=1000, limit=1000)
    assert [(name, entry[0]) for name, entry in zip(names, entries, strict=True)] == in_order(streams)
    assert not merge.is_behind


def test_what_lies_beyond_a_cut_waits_for_the_rest() -> None:
    merge = Merge()
    slow, fast = [[b"9-0", []]], [[b"%d-0" % i, []] for i in range(1, 4)]
    entries, _ = merge.advance({b"slow": slow, b"fast": fast}, count=3, limit=100)
    assert [entry[0] for entry in entries] == [b"1-0", b"2-0", b"3-0"]
    assert merge.to_read([b"slow", b"fast"]) == [b"fast"]
    entries, names = merge.advance({b"fast": [[b"4-0", []]]}, count=3, limit=100)
    assert ([entry[0] for entry in entries], names) == ([b"4-0", b"9-0"], [b"fast", b"slow"])


def test_what_was_held_of_a_stream_that_went_is_dropped() -> None:
    merge = Merge()
    merge.advance({b"a": [[b"1-0", []]], b"gone": [[b"1-1", []], [b"8-0", []]]}, count=1, limit=100)
    merge.forget(b"gone")
    assert merge.to_read([b"a"]) == [b"a"]
    assert not merge.holds
