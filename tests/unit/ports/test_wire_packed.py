"""What goes out in bulk is, byte for byte, what the fields of each forecast come to one by one."""

from __future__ import annotations

import json
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foretick.core.records import Forecasts, Ticks
from foretick.ports.connection import pack
from foretick.ports.wire import Decoded, forecast_fields, publications
from foretick.ports.wire.decimals import FEW, decimals, whole

MS = 1_763_712_000_000
SERIES = [b"a", b"pump-17", '"ü\\'.encode(), b"x" * 200]
STREAMS = {
    b"t": (b"foretick:{t}:forecasts", b"foretick:{t}:latest"),
    b"{u}:v": (b"f:{u}:v", b"f:{u}:v:latest"),
    b"w": (b"f:{w}", None),
}

ENOUGH = FEW + 1  # for the fast way


def written(column):
    return [bytes(text)[:size] for text, size in zip(column.texts, column.sizes.tolist(), strict=True)]


def checked(values):
    assert written(decimals(values)) == [b"" if isnan(value) else repr(value).encode() for value in values.tolist()]


@given(arrays(np.uint64, ENOUGH, elements=st.integers(0, 2**64 - 1), fill=st.integers(0, 2**64 - 1)))
def test_any_bits_are_written_as_repr_writes_them(bits):
    checked(bits.view(np.float64))


@given(st.integers(0, 2**32), st.integers(-6, 18), st.integers(0, 17))
def test_numbers_of_every_size_and_precision_are_written_as_repr_writes_them(seed, size, precision):
    drawn = np.random.default_rng(seed).standard_normal(1000) * 10.0**size
    checked(np.round(drawn, precision))
    checked(drawn.astype(np.float32).astype(np.float64))


@given(st.integers(0, 2**32), st.integers(1, 53), st.integers(-70, 70))
def test_numbers_of_few_bits_which_may_lie_between_two_decimals_are_written_as_repr_writes_them(seed, bits, exponent):
    drawn = np.random.default_rng(seed).integers(-(2**bits), 2**bits, ENOUGH)
    checked(drawn * 2.0**exponent)


def test_the_edges_of_float64_are_written_as_repr_writes_them():
    powers = 2.0 ** np.arange(-1074, 1024)
    tens = 10.0 ** np.arange(-307.0, 308)
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1e16, 9007199254740993.0, 1e-4, 9.999e-5]
    for values in (powers, -powers, tens, np.nextafter(tens, 0), np.nextafter(tens, np.inf), np.arange(-3000.0, 3000)):
        checked(np.concatenate((values, special)))


@pytest.mark.parametrize("least", [0, -5, 10**12, 10**13 - 600, -(2**63)])
def test_whole_numbers_are_written_as_repr_writes_them(least):
    values = np.arange(ENOUGH * 3, dtype=np.int64) + least
    assert written(whole(values)) == [b"%d" % value for value in values.tolist()]


def test_nothing_is_written_as_nothing():
    assert written(decimals(np.empty(0))) == written(whole(np.empty(0, np.int64))) == []


NAMES_OF = {
    "usual": ("yhat", "yhat_lower_80", "yhat_upper_80", "anomaly_score"),
    "further": ("yhat", "yhat_lower_995", "yhat_upper_995", "anomaly_score", "yhat_2", "yhat_2_lower_995"),
    "two targets": ("y.a", "yhat.a", "yhat_lower_80.a", "y." + "long" * 30, "yhat." + "long" * 30),
    "alone": ("yhat",),
    "odd": ("y.a%b", "yhat.%d", 'yhat.c"d', "yhat.ü\\"),
}
ODD_NUMBERS = [0.0, -0.0, 1.0, -64.0, 1e30, -1e30, 5e-324, 1e-7, 123456789.0, 2.0**-20, 9007199254740993.0, 1e16]
SERIES_IDS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=50).map(str.encode)


@st.composite
def turns(draw):
    n = draw(st.integers(1, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    streams = list(STREAMS)[: draw(st.integers(1, 3))]
    names = NAMES_OF[draw(st.sampled_from(sorted(NAMES_OF)))]
    values = 10.0 ** rng.integers(-6, 18, (n, len(names))) * rng.standard_normal((n, len(names)))
    values[rng.random(values.shape) < 0.1] = rng.choice(ODD_NUMBERS)
    values[rng.random(n) < draw(st.sampled_from([0, 0.3, 1])), 1:] = np.nan
    values[rng.random(n) < draw(st.sampled_from([0, 0.3])), -1] = np.nan
    ids_of_series = draw(st.lists(SERIES_IDS, min_size=1, max_size=5)) + SERIES[: draw(st.integers(0, 4))]
    series = [ids_of_series[i] for i in rng.integers(len(ids_of_series), size=n)]
    if draw(st.booleans()):
        series = [b"%d" % i for i in range(n)]
    ids = [b"%d-%d" % (draw(st.sampled_from([5, MS])), i) for i in range(n)]
    y = values[:, :2] if names[0][:2] == "y." else rng.standard_normal(n).round(draw(st.integers(0, 17)))
    ticks = Ticks(series, np.full(n, MS), MS + rng.integers(-(10**12), 99, n), np.ones(n, np.bool_), y)
    decoded = Decoded(ticks, ids, [streams[i] for i in rng.integers(len(streams), size=n)], [], [])
    verdict = (rng.random(n) < draw(st.sampled_from([0, 0.2, 1]))).astype(np.uint8)
    return decoded, Forecasts(verdict, rng.random(n) < 0.5, names, values)


def latest_of(published):
    """The last forecast of each series as JSON, its numbers as they stand in the stream."""
    last = {flat[1]: list(zip(flat[::2], flat[1::2], strict=True)) for _, flat in published}
    return {
        series: b"{%b}" % b",".join(b"%b:%b" % (in_json(name), shown(name, text)) for name, text in pairs)
        for series, pairs in last.items()
    }


def shown(name, text):
    return in_json(text) if name in (b"series", b"stage") else text


def in_json(text):
    return json.dumps(text.decode(), ensure_ascii=False).encode()


@given(turns())
def test_publications_are_what_the_fields_come_to(turn):
    decoded, forecasts = turn
    one_by_one = dict(forecast_fields(decoded, forecasts))
    of = dict(zip(decoded.ids, decoded.streams, strict=True))
    warm = dict(zip(decoded.ids, forecasts.warm.tolist(), strict=True))
    found = publications(decoded, forecasts, STREAMS)
    assert set(found) == {of[id_] for id_ in one_by_one}
    for stream, publication in found.items():
        mine = [(id_, flat) for id_, flat in one_by_one.items() if of[id_] == stream]
        key, latest_key = STREAMS[stream]
        commands = [(b"XADD", key, id_, *flat) for id_, flat in mine]
        assert publication.forecasts.request == pack(commands)
        assert publication.forecasts.commands == commands
        assert publication.forecasts.replies == b"".join(b"$%d\r\n%b\r\n" % (len(id_), id_) for id_, _ in mine)
        assert publication.warm == sum(warm[id_] for id_, _ in mine)
        assert publication.cold + publication.warm == publication.forecasts.count == len(mine)
        if latest_key is None:
            assert publication.latest is None
        else:
            pairs = [part for pair in latest_of(mine).items() for part in pair]
            assert publication.latest.commands == [(b"HSET", latest_key, *pairs)]
            assert publication.latest.request == pack([(b"HSET", latest_key, *pairs)])
            assert [json.loads(text)["series"].encode() for text in pairs[1::2]] == pairs[::2]
