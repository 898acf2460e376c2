"""The way of the small verbs to the server: which one, which streams, and what becomes of errors on the way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ConnectionLost, RedisUnreachable, ServerRefused, UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.app.settings import Settings

REPLY_SECONDS = 5.0  # a person waits for the answer
GLOB_CHARACTERS = frozenset("*?[]")
NO_SERVER = (
    "no Redis is named: write --redis-url redis://HOST:6379, FORETICK_REDIS__URL in the environment, or "
    'redis.url = "redis://HOST:6379" in foretick.toml'
)


def server_of(settings: Settings) -> tuple[str, str | None]:
    """URL and password of the server.

    Raises:
        UsageError: none is named.
    """
    redis = settings.redis
    if settings.embedded:
        raise UsageError(
            "embedded is set, and the embedded server belongs to `foretick run`: give the URL that it prints, "
            "with --set embedded=false --redis-url redis://127.0.0.1:PORT"
        )
    if redis.url is None:
        raise UsageError(NO_SERVER)
    return redis.url, redis.password.get_secret_value() if redis.password else None


def plain_stream(settings: Settings, verb: str) -> str:
    """The one stream that the settings name without wildcards.

    Raises:
        UsageError: they name none, or several.
    """
    names = [name for name in settings.streams if not is_glob(name)]
    if len(names) != 1:
        raise UsageError(f"{verb} works on one stream, and streams names {len(names)}: write --stream KEY")
    return names[0]


def is_glob(name: str) -> bool:
    """Whether the name stands for many streams."""
    return bool(GLOB_CHARACTERS & set(name))


@contextmanager
def connected(settings: Settings, *, timeout_seconds: float = REPLY_SECONDS) -> Iterator[RedisConnection]:
    """A connection for the time of the block; what the block leaves unanswered ends the process with its exit status.

    Raises:
        RedisUnreachable: nobody answers, or not any more.
        UsageError: the server refuses a command: a key of another type, a user without the right.
    """
    url, password = server_of(settings)
    connection = RedisConnection(url, timeout_seconds=timeout_seconds, password=password)
    try:
        connection.open()
        yield connection
    except (ConnectionLost, ServerRefused) as error:
        raise RedisUnreachable(f"{mask_url(url)}: {error}") from error
    except CommandFailed as error:
        raise UsageError(f"{mask_url(url)}: {error}") from error
    finally:
        connection.close()
