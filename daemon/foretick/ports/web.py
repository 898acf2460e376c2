"""A small HTTP server that trusts no client: bounded requests, short connections, few threads.

A connection carries one request of bounded size and lives for seconds; when there are too many the oldest gives way, so
that slow clients cannot keep a probe out. An answer that goes on as a stream may last; whoever makes it sees to it that
there are few.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from io import BufferedIOBase

log = structlog.get_logger()

CONNECTIONS_MAX = 16  # at once; a daemon has a scraper, two probes and a person or two
CONNECTION_MAX_SECONDS = 5.0  # from accept to close; kubelet gives up after 1 s, Prometheus after 10
REQUEST_LINE_MAX_BYTES = 2048
REQUEST_MAX_BYTES = 16_384  # request line and headers; a browser with many cookies sends about 8,000
POLL_SECONDS = 0.25  # how late a connection is cut, or the server stops
STREAM_BUFFER_BYTES = 65_536  # of a stream in the kernel: a client that stops reading is noticed after some seconds
STREAM_SILENCE_MS = 15_000  # of a stream's peer that acknowledges nothing: its network is gone
STOP_MAX_SECONDS = 1.0  # for an answer being made when we stop; a SIGTERM leaves 5 s for everything
TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        path: as it was sent, up to the question mark.
        query: what follows it.
        headers: by name, in any case; of those that were sent twice the first.
    """

    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers.

    Attributes:
        body: all of it, or the beginning of a stream.
        content_type: of both.
        status: of the answer.
        headers: beside the usual ones, or in their place.
        stream: follows the body for as long as it lasts; is closed in any case.
    """

    body: bytes
    content_type: str = TEXT_TYPE
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Generator[bytes, None, None] | None = None


@dataclass(slots=True)
class _Connection:
    """One that is open: who answers it, since when (on the monotonic clock), and whether it may last."""

    thread: threading.Thread
    since: float
    lasts: bool = False


class BoundedServer(socketserver.TCPServer):
    """One thread per connection, few connections, each for a short time."""

    allow_reuse_address = True  # a restart need not wait for the old connections' TIME_WAIT
    request_queue_size = 128  # accepting takes microseconds; a client that finds the queue full tries again after 1 s

    def __init__(self, family: int, address: Any, answer: Callable[[Request], Answer]) -> None:
        self.address_family = family
        self.answer = answer
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _Connection] = {}  # in order of arrival
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own; at the limit the oldest connection gives way."""
        if len(short := self._short()) >= CONNECTIONS_MAX:
            self._cut(next(iter(short)))
        if len(self._short()) >= CONNECTIONS_MAX:
            self.shutdown_request(request)
            return
        thread = threading.Thread(target=self._answer, args=(request, client_address), name="http-answer", daemon=True)
        with self._lock:
            self._open[request] = _Connection(thread, time.monotonic())
        thread.start()

    def let_last(self, request: socket.socket) -> None:
        """Do not cut this connection any more: its answer is a stream."""
        with self._lock:
            self._open[request].lasts = True

    def service_actions(self) -> None:
        """Cut the connections that have had their time; runs at every poll."""
        latest = time.monotonic() - CONNECTION_MAX_SECONDS
        for request, connection in self._short().items():
            if connection.since < latest:
                _break(request)

    def server_close(self) -> None:
        """Close the port, then every connection, and wait for their threads."""
        super().server_close()
        connections = self._connections()
        for request in connections:
            _break(request)
        for connection in connections.values():
            connection.thread.join(STOP_MAX_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: what reaches this is a client that went away."""

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            with self._lock:
                del self._open[request]

    def _cut(self, request: socket.socket) -> None:
        if connection := self._connections().get(request):
            _break(request)
            connection.thread.join(POLL_SECONDS)

    def _connections(self) -> dict[socket.socket, _Connection]:
        with self._lock:
            return dict(self._open)

    def _short(self) -> dict[socket.socket, _Connection]:
        """The connections whose answers are no streams."""
        return {request: connection for request, connection in self._connections().items() if not connection.lasts}


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads one request and answers it."""

    timeout = CONNECTION_MAX_SECONDS  # of a single read or write
    server: BoundedServer

    def setup(self) -> None:
        """Put a bound on what is read."""
        super().setup()
        self.rfile = cast("Any", _BoundedReader(self.rfile, REQUEST_MAX_BYTES))

    def handle_one_request(self) -> None:
        """Read a request, and answer it if it is one."""
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""  # for answers to unreadable ones
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(REQUEST_LINE_MAX_BYTES + 1)
        if not self.raw_requestline:
            return
        if len(self.raw_requestline) > REQUEST_LINE_MAX_BYTES:
            self._send(_plain(HTTPStatus.REQUEST_URI_TOO_LONG))
            return
        if not self.parse_request():  # which has answered what was wrong
            return
        self.close_connection = True  # whatever the client asks for
        if self.command not in {"GET", "HEAD"}:
            self._send(_plain(HTTPStatus.METHOD_NOT_ALLOWED), allow="GET, HEAD")
            return
        path, _, query = self.path.partition("?")
        try:
            answer = self.server.answer(Request(path, query, cast("Mapping[str, str]", self.headers)))
        except Exception:  # the loop must not suffer, and the client must hear of it
            log.exception("http_answer_failed", path=path)
            answer = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002  the standard library's signature
        """Answer a request that could not be parsed, without repeating any of it."""
        self._send(_plain(HTTPStatus(code)))

    def version_string(self) -> str:
        """The Server header; nobody needs to know the interpreter's version."""
        return "foretick"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library's signature
        """Keep no access log: probes come every few seconds for ever."""

    def _send(self, answer: Answer, **headers: str) -> None:
        if self.request_version == "HTTP/0.9":  # so the standard library calls what it could not read
            self.request_version = "HTTP/1.0"  # whose answers have a status
        told = {"Content-Type": answer.content_type, "Cache-Control": "no-store"}
        if answer.stream is None:
            told["Content-Length"] = str(len(answer.body))
        self.send_response(answer.status)
        for name, text in (told | dict(answer.headers) | headers).items():
            self.send_header(name.title(), text)
        try:
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
                self._go_on(answer.stream)
        finally:
            if answer.stream is not None:
                answer.stream.close()

    def _go_on(self, stream: Generator[bytes, None, None] | None) -> None:
        """Send what a stream brings until it ends, or its reader is gone."""
        if stream is None:
            return
        self.server.let_last(self.connection)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STREAM_SILENCE_MS)
        try:
            for part in stream:
                self.wfile.write(part)
        except OSError:
            raise
        except Exception:  # the loop must not suffer; the client sees the end of the stream and asks again
            log.exception("http_stream_failed", path=self.path)


class _BoundedReader:
    """Reads lines up to a number of bytes in all; the standard library alone would take 100 headers of 64 kB each."""

    def __init__(self, source: BufferedIOBase, left_bytes: int) -> None:
        self._source = source
        self._left_bytes = left_bytes

    def readline(self, limit: int) -> bytes:
        """The next line, or its first `limit` bytes.

        Raises:
            LineTooLong: the bound is passed; `parse_request` answers 431.
        """
        line = self._source.readline(min(limit, self._left_bytes + 1))
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            raise http.client.LineTooLong("header")
        return line

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _plain(status: HTTPStatus) -> Answer:
    return Answer(f"{status.value} {status.phrase}\n".encode(), status=status)


def _break(request: socket.socket) -> None:
    """End a connection under its thread, whose next read or write then fails."""
    with contextlib.suppress(OSError):  # closed meanwhile
        request.shutdown(socket.SHUT_RDWR)
