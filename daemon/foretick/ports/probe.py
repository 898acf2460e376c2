"""A look at the server, the streams, the port and the folder before the daemon starts. Changes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ConnectionLost, ForetickError, RedisUnreachable, ServerRefused
from foretick.ports.keyspace import StreamScan
from foretick.ports.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foretick.ports.connection import RedisConnection
    from foretick.ports.route import Route

LOOK_SECONDS = 5.0  # a person waits for the answer
SCAN_STEPS = 1000  # a million keys: enough to know whether a glob finds anything
FLOOR = (7, 0)  # XGROUP SETID … ENTRIESREAD came with Redis 7.0


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """What a server says about one key.

    Attributes:
        name: the key.
        key_type: `stream`, `none`, or another type of Redis; None where the user may not ask.
        entries: of the stream.
    """

    name: str
    key_type: str | None
    entries: int | None


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """What a server says about itself and the input.

    Attributes:
        software: `redis` or `valkey`.
        version: as the server writes it; None where the user may not ask.
        is_supported: the version is the floor or above, or unknown.
        streams: the keys that are named.
        found: streams that match each glob; None where the user may not search.
        masters: of a cluster; 0 where there is none.
    """

    software: str
    version: str | None
    is_supported: bool
    streams: tuple[StreamSeen, ...]
    found: dict[str, int | None]
    masters: int


def look_at_server(route: Route, names: Sequence[str], globs: Sequence[str], prefix: str) -> ServerSeen:
    """One connection, a few questions.

    Args:
        route: the way to the server.
        names: streams to ask for.
        globs: to search for.
        prefix: of our own keys, which no glob finds.

    Raises:
        RedisUnreachable: nobody answers, or the server does not let us in.
    """
    connection = Switchboard(route, timeout_seconds=LOOK_SECONDS)
    try:
        connection.open()
        connection.call("PING")
        masters = len(connection.lines) if connection.is_cluster else 0
        facts = _facts(connection)
        streams = tuple(_look_at_stream(connection, name) for name in names)
        found = {glob: _count_matches(connection, glob, prefix) for glob in globs}
    except (ConnectionLost, ServerRefused, CommandFailed) as error:
        raise RedisUnreachable(str(error)) from error
    finally:
        connection.close()
    software = facts.get("server_name", "redis")
    floor = tuple(int(part) for part in facts.get("redis_version", "99.0").split(".")[:2])  # Valkey answers 7.2
    return ServerSeen(
        software=software,
        version=facts.get(f"{software}_version"),
        is_supported=floor >= FLOOR,
        streams=streams,
        found=found,
        masters=masters,
    )


def _look_at_stream(connection: RedisConnection, name: str) -> StreamSeen:
    key_type = _ask(connection, "TYPE", name)
    entries = _ask(connection, "XLEN", name) if key_type == b"stream" else None
    return StreamSeen(
        name,
        key_type.decode() if isinstance(key_type, bytes) else None,
        entries if isinstance(entries, int) else None,
    )


def _count_matches(connection: RedisConnection, glob: str, prefix: str) -> int | None:
    scan = StreamScan([glob.encode()])
    try:
        for _ in range(SCAN_STEPS):
            if scan.is_over:
                break
            scan.step(connection)
    except CommandFailed as error:
        if error.word == "NOPERM":
            return None
        raise
    return sum(not stream.startswith(prefix.encode() + b":") for stream in scan.found)


def _ask(connection: RedisConnection, *command: str) -> bytes | int | None:
    """The answer; None where this user may not ask."""
    try:
        answer: bytes | int = connection.call(*command)
    except CommandFailed as error:
        if error.word == "NOPERM":
            return None
        raise
    return answer


def _facts(connection: RedisConnection) -> dict[str, str]:
    answer = _ask(connection, "INFO", "server")
    lines = answer.decode(errors="replace").splitlines() if isinstance(answer, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def why_not_bindable(host: str, port: int) -> str | None:
    """Why no server can listen on this address; None when one can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.closing(socket.socket(family, kind, protocol)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "somebody listens there already (a running foretick?)"
        return error.strerror or str(error)
    return None


def why_not_writable(folder: Path) -> str | None:
    """Why the folder cannot be made or written; None when it can."""
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir():
        return f"{standing} is no folder"
    return None if os.access(standing, os.W_OK | os.X_OK) else f"{standing} is not writable for this user"


def why_no_embedded_server() -> str | None:
    """Why `--embedded` has nothing to start; None when it has."""
    from foretick.ports.embedded import valkey_binary  # noqa: PLC0415  costs nothing where no embedded server is asked for

    try:
        valkey_binary()
    except ForetickError as error:
        return str(error)
    return None
