"""What is connected while a `with` block lasts: over one connection, or over several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


class Line(Protocol):
    """A connection, or another caller."""

    @property
    def is_open(self) -> bool:
        """Whether it stands."""

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Hang up."""


class Caller:
    """Connects and hangs up.

    Args:
        lines: all that it speaks over.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether every connection stands."""
        return all(line.is_open for line in self._lines)

    def open(self) -> None:
        """Connect wherever there is no connection.

        Raises:
            ConnectionLost, ServerRefused: nobody answers, or lets us in.
        """
        for line in self._lines:
            if not line.is_open:
                line.open()

    def close(self) -> None:
        """Hang up."""
        for line in self._lines:
            line.close()
