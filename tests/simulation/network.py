"""Connections to the fake server, on which a request can be cut, held up or left unanswered at any byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import redis
from fake_redis import Session

from foretick.ports.route import _foreign

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from fake_redis import FakeRedis
    from virtual_time import Host, VirtualTime

LATENCY_SECONDS = (0.0001, 0.002)
CONNECT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a request: of its bytes, of the bytes of its replies, or of whoever sent it."""

    kind: Literal["request cut", "reply cut", "request late", "reply late", "crash", "pause"]
    share: float = 1.0  # of the bytes, before the cut
    seconds: float = 0.0


class Link:
    """One connection: a socket to the client, a session to the server."""

    def __init__(self, network: Network, host: Host, timeout_seconds: float) -> None:
        self.host = host
        self.session = Session()
        self.inbox = bytearray()
        self.is_cut = False  # by the server or the network: what comes now is an error
        self.is_closed = False  # by the client
        self.is_gone = False  # for the server
        self.quiet_until = 0.0  # later bytes never overtake earlier ones
        self.deaf_until = 0.0
        self.replies_left: int | None = None
        self._network = network
        self._timeout_seconds = timeout_seconds

    def sendall(self, request: bytes) -> None:
        if self.is_cut or self.is_closed:
            raise ConnectionResetError("connection reset by peer")
        self._network.carry(self, request)

    def recv_into(self, buffer: bytearray) -> int:
        time = self._network.time
        if not time.wait(lambda: self.is_cut or (self.inbox and self.deaf_until <= time.now), self._timeout_seconds):
            raise TimeoutError("timed out")
        if not self.inbox:
            raise ConnectionResetError("connection reset by peer")
        size = min(len(self.inbox), len(buffer))
        buffer[:size] = self.inbox[:size]
        del self.inbox[:size]
        return size


class Road:
    """In the place of `Route`."""

    def __init__(self, network: Network, host: Host, timeout_seconds: float) -> None:
        self._network = network
        self._host = host
        self._timeout_seconds = timeout_seconds

    def session(self, timeout_seconds: float, slot: int | None) -> Any:
        made = _Connection(self._network, self._host, self._timeout_seconds)
        try:
            made.connect()
        except redis.RedisError as error:
            raise _foreign(error, made) from error
        return made

    def doubt(self) -> None:
        pass


class _Connection:
    """In the place of redis-py's: what `RedisConnection` asks of it."""

    def __init__(self, network: Network, host: Host, timeout_seconds: float) -> None:
        self._network = network
        self._sock: Link | None = None
        self._make = lambda: Link(network, host, timeout_seconds)

    def connect(self) -> None:
        self._network.time.sleep(CONNECT_SECONDS)
        if not self._network.is_up:
            raise redis.ConnectionError("connection refused")
        if self._network.server.refusal == "LOADING":
            raise redis.BusyLoadingError("Redis is loading the dataset in memory")
        self._sock = self._make()
        self._network.links.append(self._sock)

    def disconnect(self) -> None:
        if self._sock is not None:
            self._network.hang_up(self._sock)
        self._sock = None


class Network:
    """Everything between the hosts and the server."""

    def __init__(
        self, time: VirtualTime, server: FakeRedis, rng: random.Random, fate: Callable[[Link, bytes], Fate | None]
    ) -> None:
        self.time = time
        self.server = server
        self.links: list[Link] = []
        self.is_up = True
        self._rng = rng
        self._fate = fate

    def carry(self, link: Link, request: bytes) -> None:
        """Have the request arrive, or what is left of it."""
        time = self.time
        fate = self._fate(link, request)
        moment = max(time.now + self._rng.uniform(*LATENCY_SECONDS), link.quiet_until)
        if fate is None:
            self._deliver_at(moment, link, request)
            return
        cut = round(fate.share * len(request))
        if fate.kind == "request late":
            self._deliver_at(moment, link, request[:cut])
            self._deliver_at(moment + fate.seconds, link, request[cut:])
        elif fate.kind == "request cut":
            self._deliver_at(moment, link, request[:cut])
            time.at(moment, lambda: self.cut(link))
        elif fate.kind == "reply cut":
            link.replies_left = round(fate.share * 40 * request.count(b"\r\n*"))
            self._deliver_at(moment, link, request)
        elif fate.kind == "reply late":
            link.deaf_until = moment + fate.seconds
            self._deliver_at(moment, link, request)
            time.at(link.deaf_until, lambda: None)
        elif fate.kind == "crash":
            self._deliver_at(moment, link, request[:cut])
            link.host.is_dead = True
            time.sleep(0)
        elif fate.kind == "pause":
            self._deliver_at(moment, link, request[:cut])
            link.host.paused_until = time.now + fate.seconds
            time.sleep(0)
            self._deliver_at(time.now, link, request[cut:])

    def _deliver_at(self, moment: float, link: Link, piece: bytes) -> None:
        link.quiet_until = max(link.quiet_until, moment)
        self.time.at(link.quiet_until, lambda: self._deliver(link, piece))

    def _deliver(self, link: Link, piece: bytes) -> None:
        if not (link.is_cut or link.is_gone):
            self._reply(link, self.server.feed(link.session, piece))
            self.pump()

    def pump(self) -> None:
        """Wake whoever waited for what has just happened."""
        for link in [link for link in self.links if link.session.waiting]:
            self._reply(link, self.server.go_on(link.session))
        self.links = [link for link in self.links if not (link.is_cut or link.is_gone)]

    def _reply(self, link: Link, replies: bytes) -> None:
        waiting = link.session.waiting
        if waiting:
            self.time.after(max(waiting[1] - self.server.now_ms(), 0) / 1000 + 0.001, self.pump)
        if link.is_closed or link.is_cut or not replies:
            return
        if link.replies_left is not None:
            replies = replies[: link.replies_left]
            link.replies_left -= len(replies)
            if not link.replies_left:
                link.inbox += replies
                self.cut(link)
                return
        link.inbox += replies

    def cut(self, link: Link) -> None:
        """The connection breaks; what was on its way to the client arrives."""
        link.is_cut = True

    def cut_all(self) -> None:
        for link in self.links:
            self.cut(link)
        self.pump()

    def hang_up(self, link: Link) -> None:
        """The client closes its end; what it has sent still arrives."""
        link.is_closed = True

        def forget() -> None:
            link.is_gone = True

        self.time.at(link.quiet_until + LATENCY_SECONDS[1], forget)
