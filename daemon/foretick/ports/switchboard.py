"""Keys from all over Redis through one object: on a cluster, a connection to every master.

For what looks at many partitions at once (which streams there are, who owns what), and for people's verbs; a
partition's own turns stay on one connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretick.errors import ConnectionLost, ServerRefused
from foretick.ports.connection import RedisConnection, good
from foretick.ports.slots import owner_of, slot_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.ports.address import Node
    from foretick.ports.connection import Command, Reply, Word
    from foretick.ports.route import Route
    from foretick.ports.slots import Span

KEYLESS = frozenset({"TIME", "PING", "INFO", "SCAN", "CONFIG", "CLIENT", "ACL"})
FOLLOWERS = frozenset({"MULTI", "EXEC", "UNWATCH", "DISCARD"})  # belong to the key that was named last
NESTED = frozenset({"XINFO", "XGROUP", "MEMORY", "OBJECT"})  # a word more before the key


_FOLLOWERS_AS_BYTES = frozenset(name.encode() for name in FOLLOWERS)


def key_of(command: Command) -> bytes | None:
    """The first key that a command names; none where it names none."""
    name = _bytes(command[0]).decode().upper()
    if name in KEYLESS:
        return None
    place = 2 if name in NESTED else 1
    return _bytes(command[place]) if len(command) > place else None


class Switchboard(RedisConnection):
    """A connection, and on a cluster one more to each of the other masters.

    What names no key goes to the master of the first slot: all daemons then read the same clock.

    Args:
        route: the way to Redis, or its URL.
        timeout_seconds: longest silence while a reply is due.
    """

    def __init__(self, route: Route | str, *, timeout_seconds: float) -> None:
        super().__init__(route, timeout_seconds=timeout_seconds)
        self._spans: tuple[Span, ...] = ()
        self._lines: dict[Node, RedisConnection] = {}  # to the other masters
        self._last: Node | None = None  # where the last command went

    @property
    def is_open(self) -> bool:
        """Whether all connections stand that were needed so far, and lead to where the keys are."""
        return super().is_open and all(line.is_open for line in self._lines.values())

    @property
    def is_cluster(self) -> bool:
        """Whether there are several masters, or could be."""
        return bool(self._spans)

    @property
    def lines(self) -> list[RedisConnection]:
        """A connection to every master, open.

        Raises:
            ConnectionLost, ServerRefused: one of them cannot be had.
        """
        if not self._spans:
            return [self]
        return [self._line(node) for node in dict.fromkeys(span.owner for span in self._spans)]

    def close(self) -> None:
        """Hang up everywhere."""
        super().close()
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def call(self, *command: Word) -> Reply:
        """Send one command to where its key is and return the reply; raises what the server answers as an error."""
        return good(self.call_all([command])[0])

    def call_all(self, commands: Sequence[Command]) -> list[Reply]:
        """Send each command to where its key is and return all replies, errors among them as values."""
        if not self._spans:
            return super().call_all(commands)
        parts: dict[Node, list[int]] = {}
        for place, command in enumerate(commands):
            if command[0] not in FOLLOWERS and command[0] not in _FOLLOWERS_AS_BYTES:
                self._last = self._owner(key_of(command))
            parts.setdefault(self._last or self._spans[0].owner, []).append(place)
        replies: dict[int, Reply] = {}
        for node, places in parts.items():
            asked = [commands[place] for place in places]
            line = self._line(node)
            answers = super().call_all(asked) if line is self else line.call_all(asked)
            replies.update(zip(places, answers, strict=True))
        return [replies[place] for place in range(len(commands))]

    def _dial(self) -> Any:
        session = self._route.session(self._timeout_seconds)
        self._spans = self._route.spans
        if not self._spans:
            return session
        session.disconnect()
        return self._route.to_node(self._spans[0].owner, self._timeout_seconds)

    def _owner(self, key: bytes | None) -> Node:
        if key is None:
            return self._spans[0].owner
        owner = owner_of(slot_of(key), self._spans)
        if owner is None:
            self._is_astray = True
            raise ServerRefused("CLUSTERDOWN", f"CLUSTERDOWN no node of the cluster has slot {slot_of(key)}")
        return owner

    def _line(self, node: Node) -> RedisConnection:
        if not super().is_open:
            raise ConnectionLost("the connection is closed")
        if node == self._spans[0].owner:
            return self
        line = self._lines.get(node)
        if line is None:
            line = _Line(self._route, node, self._timeout_seconds)
            line.open()
            self._lines[node] = line
        return line


class _Line(RedisConnection):
    """A connection to one node, whatever it has."""

    def __init__(self, route: Route, node: Node, timeout_seconds: float) -> None:
        super().__init__(route, timeout_seconds=timeout_seconds)
        self._node = node

    def _dial(self) -> Any:
        return self._route.to_node(self._node, self._timeout_seconds)


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
