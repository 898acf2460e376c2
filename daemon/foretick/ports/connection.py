"""One raw connection to Redis: whole requests in one send, replies one by one, errors as values of our own tree.

`Route` opens the connection, by redis-py, and hiredis parses what comes back. Between the two we read the socket
ourselves: a commit of 500 forecasts is answered by 501 small replies, and redis-py's own reading costs more per reply
than Redis needs to carry out the XADD. It also raises some error replies in the middle of a transaction and hangs up,
where a commit has to see every single reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis

from foretick.errors import ConnectionLost, ForetickError, ReplyTooLarge
from foretick.ports.login import Login
from foretick.ports.replies import DENIALS, DEPARTURES, explain
from foretick.ports.route import Route
from foretick.ports.slots import slot_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

    from foretick.errors import CommandFailed, ServerRefused

Word: TypeAlias = bytes | str | int
Command: TypeAlias = tuple[Word, ...]
Reply: TypeAlias = Any

__all__ = ["DENIALS", "Command", "RedisConnection", "Reply", "Word", "explain", "good", "pack"]

_pack_command: Any = hiredis.pack_command  # its stub knows tuples of one element only

READ_BYTES = 1 << 18  # one XREAD of 1000 ticks is about 100 kB: most replies in one recv


def pack(commands: Iterable[Command]) -> bytes:
    """The commands as one request."""
    return b"".join([_pack_command(command) for command in commands])


class RedisConnection:
    """One connection, opened on demand and closed for good by the first failure.

    Args:
        route: the way to the server, or its URL.
        timeout_seconds: longest silence while a reply is due; must exceed every BLOCK that is sent.
        password: takes the place of the URL's, where there is no route.
        key: one of the keys that are asked for, all of one slot; on a cluster the connection goes to who has it.

    Attributes:
        reply_bytes: received since the last request.
        reply_max_bytes: more than these are not taken; any number if absent.
    """

    def __init__(
        self, route: Route | str, *, timeout_seconds: float, password: str | None = None, key: bytes | None = None
    ) -> None:
        self._route = Route(route, Login(password=password)) if isinstance(route, str) else route
        self._timeout_seconds = timeout_seconds
        self._slot = None if key is None else slot_of(key)
        self._session: Any = None  # redis-py's Connection, of which nothing is annotated
        self._socket: socket.socket | None = None
        self._is_astray = False  # what we ask for is on another server now
        self._reader: Any = None  # the stub of hiredis.Reader.feed knows no bytearray
        self._buffer = bytearray(READ_BYTES)
        self._begin = self._end = 0  # of what was received and the reader has not seen
        self.reply_bytes = 0
        self.reply_max_bytes: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether a socket stands, and leads to where the keys are; it may still turn out to be dead."""
        return self._socket is not None and not self._is_astray

    @property
    def is_cluster(self) -> bool:
        """Whether several masters are reached through this."""
        return False

    @property
    def lines(self) -> list[RedisConnection]:
        """A connection to every master; this one, unless it is a `Switchboard`."""
        return [self]

    def open(self) -> None:
        """Connects to where the keys are now and authenticates, once; the caller decides about another try.

        Raises:
            ConnectionLost: nobody answers.
            ServerRefused: the server answers but does not let us in for now (LOADING, NOAUTH, TLS, …).
            UsageError: the servers are not what the URL says.
        """
        self.close()
        session = self._dial()
        self._session = session
        self._socket = session._sock  # noqa: SLF001  redis-py has no public way to the socket
        self._reader = hiredis.Reader(replyError=self._explain, notEnoughData=_INCOMPLETE)
        self._begin = self._end = 0

    def _dial(self) -> Any:
        return self._route.session(self._timeout_seconds, self._slot)

    def _explain(self, message: str) -> ServerRefused | CommandFailed:
        """Our error for a server's error reply; one that sends us elsewhere makes the next `open` look again."""
        error = explain(message)
        if error.word in DEPARTURES:
            self._is_astray = True
            self._route.doubt()
        return error

    def close(self) -> None:
        """Hangs up; safe to call at any time."""
        if self._session is not None:
            self._session.disconnect()
        self._session = None
        self._socket = None
        self._is_astray = False

    def send(self, request: bytes) -> None:
        """Sends packed commands."""
        if self._socket is None:
            raise ConnectionLost("the connection is closed")
        self.reply_bytes = 0
        try:
            self._socket.sendall(request)
        except OSError as error:
            self.close()
            raise ConnectionLost(f"while writing: {error}") from error

    def read(self) -> Reply:
        """The next reply; an error reply is returned as `ServerRefused` or `CommandFailed`, not raised."""
        if self._socket is None:
            raise ConnectionLost("the connection is closed")
        gets = self._reader.gets
        try:
            reply = gets()
            while reply is _INCOMPLETE:
                if self._begin == self._end:
                    self._receive()
                self._reader.feed(self._buffer, self._begin, self._end - self._begin)
                self._begin = self._end
                reply = gets()
        except hiredis.HiredisError as error:
            self.close()
            raise ConnectionLost(f"unreadable reply: {error}") from error
        return reply

    def take(self, expected: bytes) -> bool:
        """Takes the next replies unread if they are exactly these bytes; otherwise they stand to be read.

        Hundreds of replies that all say the same are compared at the speed of memory; reading one takes 0.3 µs.
        """
        if self._socket is None:
            raise ConnectionLost("the connection is closed")
        if self._reader.has_data():
            return False
        taken = 0
        while taken < len(expected):
            if self._begin == self._end:
                self._receive()
            size = min(len(expected) - taken, self._end - self._begin)
            if not self._buffer.startswith(expected[taken : taken + size], self._begin):
                self._reader.feed(expected[:taken])
                return False
            self._begin += size
            taken += size
        return True

    def _receive(self) -> None:
        """Waits for more, after all that was received is used."""
        if self._socket is None:
            raise ConnectionLost("the connection is closed")
        try:
            size = self._socket.recv_into(self._buffer)
        except OSError as error:
            self.close()
            raise ConnectionLost(f"while reading: {error or 'timed out'}") from error
        if size == 0:
            self.close()
            raise ConnectionLost("the server closed the connection")
        self.reply_bytes += size
        if self.reply_max_bytes is not None and self.reply_bytes > self.reply_max_bytes:
            self.close()
            raise ReplyTooLarge(f"a reply of more than {self.reply_max_bytes / 1e6:.0f} MB")
        self._begin, self._end = 0, size

    def call(self, *command: Word) -> Reply:
        """Sends one command and returns its reply; raises what the server answers as an error."""
        self.send(_pack_command(command))
        return good(self.read())

    def call_all(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends all commands at once and returns all replies, errors among them as values."""
        self.send(pack(commands))
        return [self.read() for _ in commands]


_INCOMPLETE = object()


def good(reply: Reply) -> Reply:
    """The reply, unless it is an error: that is raised."""
    if isinstance(reply, ForetickError):
        raise reply
    return reply
