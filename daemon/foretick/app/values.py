"""How settings are written: durations, lists, seasons, Redis URLs; each refuses with a reason to act on."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlsplit

from foretick.ports.address import SENTINEL, split_hosts, split_master

Season: TypeAlias = Literal["auto", "none"] | tuple[float, ...]

FEATURES_MAX = 32
LEVELS_MAX = 5  # each is two numbers of every forecast

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_LONGEST_SECONDS = 3.2e9  # a century: more is a slip of the keyboard
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_BYTES = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "kiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_URL_OPTIONS = {"db": r"\d+"}  # others would change what the ports rely on (timeouts, RESP version, decoding)
_TLS_OPTIONS = _URL_OPTIONS | {
    "ssl_ca_certs": ".+",
    "ssl_ca_path": ".+",
    "ssl_cert_reqs": "none|optional|required",
    "ssl_certfile": ".+",
    "ssl_check_hostname": "(?i:true|false)",
    "ssl_keyfile": ".+",
}


def parse_duration(value: object) -> float:
    """Seconds from `250ms`, `5s`, `10m`, `24h`, `7d`, or a plain number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("this is no duration")
        amount, unit = float(match[1]), match[2] or "s"
        seconds = amount / 1000 if unit == "ms" else amount * _SECONDS[unit]
    elif isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  NaN
        raise ValueError("this is no duration")
    else:
        seconds = value
    if abs(seconds) > _LONGEST_SECONDS:
        raise ValueError("this is longer than a century")
    return float(seconds)


def write_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back: 86400.0 is `1d`, 0.25 is `250ms`."""
    for unit, length in _SECONDS.items():
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    if seconds and round(seconds * 1000) / 1000 == seconds:
        return f"{seconds * 1000:.0f}ms"
    return f"{Decimal(repr(seconds)):f}s"  # never an exponent


def parse_lifetime(value: object) -> float | None:
    """A duration, or `none` for ever.

    Raises:
        ValueError: it is neither.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    return parse_duration(value)


def parse_size(value: object) -> int:
    """Bytes from `64MB`, `1.5 GB`, `512kiB`, or a plain number of bytes; whatever the case of the letters.

    Raises:
        ValueError: it is none of these.
    """
    units = {unit.lower(): size for unit, size in _BYTES.items()} | {"b": 1}
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None or match[2].lower() not in units:
        raise ValueError("this is no size")
    return round(Decimal(match[1]) * units[match[2].lower()])


def parse_store(value: object) -> object:
    """`redis`, or the path of a folder."""
    text = str(value).strip()
    if text.lower() == "redis":
        return "redis"
    if "/" not in text:  # a misspelt `redis` must not become a folder
        raise ValueError("this is neither redis nor a path with a slash in it")
    return Path(text)


def parse_list(value: object) -> list[object]:
    """The parts of `a, b`, or the list itself."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, list | tuple) else [value]


def parse_streams(value: object) -> list[object]:
    """Names and globs of streams, each once."""
    names = parse_list(value)
    if not names:
        raise ValueError("no stream is named")
    return [name for i, name in enumerate(names) if name not in names[:i]]


def parse_names(value: object) -> list[object]:
    """Names or globs, each once; none at all will do."""
    names = parse_list(value)
    return [name for i, name in enumerate(names) if name not in names[:i]]


def parse_features(value: object) -> list[object]:
    """Names of fields, each once, one at least."""
    names = parse_names(value)
    if not names:
        raise ValueError("no feature is named")
    if len(names) > FEATURES_MAX:
        raise ValueError(f"{FEATURES_MAX} at most")
    return names


def parse_levels(value: object) -> tuple[float, ...]:
    """Shares in ascending order, from `0.8, 0.95` or a list; nothing from `none`."""
    if value in ("none", "", [], ()):
        return ()
    try:
        levels = sorted({float(str(part)) for part in parse_list(value)})
    except ValueError:
        raise ValueError("this is no list of numbers") from None
    if not all(0 < level < 1 for level in levels):
        raise ValueError("a share lies between 0 and 1")
    if len(levels) > LEVELS_MAX:
        raise ValueError(f"{LEVELS_MAX} at most")
    return tuple(levels)


def parse_season(value: object) -> Season:
    """`auto`, `none`, or the seasons' lengths in seconds."""
    if value in ("auto", "none"):
        return value
    lengths = tuple(parse_duration(part) for part in parse_list(value))
    if not lengths:
        raise ValueError("no length is named")
    if min(lengths) <= 0 or len(set(lengths)) < len(lengths):
        raise ValueError("the lengths have to be positive and different from each other")
    if len(lengths) > 2:
        raise ValueError("two lengths at most")
    return lengths


_UNREADABLE = "its hosts cannot be read: [ ] are for IPv6 addresses (in a password, write signs as %5B %5D and so on)"


def check_redis_url(url: str) -> str:
    """The URL, if the ports can open it.

    Raises:
        ValueError: a part of it is wrong. The message names the part and never quotes it: it may be a password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError("it has no scheme")
    if scheme not in _SCHEMES:
        raise ValueError(
            f"the scheme {scheme}:// is unknown" if re.fullmatch(r"[\w+]+", scheme) else "its scheme is unknown"
        )
    if re.search(r"[\s\x00-\x1f#]", url):
        raise ValueError("it contains a blank or a # (in a password, write these as %20 and %23)")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may quote the password
        raise ValueError(_UNREADABLE) from None
    _check_options(parts.query, scheme)
    if scheme != "unix":
        _check_address(parts)
    elif parts.hostname or len(parts.path) < 2:
        raise ValueError("a socket's path is absolute: three slashes")
    return url


def _check_options(query: str, scheme: str) -> None:
    options = _TLS_OPTIONS if scheme.startswith("rediss") else _URL_OPTIONS
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options:
            raise ValueError(f"{scheme}:// has no such option here, only {', '.join(options)}")
        if not re.fullmatch(options[name], value):
            raise ValueError(f"its option {name} is wrong")


def _check_address(parts: SplitResult) -> None:
    path, needs_master = parts.path, parts.scheme.endswith(SENTINEL)
    for host in split_hosts(parts.geturl())[1]:
        _check_host(parts._replace(netloc=host))
    if needs_master:
        name, path = split_master(path)
        if not name:
            raise ValueError("it names no master: redis+sentinel://HOST1,HOST2/MASTER")
    if not re.fullmatch(r"/?\d*", path):
        raise ValueError("what follows the host is no database number")


def _check_host(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number from 1 to 65535 (in a password, write / : @ as %2F %3A %40)") from None
    if port == 0 or not parts.hostname:
        raise ValueError("it names no host" if not parts.hostname else "its port is no number from 1 to 65535")
    try:
        parts.hostname.encode("idna")  # as `getaddrinfo` does
    except UnicodeError:
        raise ValueError("its host is no name: a part of it is empty, or longer than 63 characters") from None


def password_of_url(url: str | None) -> str | None:
    """The password that the URL carries, if any."""
    return urlsplit(url).password if url else None
