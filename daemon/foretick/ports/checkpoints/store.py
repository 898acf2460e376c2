"""What every store of checkpoints does, and the names of generations."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from foretick.ports.checkpoints.container import Packed
    from foretick.ports.connection import Command

GENERATIONS_KEPT = 2  # the newest, and one to go back to where that is damaged
_NAME = re.compile(r"(\d{9,15})-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Generation:
    """One stored checkpoint.

    Attributes:
        name: nine digits that go up by one, and a random part: two owners never write the same one.
        size_bytes: of the container.
    """

    name: str
    size_bytes: int

    @property
    def number(self) -> int:
        """Its place in the order of generations."""
        return int(self.name.partition("-")[0])


def is_name(text: str) -> bool:
    """Whether a generation can be called this."""
    return _NAME.fullmatch(text) is not None


def name_after(generations: Iterable[Generation]) -> str:
    """A name for the generation that follows these."""
    number = max((generation.number for generation in generations), default=0) + 1
    return f"{number:09d}-{secrets.token_hex(4)}"


class CheckpointStore(Protocol):
    """Keeps the generations of one partition. Used by one thread at a time.

    Every method that writes or reads may raise `ConnectionLost`, `ServerRefused`, `CommandFailed` or
    `CheckpointFailed`.
    """

    @property
    def limit_bytes(self) -> int | None:
        """Largest container that it takes."""

    @property
    def advice(self) -> str:
        """What to do about a container that is larger."""

    def generations(self) -> list[Generation]:
        """What counts, newest first.

        Raises:
            CheckpointUnsound: there is a list of them, but nobody can read it.
            StateUnreadable: the place itself cannot be read.
        """

    def read(self, generation: Generation, on_wait: Callable[[], None]) -> bytearray | memoryview:
        """The container's bytes.

        Args:
            generation: one of `generations`.
            on_wait: called between pieces, several times a second.

        Raises:
            CheckpointUnsound: parts of it are gone.
        """

    def write(self, packed: Packed, pause: Callable[[float], None]) -> Generation:
        """Write a new generation; it does not count before `switch`.

        Args:
            packed: the container.
            pause: called between pieces with the seconds to wait; raises to abandon the writing.
        """

    def switch(self, generation: Generation) -> list[Command]:
        """Make a written generation count, and the one before the last no more.

        Returns:
            Commands to carry out in a fenced commit; when it is through, the switch is made.
        """

    def forget(self, generations: Sequence[Generation]) -> list[Command]:
        """Make these count no more; the commands as of `switch`."""

    def tidy(self) -> None:
        """Remove what does not count any more, or never did."""

    def close(self) -> None:
        """Give connections back; also in the middle of something that another thread does."""
