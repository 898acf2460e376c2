"""A series feels no neighbour on lesser processors either: MKL is told to use no more instructions than they have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRODUCTS = """
import numpy as np, torch
from foretick.core.block import ROW_BLOCK, ROWS_AT_ONCE
from foretick.core.lstm import Shape, Stepper
torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
for hidden, inputs in ((16, 21), (32, 33), (64, 28)):
    shape = Shape(inputs, hidden, layers=2)
    stepper = Stepper(shape, torch.randn(shape.size, generator=rng))
    told = [torch.randn(k, ROWS_AT_ONCE, generator=rng).numpy() for k in (inputs, 2 * hidden, 2 * hidden)]
    step = lambda a, b: stepper.step(*(columns[:, a:b].copy() for columns in told))
    alone = [step(a, a + ROW_BLOCK) for a in range(0, ROWS_AT_ONCE, ROW_BLOCK)]
    alone = [np.concatenate(parts, axis=-1) for parts in zip(*alone)]
    for n in range(ROW_BLOCK, ROWS_AT_ONCE + 1, ROW_BLOCK):
        for one, beside in zip(alone, step(0, n)):
            assert np.array_equal(one[..., :n], beside), (hidden, n)
"""


@pytest.mark.parametrize("instructions", ["AVX512", "AVX2", "SSE4_2"])
def test_steps_of_all_widths_round_alike_whatever_instructions_there_are(instructions):
    environment = os.environ | {"MKL_ENABLE_INSTRUCTIONS": instructions}
    subprocess.run([sys.executable, "-c", PRODUCTS], env=environment, check=True)
