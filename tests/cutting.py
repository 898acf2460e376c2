"""A TCP proxy that cuts a connection in the middle of a commit, at a byte of the test's choice."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Literal


@dataclass
class Cut:
    """Where to cut: after so many bytes of a commit's request, or of the replies to it."""

    side: Literal["request", "reply"]
    after_bytes: int


class CuttingProxy:
    """Forwards between clients and one server; `cut` arms it for the next commit, once."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = 0
        self._armed: Cut | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, side: Literal["request", "reply"], after_bytes: int) -> None:
        with self._lock:
            self._armed = Cut(side, after_bytes)

    def close(self) -> None:
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                pending: list[Cut] = []  # of this connection's replies
                for source, sink, forward in ((client, server, self._request), (server, client, self._reply)):
                    threading.Thread(target=self._pump, args=(source, sink, forward, pending), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, forward: object, pending: list[Cut]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                allowed = forward(chunk, pending)  # type: ignore[operator]
                sink.sendall(chunk if allowed is None else chunk[:allowed])
                if allowed is not None:
                    self.cuts += 1
                    break
        for one in (source, sink):
            self._open.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _request(self, chunk: bytes, pending: list[Cut]) -> int | None:
        with self._lock:
            if self._armed is None or b"MULTI" not in chunk or b"XADD" not in chunk:
                return None
            cut, self._armed = self._armed, None
        if cut.side == "request":
            return min(cut.after_bytes, len(chunk))
        pending.append(cut)
        return None

    def _reply(self, chunk: bytes, pending: list[Cut]) -> int | None:
        if not pending:
            return None
        cut = pending[0]
        if cut.after_bytes > len(chunk):
            cut.after_bytes -= len(chunk)
            return None
        pending.clear()
        return cut.after_bytes
