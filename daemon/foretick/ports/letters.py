"""Dead letters out of their stream and back into the input, each once.

A batch is one transaction: every letter is added to the input and deleted from the dead stream, or none. The dead
stream is watched from the read to the EXEC, so that two senders never send the same letter, and a reply that was lost
does no harm: what was sent is no longer there to be read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretick.errors import ForetickError
from foretick.ports.connection import good
from foretick.ports.wire import dead_key
from foretick.ports.wire.publish import SHOWN_MAX_CHARS, SHOWN_MAX_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretick.ports.connection import Command, RedisConnection, Reply

# The daemon watches its dead stream from each read to its commit. A deletion in between costs it a second try, so
# batches are small and far apart (the app paces them).
BATCH_LETTERS = 100
_ESCAPED_BYTE = re.compile(r"\\x[89a-f][0-9a-f]")  # a byte that was no UTF-8, or a text that looks like one


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        id: its entry id, which was the tick's.
        reason: why it is dead.
        fields: the raw entry's fields and values in turn; none where they were not kept whole.
    """

    id: bytes
    reason: str
    fields: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch.

    Attributes:
        sent: letters that are ticks again.
        next: where the next batch begins.
    """

    sent: list[Letter]
    next: bytes


class DeadLetters:
    """The dead letters of one input stream, as they are now: later ones are left for another time."""

    def __init__(self, connection: RedisConnection, stream: str, prefix: str) -> None:
        self._connection = connection
        self._stream = stream.encode()
        self._key = dead_key(prefix.encode(), self._stream)
        self._doubtful: list[Letter] = []  # sent, and the answer was lost
        newest = connection.call(b"XREVRANGE", self._key, b"+", b"-", b"COUNT", 1)
        self._last: bytes | None = newest[0][0] if newest else None

    def since(self, begin: bytes) -> Iterator[Letter]:
        """Every letter from an id on, oldest first; `-` is the first of all."""
        while letters := self._read(begin):
            yield from letters
            begin = b"(%b" % letters[-1].id

    def resend(self, begin: bytes, is_wanted: Callable[[Letter], bool]) -> Batch | None:
        """Send the wanted ones among the next letters; none when there are no more.

        Args:
            begin: `-`, an id, or `next` of the batch before.
            is_wanted: whether a letter is to be sent, if that is possible.

        Raises:
            ConnectionLost: open the connection and ask again with the same `begin`: what was sent is gone.
            ServerRefused, CommandFailed: nothing was sent.
        """
        while True:
            self._connection.call(b"WATCH", self._key)
            letters = self._read(begin)
            there = {one.id for one in letters}
            gone = [one for one in self._doubtful if one.id not in there]
            wanted = [one for one in letters if one.fields is not None and is_wanted(one)]
            self._doubtful = gone + wanted
            if not wanted:
                self._connection.call(b"UNWATCH")
                break
            if self._send(wanted):
                break
            self._doubtful = gone  # a new letter came meanwhile, or another sender was faster: nothing was done
        sent, self._doubtful = gone + wanted, []
        if letters:
            return Batch(sent, b"(%b" % letters[-1].id)
        return Batch(sent, begin) if sent else None

    def _read(self, begin: bytes) -> list[Letter]:
        if self._last is None:
            return []
        reply: list[Any] = self._connection.call(b"XRANGE", self._key, begin, self._last, b"COUNT", BATCH_LETTERS)
        return [_letter(entry_id, flat) for entry_id, flat in reply]

    def _send(self, letters: list[Letter]) -> bool:
        """Whether it was done."""
        again: list[Command] = [(b"XADD", self._stream, b"*", *(one.fields or ())) for one in letters]
        deletion: Command = (b"XDEL", self._key, *(one.id for one in letters))
        *queued, answer = self._connection.call_all([(b"MULTI",), *again, deletion, (b"EXEC",)])
        for reply in queued:
            good(reply)
        if answer is None:
            return False
        for reply in good(answer):
            if isinstance(reply, ForetickError):
                raise reply
        return True


def _letter(entry_id: bytes, flat: list[bytes]) -> Letter:
    by_name = dict(zip(flat[::2], flat[1::2], strict=True))
    return Letter(entry_id, by_name.get(b"reason", b"?").decode(errors="replace"), _whole(by_name.get(b"fields")))


def _whole(raw: Reply) -> tuple[str, ...] | None:
    """The fields of the raw entry; none where something of it was cut off or cannot be told."""
    try:
        shown = json.loads(raw or b"")
    except ValueError:
        return None
    if not isinstance(shown, dict) or not shown or len(shown) > SHOWN_MAX_FIELDS:
        return None
    flat = tuple(part for pair in shown.items() for part in pair)
    return flat if all(isinstance(part, str) and _is_whole(part) for part in flat) else None


def _is_whole(part: str) -> bool:
    return len(part) <= SHOWN_MAX_CHARS and not _ESCAPED_BYTE.search(part)
