"""Ticks into a stream: the wire contract from the producer's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from foretick.ports.connection import RedisConnection, good

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

REPLY_SECONDS = 5.0  # a local server that is silent for longer is gone


class TickProducer:
    """Pushes values as ticks, many series to one stream; for one thread.

    Attributes:
        pushed_ticks: ticks that the server has taken.
    """

    def __init__(self, url: str, stream: str) -> None:
        self._connection = RedisConnection(url, timeout_seconds=REPLY_SECONDS)
        self._stream = stream
        self.pushed_ticks = 0

    def __enter__(self) -> Self:
        self._connection.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def push(self, values: Mapping[str, float]) -> None:
        """One tick for each series, in this order, in one send.

        Raises:
            ConnectionLost: the server is gone; whether it took the ticks is unknown.
            ServerRefused, CommandFailed: the server took those before the first it refused.
        """
        replies = self._connection.call_all(
            [("XADD", self._stream, "*", "series", name, "value", repr(value)) for name, value in values.items()]
        )
        for reply in replies:
            good(reply)
            self.pushed_ticks += 1
