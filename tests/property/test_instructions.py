"""A series feels no neighbour on lesser processors either: MKL is told to use no more instructions than they have."""

from __future__ import annotations

import os
import subprocess
import sys

PRODUCTS = """
import numpy as np, torch
from foretick.core.block import ROW_BLOCK, ROWS_AT_ONCE, padded
torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
for gates, seen in ((64, 37), (128, 65), (256, 92)):
    weights, bias = torch.randn(gates, seen, generator=rng), torch.randn(gates, 1, generator=rng)
    x = torch.randn(seen, ROWS_AT_ONCE, generator=rng)
    product = lambda columns: torch.addmm(bias, weights, columns.contiguous())
    alone = torch.cat([product(part) for part in x.split(ROW_BLOCK, dim=1)], dim=1)
    for n in range(1, ROWS_AT_ONCE + 1, ROW_BLOCK - 1):
        width = len(padded(np.arange(n)))
        assert n <= width <= ROWS_AT_ONCE, n
        assert torch.equal(product(x[:, :width]), alone[:, :width]), (gates, n)
"""


def test_products_of_all_widths_round_alike_where_there_is_no_more_than_avx2():
    environment = os.environ | {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    subprocess.run([sys.executable, "-c", PRODUCTS], env=environment, check=True)
