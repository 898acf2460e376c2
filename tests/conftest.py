"""Fixtures of all tests: servers that are real, empty at each test's start, and gone at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from servers import SHARED_SERIES, DaemonProcess, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How long an example takes says how busy the machine is; the first text in a fresh clone takes seconds to be made.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """A verb that runs inside a test sets up logging for its process, which here is that of all tests after it."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        logging.getLogger().handlers.clear()


def _running(kind: str) -> Iterator[Server]:
    server = Server(kind)
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[Server]:
    yield from _running("redis")


@pytest.fixture(scope="session")
def _session_valkey() -> Iterator[Server]:
    yield from _running("valkey")


@pytest.fixture
def redis_server(_session_redis: Server) -> Iterator[Server]:
    """Debian's redis-server, the floor of what we support; empty."""
    _session_redis.pristine()
    yield _session_redis
    _session_redis.close_clients()


@pytest.fixture
def valkey_server(_session_valkey: Server) -> Iterator[Server]:
    """The embedded extra's Valkey; empty."""
    _session_valkey.pristine()
    yield _session_valkey
    _session_valkey.close_clients()


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each test that asks for it runs twice: on Redis and on Valkey."""
    asked: Server = request.getfixturevalue(f"{request.param}_server")
    return asked


@pytest.fixture
def private_server() -> Iterator[Callable[..., Server]]:
    """Makes servers that a test may kill, pause or reconfigure: `private_server("redis", maxmemory="2mb")`."""
    made: list[Server] = []

    def make(kind: str = "redis", **options: str) -> Server:
        made.append(Server(kind, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.discard()


@pytest.fixture
def start_daemon() -> Iterator[Callable[..., DaemonProcess]]:
    """Starts daemons: `start_daemon(server.url, streams="ticks", ready=True)`; all are gone after the test."""
    made: list[DaemonProcess] = []

    def start(url: str | None, *arguments: str, ready: bool = True, **settings: Any) -> DaemonProcess:
        made.append(DaemonProcess(url, *arguments, **settings))
        return made[-1].start(ready=ready)

    yield start
    for one in made:
        one.discard()


@pytest.fixture(scope="session")
def shared_series() -> Path:
    """The folder of real series beside the repository; they are not part of it, so elsewhere the test is skipped."""
    if not (SHARED_SERIES / "dev.csv.gz").exists():
        pytest.skip(f"no real series in {SHARED_SERIES}")
    return SHARED_SERIES
