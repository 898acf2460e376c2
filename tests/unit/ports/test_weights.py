"""Files of weights: what is written is read back, by others too, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from foretick.errors import UsageError
from foretick.ports.checkpoints import Packed
from foretick.ports.weights import FILE_MAX_BYTES, read_weights, write_weights

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}


def test_what_is_written_is_read_back_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"older")
    write_weights(path, ARRAYS, {"ticks": 7})
    contents = read_weights(path)
    assert contents.facts["ticks"] == 7
    assert contents.arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(contents.arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_library_of_the_format_reads_it_as_well(tmp_path):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    path = tmp_path / "weights.safetensors"
    write_weights(path, ARRAYS, {})
    assert np.array_equal(load_file(path)["a"], ARRAYS["a"])


def spoilt(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda _: b"", "cut off"),
        (lambda raw: raw[:-1], "checksum"),
        (lambda raw: spoilt(raw, len(raw) // 2), "checksum"),
        (lambda raw: spoilt(raw, 0), "checksum"),
        (lambda _: b"".join(Packed(ARRAYS, {}).pieces()), "it is a checkpoint"),
        (lambda _: b"".join(Packed(ARRAYS, {"kind": "weights", "schema": 2}).pieces()), "a newer schema"),
    ],
    ids=["empty", "cut", "a bit turned", "length turned", "a checkpoint", "of a later foretick"],
)
def test_what_is_no_sound_file_of_weights_is_refused_by_name(tmp_path, spoil, why):
    path = tmp_path / "weights.safetensors"
    write_weights(path, ARRAYS, {})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UsageError, match=rf"weights.safetensors: no file of `foretick fit`: .*{why}"):
        read_weights(path)


def test_a_file_too_large_is_not_read_whole(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(FILE_MAX_BYTES + 1)
    with pytest.raises(UsageError, match="too large"):
        read_weights(path)


def test_folders_that_are_missing_are_told(tmp_path):
    with pytest.raises(UsageError, match="none/w: cannot be read: No such file"):
        read_weights(tmp_path / "none" / "w")
    with pytest.raises(UsageError, match="none/w: cannot be written: No such file"):
        write_weights(tmp_path / "none" / "w", ARRAYS, {})
