"""One raw connection to Redis: whole requests in one send, replies one by one, errors as values of our own tree.

redis-py opens the connection (URL, TLS, AUTH, SELECT, CLIENT SETNAME) and hiredis parses what comes back. Between the
two we read the socket ourselves: a commit of 500 forecasts is answered by 501 small replies, and redis-py's own reading
costs more per reply than Redis needs to carry out the XADD. It also raises some error replies in the middle of a
transaction and hangs up, where a commit has to see every single reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis
import redis

from foretick.errors import CommandFailed, ConnectionLost, ForetickError, ServerRefused, UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

Word: TypeAlias = bytes | str | int
Command: TypeAlias = tuple[Word, ...]
Reply: TypeAlias = Any

CONNECT_TIMEOUT_SECONDS = 5.0  # a SYN that is dropped must not eat the whole connect deadline
_pack_command: Any = hiredis.pack_command  # its stub knows tuples of one element only

READ_BYTES = 1 << 18  # one XREAD of 1000 ticks is about 100 kB: most replies in one recv

REFUSALS = frozenset(  # first words of "up, but not able": waiting may help
    {
        "OOM",
        "READONLY",
        "LOADING",
        "MISCONF",
        "NOREPLICAS",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
DENIALS = frozenset({"NOAUTH", "WRONGPASS"})  # at start a mistake, later a password being changed
_ABORTED_BECAUSE = "because of: "  # EXECABORT Transaction discarded because of: OOM command not allowed …


def explain(message: str) -> ServerRefused | CommandFailed:
    """Our error for a server's error reply, told apart by its first word."""
    word = message.partition(" ")[0]
    if word == "EXECABORT" and _ABORTED_BECAUSE in message:
        cause = message.partition(_ABORTED_BECAUSE)[2]
        return explain(cause)
    if word in REFUSALS or word in DENIALS or "max number of clients" in message:
        return ServerRefused(word, message)
    return CommandFailed(word, message)


def pack(commands: Iterable[Command]) -> bytes:
    """The commands as one request."""
    return b"".join([_pack_command(command) for command in commands])


class RedisConnection:
    """One connection, opened on demand and closed for good by the first failure.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout_seconds: longest silence while a reply is due; must exceed every BLOCK that is sent.
        password: takes the place of the URL's, so that a secret can come from a file.
    """

    def __init__(self, url: str, *, timeout_seconds: float, password: str | None = None) -> None:
        try:
            pool = redis.ConnectionPool.from_url(url)
        except ValueError as error:
            raise UsageError(f"redis.url: {error}") from error
        settings = pool.connection_kwargs
        settings.update(
            protocol=2,  # reply shapes differ in RESP3
            decode_responses=False,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            client_name="foretick",
        )
        if password is not None:
            settings["password"] = password
        self._pool = pool
        self._session: Any = None  # redis-py's Connection, of which nothing is annotated
        self._socket: socket.socket | None = None
        self._reader: Any = None  # the stub of hiredis.Reader.feed knows no bytearray
        self._buffer = bytearray(READ_BYTES)

    @property
    def is_open(self) -> bool:
        """Whether a socket stands; it may still turn out to be dead."""
        return self._socket is not None

    def open(self) -> None:
        """Connects and authenticates, once; the caller decides about another try.

        Raises:
            ConnectionLost: nobody answers.
            ServerRefused: the server answers but does not let us in for now (LOADING, NOAUTH, …).
        """
        self.close()
        session: Any = self._pool.make_connection()
        try:
            session.connect()
        except redis.RedisError as error:
            session.disconnect()
            raise _foreign(error) from error
        except OSError as error:
            session.disconnect()
            raise ConnectionLost(str(error)) from error
        self._session = session
        self._socket = session._sock  # noqa: SLF001  redis-py has no public way to the socket
        self._reader = hiredis.Reader(replyError=explain, notEnoughData=_INCOMPLETE)

    def close(self) -> None:
        """Hangs up; safe to call at any time."""
        if self._session is not None:
            self._session.disconnect()
        self._session = None
        self._socket = None

    def send(self, request: bytes) -> None:
        """Sends packed commands."""
        if self._socket is None:
            raise ConnectionLost("the connection is closed")
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
                self._receive()
                reply = gets()
        except hiredis.HiredisError as error:
            self.close()
            raise ConnectionLost(f"unreadable reply: {error}") from error
        return reply

    def _receive(self) -> None:
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
        self._reader.feed(self._buffer, 0, size)

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


def _foreign(error: redis.RedisError) -> ForetickError:
    """Our error for one that redis-py raised while connecting."""
    if isinstance(error, redis.AuthenticationError):
        return ServerRefused("NOAUTH", str(error) or "authentication failed")
    if isinstance(error, redis.BusyLoadingError):
        return ServerRefused("LOADING", str(error))
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return ConnectionLost(str(error))
    return explain(str(error))
