"""Devices by torch's names of them: `cpu`, `cuda:0`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from foretick.errors import DeviceFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = "cpu"


@contextmanager
def blaming(device: str) -> Iterator[None]:
    """Around what a device computes.

    Raises:
        DeviceFailed: it is not the CPU, and has no memory left, or is gone. No tick is to blame.
    """
    try:
        yield
    except RuntimeError as error:  # torch has no narrower one for all that may become of a device
        if device == CPU:
            raise
        raise DeviceFailed(f"{device} failed: {error}") from error
