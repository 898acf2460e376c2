"""What was packed comes back to the bit; whatever was changed since is refused, with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import random
import zlib

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from foretick.errors import CheckpointUnsound
from foretick.ports.checkpoints import Packed, container, unpack

MUTATIONS = int(os.environ.get("FORETICK_TEST_MUTATIONS", "10000"))  # a long run takes a million

ARRAYS = {
    "flags": np.array([True, False, True]),
    "bytes": np.frombuffer(b"hello", np.uint8),
    "counts": np.arange(6, dtype=np.int64).reshape(2, 3),
    "hashes": np.array([2**64 - 1, 0], np.uint64),
    "slots": np.array([-1, 7], np.int32),
    "state": np.array([[0.1, -0.0], [np.nan, np.inf]], np.float32),
    "levels": np.array([1e300, -5e-324]),
    "one": np.array(3.5),
    "none": np.zeros((0, 4), np.float32),
}
FACTS = {"partition": "köln \udcff", "numbers": {"t": 0.1 + 0.2, "big": 2**60}, "job": None}


def packed(arrays=ARRAYS, facts=FACTS) -> bytes:
    made = Packed(arrays, facts)
    raw = b"".join(made.pieces())
    assert len(raw) == made.size_bytes
    return raw


def sealed(body: bytes) -> bytes:
    """With a checksum that fits."""
    sums = [zlib.crc32(body[begin : begin + 2**20]) for begin in range(0, len(body), 2**20)]
    if len(body) % 2**20 == 0:
        sums.append(0)  # of what comes after the last full MiB
    return body + hashlib.blake2b(b"".join(one.to_bytes(4, "little") for one in sums), digest_size=32).digest()


def rewritten(change) -> bytes:
    """A container whose header was changed by somebody who then put the checksum right."""
    raw = packed()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    return sealed(len(text).to_bytes(8, "little") + text + raw[8 + length : -32])


def with_facts(**facts):
    def change(header):
        header["__metadata__"]["foretick"] = json.dumps({"schema": 2} | facts)

    return rewritten(change)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        (one[name].dtype, one[name].shape, one[name].tobytes())
        == (other[name].dtype, other[name].shape, other[name].tobytes())
        for name in one
    )


def test_what_was_packed_comes_back_to_the_bit():
    contents = unpack(packed())
    assert same(contents.arrays, ARRAYS)
    assert contents.facts == {"schema": 2} | FACTS


def test_every_array_is_aligned():
    assert all(array.flags.aligned for array in unpack(packed()).arrays.values())


def test_arrays_that_are_not_contiguous_are_packed_in_order():
    arrays = {"turned": np.arange(6.0).reshape(2, 3).T, "thinned": np.arange(10)[::3]}
    assert same(unpack(packed(arrays)).arrays, arrays)


def test_the_safetensors_library_reads_it_too():
    found = load_safetensors(packed())
    del found["checksum"]
    assert same(found, ARRAYS)


def test_the_checksum_is_of_the_bytes_and_not_of_the_pieces_they_came_in():
    arrays = {"large": np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8), **ARRAYS}
    raw = packed(arrays)
    assert sealed(raw[:-32]) == raw
    assert same(unpack(raw).arrays, arrays)


def test_mebibytes_that_changed_places_are_noticed():
    raw = packed({"large": np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8)})
    with pytest.raises(CheckpointUnsound, match="checksum"):
        unpack(raw[: 1 << 20] + raw[2 << 20 : 3 << 20] + raw[1 << 20 : 2 << 20] + raw[3 << 20 :])


def test_a_container_that_an_earlier_foretick_sealed_is_read():
    body = packed()[:-32]
    assert same(unpack(body + hashlib.blake2b(body, digest_size=32).digest()).arrays, ARRAYS)


def test_pieces_are_small_whatever_the_size_of_an_array():
    pieces = list(Packed({"large": np.zeros(3_000_000, np.uint8)}, {}).pieces())
    assert max(map(len, pieces)) <= container.PIECE_BYTES


def test_a_container_cut_off_anywhere_is_refused():
    raw = packed()
    for length in range(len(raw)):
        with pytest.raises(CheckpointUnsound):
            unpack(raw[:length])


def test_a_container_with_any_bit_flipped_is_refused():
    raw = bytearray(packed())
    for bit in random.Random(1).sample(range(8 * len(raw)), 4000):
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointUnsound):
            unpack(raw)
        raw[bit // 8] ^= 1 << bit % 8
    unpack(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cut off: 0 bytes"),
        (packed()[:-1], "checksum"),
        (with_facts(schema=0), "an older or unknown schema"),
        (with_facts(schema=3), "a newer schema"),
        (with_facts(schema=True), "an older or unknown schema"),
        (with_facts(schema="1"), "an older or unknown schema"),
        (with_facts(schema=None), "an older or unknown schema"),
        (sealed((2**63).to_bytes(8, "little") + b"{}"), "header is said to be"),
        (sealed((3).to_bytes(8, "little") + b"{}"), "header is said to be"),
        (sealed((2).to_bytes(8, "little") + b"{}"), "not written by foretick"),
        (sealed((2).to_bytes(8, "little") + b"[]"), "no JSON object"),
        (sealed((2).to_bytes(8, "little") + b"\xff\xfe"), "no JSON"),
        (sealed((200_000).to_bytes(8, "little") + b"[" * 200_000), "no JSON"),
        (rewritten(lambda header: header.pop("__metadata__") and None), "not written by foretick"),
        (rewritten(lambda header: header["state"].update(dtype="BF16")), "described wrongly"),
        (rewritten(lambda header: header["state"].update(dtype=["F32"])), "described wrongly"),
        (rewritten(lambda header: header["state"].update(shape=[-2, -2])), "described wrongly"),
        (rewritten(lambda header: header["state"].update(shape=[1] * 9)), "described wrongly"),
        (rewritten(lambda header: header["state"].update(shape=[2, 10**12])), "where it should"),
        (rewritten(lambda header: header["state"].update(data_offsets=[0, 16])), "where it should"),
        (rewritten(lambda header: header["checksum"]["data_offsets"].pop() and None), "described wrongly"),
        (rewritten(lambda header: header.pop("checksum") and None), "belong to none"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason_even_when_its_checksum_fits(raw, reason):
    with pytest.raises(CheckpointUnsound, match=reason):
        unpack(raw)


def mutate(raw: bytearray, rng: random.Random) -> None:
    """One of the things that disks, networks and people do to bytes."""
    at, length = rng.randrange(len(raw)), rng.randrange(1, 64)
    kind = rng.randrange(7)
    if kind == 0:
        raw[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        raw[at : at + length] = bytes(len(raw[at : at + length]))
    elif kind == 2:
        raw[at : at + length] = rng.randbytes(length)
    elif kind == 3:
        del raw[at : at + length]
    elif kind == 4:
        raw[at:at] = rng.randbytes(length)
    elif kind == 5:
        other = rng.randrange(len(raw))
        raw[at : at + length] = raw[other : other + length]
    else:
        raw[at] = rng.choice(b'0123456789[]{},:-"\\')


def test_mutated_containers_never_load_and_never_crash():
    original, rng = packed(), random.Random(2)
    for _ in range(MUTATIONS):
        raw = bytearray(original)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            mutate(raw, rng)
        if raw == original:
            continue
        with pytest.raises(CheckpointUnsound):
            unpack(raw)


def test_mutated_containers_with_a_checksum_put_right_are_refused_or_are_whole():
    body, rng = packed()[:-32], random.Random(3)
    length = int.from_bytes(body[:8], "little")
    refused = 0
    for _ in range(MUTATIONS):
        header, rest = bytearray(body[8 : 8 + length]), body[8 + length :]
        for _ in range(rng.choice((1, 1, 2, 5))):
            mutate(header, rng)
        try:
            contents = unpack(sealed(len(header).to_bytes(8, "little") + header + rest))
        except CheckpointUnsound:
            refused += 1
        else:
            assert contents.facts["schema"] == 2
            assert sum(array.nbytes for array in contents.arrays.values()) == len(rest)
    assert refused > MUTATIONS / 2
