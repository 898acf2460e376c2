"""The way to Redis: to which server a connection goes, as whom, over which kind of socket.

It is looked up anew for every connection, since it changes: Sentinels and clusters put another server into the place of
a failed one, slots move between the nodes of a cluster, certificates are renewed. redis-py opens the connection (TLS,
AUTH, SELECT, CLIENT SETNAME); what is said on it afterwards is not its affair.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from foretick.errors import CommandFailed, ConnectionLost, ForetickError, ServerRefused, UsageError
from foretick.ports.address import read_address
from foretick.ports.replies import TLS, explain
from foretick.ports.slots import Span, owner_of, read_slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foretick.ports.address import Node

CONNECT_TIMEOUT_SECONDS = 5.0  # a SYN that is dropped must not eat the whole connect deadline
ONE_OF_MANY_SECONDS = 2.0  # to connect to one of several servers that can answer: the next may be alive
LOOKUP_SECONDS = 6.0  # through all of them: with the connection itself, no try takes longer than Patience allows


@dataclass(frozen=True, slots=True)
class Login:
    """As whom we come, and whom we trust; nothing of it is ever shown.

    Attributes:
        user: of the ACL; takes the place of the URL's.
        password: likewise.
        sentinel_user: for Sentinels that ask for one; they have users of their own.
        sentinel_password: likewise.
        ca: file of the certificates that may have signed the server's.
        cert: file of our certificate, where the server asks for one.
        key: file of its private key.
    """

    user: str | None = None
    password: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return "Login(…)"


class Route:
    """The way to one Redis, be it a server, a cluster, or a master behind Sentinels; for many threads.

    Args:
        url: see `address`.
        login: what does not stand in the URL, or not safely.

    Raises:
        UsageError: the URL or a file of the login cannot be used.
    """

    def __init__(self, url: str, login: Login = Login()) -> None:
        self._address = read_address(url)
        options = self._address.options
        options.update(protocol=2, decode_responses=False, client_name="foretick")  # reply shapes differ in RESP3
        self._is_tls = issubclass(self._address.kind, redis.SSLConnection)
        self._trust(login)
        self._sentinel_login = {"username": login.sentinel_user, "password": login.sentinel_password, "db": 0}
        if login.user is not None:
            options["username"] = login.user
        if login.password is not None:
            options["password"] = login.password
        self._seeds = self._address.nodes  # Sentinels, or nodes of the cluster; who answered last stands first
        self._is_cluster: bool | None = None  # none: not asked yet
        self._spans: tuple[Span, ...] = ()  # of a cluster, when it was asked last

    @property
    def is_cluster(self) -> bool:
        """Whether the last connection led into a cluster."""
        return bool(self._is_cluster)

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

    def masters(self, timeout_seconds: float) -> tuple[Span, ...]:
        """The slots of a cluster and who has them; nothing where there is no cluster.

        Raises:
            ConnectionLost, ServerRefused, UsageError: as in `session`.
        """
        self.session(timeout_seconds).disconnect()
        return self._spans if self._is_cluster else ()

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
        try:
            found = _ask(session, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        finally:
            session.disconnect()
        others = [seed for seed in self._seeds if seed != sentinel]
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
            raise _foreign(error) from error
        except OSError as error:
            session.disconnect()
            raise _tls_error(error) or ConnectionLost(str(error)) from error
        return session

    def _trust(self, login: Login) -> None:
        """Check the files once, so that a wrong one is told by name, and have them read for every connection."""
        given = {"redis.ca": login.ca, "redis.cert": login.cert, "redis.key": login.key}
        if not any(given.values()):
            return
        if not self._is_tls:
            raise UsageError(
                f"{next(name for name in given if given[name])} needs TLS: write rediss:// (or rediss+sentinel://) "
                "in redis.url"
            )
        if login.key and not login.cert:
            raise UsageError("redis.key needs redis.cert, the certificate that it belongs to")
        for name, path in given.items():
            _check_readable(name, path)
        _check_pair(login)
        # The key may stand in the certificate's file.
        files = {"ssl_ca_certs": login.ca, "ssl_certfile": login.cert, "ssl_keyfile": login.key}
        self._address.options.update({name: path for name, path in files.items() if path})


def _check_readable(name: str, path: str | None) -> None:
    try:
        if path:
            with open(path, "rb"):  # noqa: PTH123  nothing but this is asked of it
                pass
    except OSError as error:
        raise UsageError(f"{name}: {path} cannot be read: {error.strerror}") from error


def _check_pair(login: Login) -> None:
    context = ssl.create_default_context()
    try:
        if login.ca:
            context.load_verify_locations(login.ca)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"redis.ca: {login.ca} holds no certificates in PEM") from error
    try:
        if login.cert:
            context.load_cert_chain(login.cert, login.key, password="")
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"redis.cert, redis.key: {login.cert} and {login.key or login.cert} are no certificate and its key "
            "in PEM, without a passphrase"
        ) from error


def _ask(session: Any, *command: str | None) -> Any:
    """The answer on a connection of redis-py."""
    try:
        session.send_command(*command)
        return session.read_response()
    except redis.RedisError as error:
        raise _foreign(error) from error
    except OSError as error:
        raise ConnectionLost(str(error)) from error


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


def _foreign(error: redis.RedisError) -> ForetickError:
    """Our error for one that redis-py raised."""
    if refusal := _tls_error(error):
        return refusal
    if isinstance(error, redis.AuthenticationError):
        return ServerRefused("NOAUTH", str(error) or "authentication failed")
    if isinstance(error, redis.BusyLoadingError):
        return ServerRefused("LOADING", str(error))
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return ConnectionLost(str(error))
    return explain(str(error))


def _tls_error(error: BaseException | None) -> ServerRefused | None:
    """A refusal, if what went wrong is that the two sides do not accept each other; none for a lost connection."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerRefused(TLS, f"its certificate is not accepted: {error.verify_message}")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            reason = (error.reason or str(error)).lower().replace("_", " ")
            return ServerRefused(TLS, f"the TLS handshake failed: {reason}")
        error = error.__cause__ or error.__context__
    return None


def _text(node: Node) -> str:
    return f"{node[0]}:{node[1]}"
