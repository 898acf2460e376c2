"""The way to Redis: to which server a connection goes, as whom, over which kind of socket.

It is looked up anew for every connection, since it changes: Sentinels and clusters put another server into the place of
a failed one, slots move between the nodes of a cluster, certificates are renewed. redis-py opens the connection (TLS,
AUTH, SELECT, CLIENT SETNAME); what is said on it afterwards is not its affair.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis

from foretick.errors import CommandFailed, ConnectionLost, ForetickError, ServerRefused, UsageError
from foretick.ports.address import read_address
from foretick.ports.login import Login, tls_error
from foretick.ports.replies import STRANGER, explain
from foretick.ports.slots import Span, owner_of, read_slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.ports.address import Node

CONNECT_TIMEOUT_SECONDS = 5.0  # a SYN that is dropped must not eat the whole connect deadline
ONE_OF_MANY_SECONDS = 2.0  # to connect to one of several servers that can answer: the next may be alive
LOOKUP_SECONDS = 6.0  # through all of them: with the connection itself, no try takes longer than Patience allows


class Route:
    """The way to one Redis, be it a server, a cluster, or a master behind Sentinels; for many threads.

    Args:
        url: see `address`.
        login: what does not stand in the URL, or not safely.

    Raises:
        UsageError: the URL or a file of the login cannot be used.
    """

    def __init__(self, url: str, login: Login = Login()) -> None:  # noqa: B008  frozen
        self._address = read_address(url)
        options = self._address.options
        options.update(protocol=2, decode_responses=False, client_name="foretick")  # reply shapes differ in RESP3
        options.update(login.tls_files(is_tls=issubclass(self._address.kind, redis.SSLConnection)))
        self._sentinel_login = {"username": login.sentinel_user, "password": login.sentinel_password, "db": 0}
        if login.user is not None:
            options["username"] = login.user
        if login.password is not None:
            options["password"] = login.password
        self._seeds = self._address.nodes  # Sentinels, or nodes of the cluster; who answered last stands first
        self._is_cluster: bool | None = None  # none: not asked yet
        self._spans: tuple[Span, ...] = ()  # of a cluster, when it was asked last

    @property
    def spans(self) -> tuple[Span, ...]:
        """Who has which slots, as the last connection was told; nothing where it led into no cluster."""
        return self._spans if self._is_cluster else ()

    def session(self, timeout_seconds: float, slot: int | None = None) -> Any:
        """A connection of redis-py, open, to the server that has the slot; the caller decides about another try.

        Args:
            timeout_seconds: longest silence while a reply is due.
            slot: of the keys that are to be asked for; without one, any server of a cluster will do.

        Raises:
            ConnectionLost: nobody answers.
            ServerRefused: somebody answers but does not let us in for now (LOADING, NOAUTH, TLS, …).
            UsageError: the servers are not what the URL says.
        """
        if not self._address.nodes:
            return self._connect(None, timeout_seconds)
        if self._address.master is not None:
            return self._to_master(timeout_seconds)
        if self._is_cluster is None:
            self._is_cluster = self._ask_for_cluster(timeout_seconds)
        if self._is_cluster:
            return self._into_cluster(timeout_seconds, slot)
        return self._connect(self._address.nodes[0], timeout_seconds)

    def to_node(self, node: Node, timeout_seconds: float) -> Any:
        """A connection to one node of a cluster."""
        return self._connect(node, timeout_seconds)

    def doubt(self) -> None:
        """Somebody was told that keys are elsewhere: what was one server may have become a cluster."""
        if self._address.nodes and self._address.master is None and not self._is_cluster:
            self._is_cluster = None

    # The three ways to find a server.

    def _ask_for_cluster(self, timeout_seconds: float) -> bool:
        """Whether this is a cluster; several servers that are none are a mistake."""
        session, node = self._first_of(self._seeds, timeout_seconds)
        try:
            is_cluster = _facts_of(session).get(b"mode") == b"cluster"
        finally:
            session.disconnect()
        if not is_cluster and len(self._seeds) > 1:
            raise UsageError(
                f"redis.url names several servers, but {node[0]}:{node[1]} is no node of a cluster: name one server, "
                "or write redis+sentinel://HOST1,HOST2/MASTER for Sentinels"
            )
        return is_cluster

    def _into_cluster(self, timeout_seconds: float, slot: int | None) -> Any:
        """To the node that has the slot, by the word of the first node that answers; the last owner is asked first."""
        last = owner_of(slot, self._spans) if slot is not None else None
        known = [span.owner for span in self._spans]
        nodes = tuple(dict.fromkeys([*([last] if last else []), *known, *self._seeds]))
        session, node = self._first_of(nodes, timeout_seconds)
        try:
            self._spans = read_slots(_ask(session, "CLUSTER", "SLOTS"), node) or self._spans
            owner = node if slot is None else owner_of(slot, self._spans)
        except BaseException:
            session.disconnect()
            raise
        if owner == node:
            return session
        session.disconnect()
        if owner is None:
            raise ServerRefused("CLUSTERDOWN", f"CLUSTERDOWN no node of the cluster has slot {slot}")
        return self._connect(owner, timeout_seconds)

    def _to_master(self, timeout_seconds: float) -> Any:
        """To the server that the first Sentinel that answers holds for the master, if that says so itself."""
        name = self._address.master
        session, sentinel = self._first_of(self._seeds, timeout_seconds, self._sentinel_login)
        others = [seed for seed in self._seeds if seed != sentinel]
        try:
            found = _ask_sentinel(session, name)
        except ServerRefused:
            self._seeds = (*others, sentinel)
            raise
        finally:
            session.disconnect()
        if not found:
            self._seeds = (*others, sentinel)  # it may have been set up a moment ago; the next may know
            raise ConnectionLost(f"the Sentinel {_text(sentinel)} knows no master {name}")
        self._seeds = (sentinel, *others)
        node = found[0].decode(), int(found[1])
        try:
            session = self._connect(node, timeout_seconds)
        except ConnectionLost as error:
            raise ConnectionLost(f"the master {name}, by its Sentinel: {error}") from error
        role = _facts_of(session).get(b"role", b"master")
        if role != b"master":
            session.disconnect()
            raise ServerRefused("READONLY", f"READONLY {_text(node)} is a {role.decode()}, and no other is master yet")
        return session

    def _first_of(
        self, nodes: Iterable[Node], timeout_seconds: float, login: dict[str, Any] | None = None
    ) -> tuple[Any, Node]:
        """The first connection that can be had."""
        nodes, errors = list(nodes), []
        give_up = time.monotonic() + LOOKUP_SECONDS
        for node in nodes:
            try:
                connect_seconds = ONE_OF_MANY_SECONDS if nodes[1:] else CONNECT_TIMEOUT_SECONDS
                return self._connect(node, timeout_seconds, login, connect_seconds), node
            except (ConnectionLost, ServerRefused) as error:
                errors.append(error)
                if time.monotonic() > give_up:
                    break
        refusals = [error for error in errors if isinstance(error, ServerRefused)]
        raise (refusals or errors)[0]

    # One connection.

    def _connect(
        self,
        node: Node | None,
        timeout_seconds: float,
        login: dict[str, Any] | None = None,
        connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
    ) -> Any:
        options = self._address.options | {
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": connect_seconds,
            **(login or {}),
            **({"host": node[0], "port": node[1]} if node else {}),
        }
        if node is None:
            del options["socket_connect_timeout"]  # a socket connects at once, or not at all
        session: Any = self._address.kind(**options)
        session.driver_info = None  # no CLIENT SETINFO: a right less to grant, two round trips less
        try:
            session.connect()
        except redis.RedisError as error:
            session.disconnect()
            raise _foreign(error, session) from error
        except (OSError, UnicodeError) as error:  # the latter from a name that no resolver takes
            session.disconnect()
            raise tls_error(error) or ConnectionLost(str(error)) from error
        return session


def _ask(session: Any, *command: str | None) -> Any:
    """The answer on a connection of redis-py."""
    try:
        session.send_command(*command)
        return session.read_response()
    except redis.RedisError as error:
        raise _foreign(error, session) from error
    except OSError as error:
        raise ConnectionLost(str(error)) from error


def _ask_sentinel(session: Any, master: str | None) -> Any:
    """Host and port of a master; none where the Sentinel does not know it."""
    try:
        return _ask(session, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
    except CommandFailed as error:
        if "unknown command" not in str(error):
            raise
        text = f"no Sentinel answers at {session.host}:{session.port}, but a Redis: name a Sentinel, or write redis://"
        raise ServerRefused(STRANGER, text) from error


def _facts_of(session: Any) -> dict[bytes, Any]:
    """What the server says of itself; allowed to every user. Nothing where something between us does not know HELLO."""
    try:
        reply = _ask(session, "HELLO", "2")
    except CommandFailed:
        return {}
    except ForetickError:
        session.disconnect()
        raise
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _foreign(error: redis.RedisError, session: Any) -> ForetickError:
    """Our error for one that redis-py raised on this connection."""
    if refusal := tls_error(error):
        return refusal
    if isinstance(error, redis.AuthenticationError):
        return ServerRefused("NOAUTH", str(error) or "authentication failed")
    if isinstance(error, redis.BusyLoadingError):
        return ServerRefused("LOADING", str(error))
    if isinstance(error, redis.InvalidResponse):
        where = getattr(session, "path", None) or f"{session.host}:{session.port}"
        return ServerRefused(STRANGER, f"no Redis answers at {where}, but another program: correct redis.url")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return ConnectionLost(str(error))
    return explain(str(error))


def _text(node: Node) -> str:
    return f"{node[0]}:{node[1]}"
