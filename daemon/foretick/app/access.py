"""The way of the small verbs to the server: which one, which streams, and what becomes of errors on the way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from foretick.errors import CommandFailed, ConnectionLost, RedisUnreachable, ServerRefused, UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.login import Login
from foretick.ports.masking import mask_url
from foretick.ports.route import Route
from foretick.ports.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.app.settings import Settings
    from foretick.app.settings_groups import RedisSettings

REPLY_SECONDS = 5.0  # a person waits for the answer
GLOB_CHARACTERS = frozenset("*?[]")
NO_SERVER = (
    "no Redis is named: write --redis-url redis://HOST:6379, FORETICK_REDIS__URL in the environment, or "
    'redis.url = "redis://HOST:6379" in foretick.toml'
)


def server_of(settings: Settings) -> Route:
    """The way to the server that the settings name.

    Raises:
        UsageError: none is named, or it cannot be used as it is.
    """
    if settings.embedded:
        raise UsageError(
            "embedded is set, and the embedded server belongs to `foretick run`: give the URL that it prints, "
            "with --set embedded=false --redis-url redis://127.0.0.1:PORT"
        )
    if settings.redis.url is None:
        raise UsageError(NO_SERVER)
    return route_of(settings.redis, settings.redis.url)


def route_of(redis: RedisSettings, url: str) -> Route:
    """The way to the server at this URL, as whom the settings say.

    Raises:
        UsageError: the URL or a file cannot be used.
    """
    files = (str(path) if path else None for path in (redis.ca, redis.cert, redis.key))
    secrets = (secret.get_secret_value() if secret else None for secret in (redis.password, redis.sentinel_password))
    password, sentinel_password = secrets
    ca, cert, key = files
    return Route(
        url,
        Login(
            user=redis.user,
            password=password,
            sentinel_user=redis.sentinel_user,
            sentinel_password=sentinel_password,
            ca=ca,
            cert=cert,
            key=key,
        ),
    )


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
def connected(
    settings: Settings, *, key: bytes | None = None, timeout_seconds: float = REPLY_SECONDS
) -> Iterator[RedisConnection]:
    """A connection for the time of the block; what the block leaves unanswered ends the process with its exit status.

    Args:
        settings: name the server.
        key: of the one stream that it is about; without it, keys from all over a cluster can be asked for.
        timeout_seconds: longest silence while a reply is due.

    Raises:
        RedisUnreachable: nobody answers, or not any more.
        UsageError: the server refuses a command: a key of another type, a user without the right.
    """
    route = server_of(settings)
    url = settings.redis.url or ""
    connection: RedisConnection
    if key is None:
        connection = Switchboard(route, timeout_seconds=timeout_seconds)
    else:
        connection = RedisConnection(route, timeout_seconds=timeout_seconds, key=key)
    try:
        connection.open()
        yield connection
    except (ConnectionLost, ServerRefused) as error:
        raise RedisUnreachable(f"{mask_url(url)}: {error}") from error
    except CommandFailed as error:
        raise UsageError(f"{mask_url(url)}: {error}") from error
    finally:
        connection.close()
