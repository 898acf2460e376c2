"""Redis addresses as they are written: one server, several nodes of a cluster, Sentinels, a socket.

redis://[user:password@]HOST[:6379][/db]              a server, or a node of a cluster
redis://HOST1,HOST2:6380,HOST3                        nodes of one cluster: any of them shows the way
redis+sentinel://HOST1:26379,HOST2/master[/db]        Sentinels, and the name that they know the master by
rediss://…, rediss+sentinel://…                       the same over TLS
unix:///path/of/socket[?db=1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import redis
from redis.connection import parse_url

from foretick.errors import UsageError

REDIS_PORT, SENTINEL_PORT = 6379, 26379
SENTINEL = "+sentinel"

Node = tuple[str, int]  # host and port


@dataclass(frozen=True)
class Address:
    """An address, taken apart.

    Attributes:
        nodes: host and port of each server that is named; none for a socket.
        master: what Sentinels call the master; none where no Sentinels are named.
        kind: redis-py's class of connection.
        options: for that class, without host and port.
    """

    nodes: tuple[Node, ...]
    master: str | None
    kind: Any
    options: dict[str, Any]


def split_hosts(url: str) -> tuple[str, list[str]]:
    """User and password as they stand before the hosts, with their `@`; and each host with its port."""
    user, at, hosts = urlsplit(url).netloc.rpartition("@")
    return user + at, hosts.split(",")


def split_master(path: str) -> tuple[str, str]:
    """The master's name in the path of Sentinels' URL, and what is left for the database."""
    name, slash, rest = path.removeprefix("/").partition("/")
    return unquote(name), slash + rest


def read_address(url: str) -> Address:
    """The address that a URL writes.

    Raises:
        UsageError: it is none.
    """
    try:
        return _read(url)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error


def _read(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        options = _options(url)
        return Address((), None, options.pop("connection_class"), options)
    scheme, is_sentinel, _ = parts.scheme.partition(SENTINEL)
    master, path = split_master(parts.path) if is_sentinel else (None, parts.path)
    user, hosts = split_hosts(url)
    told = [_options(urlunsplit((scheme, user + host, path, parts.query, parts.fragment))) for host in hosts]
    default_port = SENTINEL_PORT if is_sentinel else REDIS_PORT
    nodes = tuple((one.pop("host", "localhost"), one.pop("port", default_port)) for one in told)
    options = told[0]
    return Address(nodes, master, options.pop("connection_class", redis.Connection), options)


def _options(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL."""
    return dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py annotates hardly anything
