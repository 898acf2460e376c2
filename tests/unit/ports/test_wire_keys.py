from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretick.ports.wire import (
    dead_key,
    forecasts_key,
    latest_key,
    lease_key,
    origin_key,
    partition_of,
    tag_of,
)


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"ticks", None),
        (b"{plant}:ticks", b"plant"),
        (b"ticks:{a}{b}", b"a"),
        (b"ticks:{}{b}", None),
        (b"ticks:{{a}}", b"{a"),
        (b"ticks:{a", None),
        (b"}ticks{", None),
        (b"}{x}", b"x"),
    ],
)
def test_the_tag_is_what_redis_cluster_hashes(key, tag):
    assert tag_of(key) == tag
    assert partition_of(key) == (tag or b"default")


def test_keys_are_those_of_the_contract():
    assert forecasts_key(b"foretick", b"ticks") == b"foretick:{ticks}:forecasts"
    assert forecasts_key(b"foretick", b"ticks:{a}") == b"foretick:ticks:{a}:forecasts"
    assert dead_key(b"p", b"ticks") == b"p:{ticks}:dead"
    assert latest_key(b"p", b"ticks") == b"p:{ticks}:latest"
    assert lease_key(b"p", b"default") == b"p:{default}:lease"
    assert origin_key(b"p", b"default") == b"p:{default}:checkpoint:origin"


@given(st.binary(max_size=12).map(lambda raw: raw.replace(b"}", b"")), st.binary(max_size=12))
def test_all_keys_of_a_stream_share_its_slot(plain, tail):
    for stream in (plain + b"x", b"{t}" + tail):
        slots = {_slot(key(b"foretick", stream)) for key in (forecasts_key, dead_key, latest_key)}
        assert slots == {_slot(stream)}


def _slot(key: bytes) -> int:
    return binascii.crc_hqx(tag_of(key) or key, 0) % 16384
