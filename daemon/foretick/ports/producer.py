"""Ticks into a stream: the wire contract from the producer's side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from foretick.errors import ForetickError
from foretick.ports.caller import Caller
from foretick.ports.connection import RedisConnection, good, pack
from foretick.ports.streams import GROUP
from foretick.ports.wire.entry import UNIT_TO_MS, FieldNames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretick.ports.connection import Command, Reply, Word
    from foretick.ports.recordings import Tick, Value
    from foretick.ports.route import Route

REPLY_SECONDS = 5.0  # a server that is silent for longer is gone


class TickProducer(Caller):
    """Pushes ticks, many series to one stream; for one thread.

    Args:
        route: the way to the server, or its URL.
        stream: the key.
        fields: what the fields of a tick are called here.
        maxlen: about so many of the newest entries are kept; none trims nothing.

    Attributes:
        pushed_ticks: ticks that the server has taken.
    """

    def __init__(
        self,
        route: Route | str,
        stream: str,
        *,
        fields: FieldNames = FieldNames(),  # noqa: B008  frozen
        maxlen: int | None = None,
    ) -> None:
        self._connection = RedisConnection(route, timeout_seconds=REPLY_SECONDS, key=stream.encode())
        super().__init__([self._connection])
        self._stream = stream
        self._fields = fields
        trimming: tuple[Word, ...] = () if maxlen is None else ("MAXLEN", "~", maxlen)
        self._head: Command = ("XADD", stream, *trimming, "*")
        self.pushed_ticks = 0

    def push(self, values: Mapping[str, float]) -> None:
        """One tick for each series, in this order, all or none.

        Raises:
            ConnectionLost: the server is gone; whether it took the ticks is unknown.
            ServerRefused, CommandFailed: the server took none.
        """
        self.push_all([(name.encode(), value, None) for name, value in values.items()])

    def push_all(self, ticks: Sequence[Tick]) -> None:
        """These ticks in this order in one transaction, so that what is refused can be sent again in order.

        Raises:
            ConnectionLost: the server is gone; whether it took the ticks is unknown.
            ServerRefused, CommandFailed: the server took none.
        """
        if not ticks:
            return
        commands = [self._command(*tick) for tick in ticks]
        self._connection.send(pack([("MULTI",), *commands, ("EXEC",)]))
        queued = [self._connection.read() for _ in range(len(commands) + 1)]
        answer = self._connection.read()
        for reply in [*queued, answer, *(answer if isinstance(answer, list) else ())]:
            if isinstance(reply, ForetickError):  # a refusal comes before the EXECABORT that follows from it
                raise reply
        self.pushed_ticks += len(ticks)

    def lag_ticks(self) -> int:
        """How many ticks of the stream the daemon has not answered; 0 where no daemon ever read it."""
        groups = self._connection.call_all([("XINFO", "GROUPS", self._stream)])[0]
        for facts in groups if isinstance(groups, list) else ():
            by_name = dict(zip(facts[::2], facts[1::2], strict=True))
            if by_name[b"name"] == GROUP:
                return by_name[b"lag"] or 0
        return 0

    def key_type(self) -> str:
        """What stands under the stream's key: `stream`, `none`, or something else."""
        answer: Reply = good(self._connection.call("TYPE", self._stream))
        return str(answer.decode())

    def _command(self, series: bytes | None, value: Value, ts: int | None) -> Command:
        names = self._fields
        named: Command = () if series is None else (names.series, series)
        values = [value] if isinstance(value, float | int) else value
        numbers = zip(names.features, values, strict=False)  # a sensor has one number, whatever else there is
        told = [part for name, number in numbers if not math.isnan(number) for part in (name, repr(number))]
        if ts is None:
            return (*self._head, *named, *told)
        times, divisor = UNIT_TO_MS[names.ts_unit]
        return (*self._head, *named, *told, names.ts, ts * divisor // times)
