"""Numbers in float16: many take another way than few, and come to the same bits."""

from __future__ import annotations

import numpy as np

from foretick.core.halves import narrow, widened

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
HALVES = np.ascontiguousarray(HALVES[~np.isnan(HALVES)])


def bits(numbers):
    return numbers.view(f"u{numbers.itemsize}").tolist()


def test_every_half_becomes_the_same_number_among_many_as_alone():
    assert bits(widened(HALVES)) == bits(np.concatenate([widened(HALVES[i : i + 100]) for i in range(0, 65536, 100)]))


def test_numbers_at_and_beside_every_rounding_edge_become_the_same_half_among_many_as_alone():
    edges = HALVES.astype(np.float32).view(np.int32)[:, None] + np.array([-1, 0, 1, 4095, 4096, 4097, 8191], np.int32)
    numbers = edges.reshape(-1).view(np.float32)
    numbers = np.ascontiguousarray(numbers[~np.isnan(numbers)])
    together, apart = np.empty(len(numbers), np.float16), np.empty(len(numbers), np.float16)
    narrow(numbers, together)
    with np.errstate(over="ignore"):
        for start in range(0, len(numbers), 1000):
            narrow(numbers[start : start + 1000], apart[start : start + 1000])
    assert bits(together) == bits(apart)
