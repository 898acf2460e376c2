"""A TCP proxy between one daemon and its server that kills the daemon at a byte of the test's choice."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Trap:
    """Kill at the nth request that holds `word`: after so many bytes of it, or of what is answered to it."""

    word: bytes
    side: Literal["request", "reply"]
    nth: int
    after_bytes: int


class KillingProxy:
    """Forwards everything, until a trap that was set springs: then `act` is called before anything else moves.

    What the daemon had sent up to there has reached the server. The rest follows if `act` returns true; otherwise the
    connection ends there, as after a kill.
    """

    def __init__(self, port: int, act: Callable[[], object]) -> None:
        self._target = ("127.0.0.1", port)
        self.act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._trap: Trap | None = None
        self._seen = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.has_sprung = threading.Event()
        self.is_open = threading.Event()  # until then connections are made but nobody answers
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def open(self) -> None:
        """Let the daemon through to the server."""
        self.is_open.set()

    def set_trap(self, trap: Trap) -> None:
        with self._lock:
            self._trap, self._seen = trap, 0
            self.has_sprung.clear()

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        self.is_open.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        self.is_open.wait()
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open |= {client, server}
                awaited: list[Trap] = []  # sprung by this connection's next reply
                for pump in (self._requests, self._replies):
                    threading.Thread(target=pump, args=(client, server, awaited), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, awaited: list[Trap]) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(1 << 20):
                trap = self._takes(chunk)
                if trap is not None and trap.side == "request":
                    cut = trap.after_bytes % (len(chunk) + 1)
                    server.sendall(chunk[:cut])
                    if not self._spring():
                        break
                    chunk = chunk[cut:]
                elif trap is not None:
                    awaited.append(trap)
                server.sendall(chunk)
        self._hang_up(client, server)

    def _replies(self, client: socket.socket, server: socket.socket, awaited: list[Trap]) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(1 << 20):
                if awaited:
                    client.sendall(chunk[: awaited[0].after_bytes % (len(chunk) + 1)])
                    self._spring()
                    break
                client.sendall(chunk)
        self._hang_up(client, server)

    def _takes(self, chunk: bytes) -> Trap | None:
        """The trap that this request springs."""
        with self._lock:
            if self._trap is None or self._trap.word not in chunk:
                return None
            self._seen += 1
            if self._seen < self._trap.nth:
                return None
            trap, self._trap = self._trap, None
            return trap

    def _spring(self) -> bool:
        goes_on = bool(self.act())
        self.has_sprung.set()
        return goes_on

    def _hang_up(self, *ends: socket.socket) -> None:
        for one in ends:
            self._open.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
