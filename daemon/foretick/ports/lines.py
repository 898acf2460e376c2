"""Lines from a descriptor as they come: a live pipe is not held back until a buffer is full."""

from __future__ import annotations

import os
import select

READ_BYTES = 1 << 16  # a pipe's whole buffer on Linux


class LineReader:
    """Whole lines from a pipe, a file or a terminal.

    Attributes:
        at_end: nothing more will come.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.at_end = False

    def read(self, wait_seconds: float) -> list[bytes]:
        """The lines that are there, without their ends; waits so long for the first bytes.

        A last line without an end counts as a line.
        """
        if self.at_end or not select.select([self._descriptor], [], [], wait_seconds)[0]:
            return []
        part = os.read(self._descriptor, READ_BYTES)
        self.at_end = not part
        *lines, self._rest = (self._rest + part).split(b"\n")
        if self.at_end and self._rest:
            lines.append(self._rest)
        return lines
