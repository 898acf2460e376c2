"""Where settings come from: the file, systemd credentials, the environment, the command line.

Each source yields `{dotted name: Given}` and adds one line to `problems` for each thing in it that is no setting.
Values are not judged here: that is the model's part.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from foretick.app.settings import Setting, variable_of
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT_FILES = (Path("foretick.toml"), Path("/etc/foretick/foretick.toml"))
SECRET_FILE_SUFFIX = "_file"  # noqa: S105  redis.password_file names the file that holds redis.password
SECRET_BYTES_MAX = 65536  # a mistaken path to something large must not be read whole

_PREFIX = "FORETICK_"
_OURS = "FORETICK_TEST_"  # the test suite's own variables
_SERVICE_LINKS = (  # variables that Kubernetes sets for a service whose name begins with foretick: (name, value)
    (re.compile(r"(?:\w+_)?SERVICE_HOST"), re.compile(r"[0-9a-fA-F.:]+")),
    (re.compile(r"(?:\w+_)?SERVICE_PORT(?:_\w+)?"), re.compile(r"\d+")),
    (re.compile(r"(?:\w+_)?PORT"), re.compile(r"(?:tcp|udp|sctp)://.*")),
    (re.compile(r"(?:\w+_)?PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"), re.compile(r".*")),
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stood.

    Attributes:
        kind: which source.
        where: the file's path, the variable's name, or the flag.
    """

    kind: Literal["default", "file", "credential", "environment", "flag"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".rstrip()


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting on the command line.

    Attributes:
        name: dotted name, as the user wrote it for `--set`.
        text: the flag itself, for messages.
    """

    name: str
    value: Any
    text: str


Catalogue: TypeAlias = "Mapping[str, Setting]"
Layer: TypeAlias = dict[str, Given]


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """The valid spelling that was probably meant."""
    letters = {re.sub(r"[._-]", "", choice).lower(): choice for choice in choices}
    bare = re.sub(r"[._-]", "", word).lower()
    if bare in letters:
        return letters[bare]
    tails = [choice for choice in choices if re.split(r"\.|__", choice)[-1] == re.split(r"\.|__", word)[-1]]
    close = difflib.get_close_matches(bare, letters, n=1, cutoff=0.7)
    return letters[close[0]] if close else tails[0] if len(tails) == 1 else None


def _unknown(word: str, origin: Origin, choices: Sequence[str], separator: str) -> str:
    members = [choice for choice in choices if choice.startswith(word + separator)]
    if members:
        return f"{word} ({origin}) is a group of settings: write one of {', '.join(members)}"
    found = nearest(word, choices)
    advice = f"did you mean {found}?" if found else "`foretick check` lists every setting"
    return f"{word} ({origin}) is no setting: {advice}"


def _spellings(catalogue: Catalogue) -> list[str]:
    return [
        spelling
        for name, setting in catalogue.items()
        for spelling in ((name, name + SECRET_FILE_SUFFIX) if setting.is_secret else (name,))
    ]


def _flatten(table: Mapping[str, Any], catalogue: Catalogue, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        setting = catalogue.get(prefix + key)
        if isinstance(value, dict) and value and not (setting and setting.is_table):
            yield from _flatten(value, catalogue, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_table(path: Path) -> dict[str, Any]:
    """The TOML file's contents.

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: byte {error.start} is wrong") from error
    except (ValueError, RecursionError) as error:  # beside TOMLDecodeError: numbers and nestings without end
        raise UsageError(f"{path} is no TOML: {error}") from error


def from_file(config: Path | None, catalogue: Catalogue, problems: list[str]) -> Layer:
    """The settings of `config`, or of the first default file that is there."""
    for path in (config,) if config else DEFAULT_FILES:
        try:
            table = read_table(path)
        except FileNotFoundError:
            continue
        origin = Origin("file", str(path))
        spellings = _spellings(catalogue)
        layer: Layer = {}
        for name, value in _flatten(table, catalogue):
            is_empty_group = value == {} and any(spelling.startswith(name + ".") for spelling in spellings)
            if name in spellings:
                layer[name] = Given(value, origin)
            elif not is_empty_group:
                problems.append(_unknown(name, origin, spellings, "."))
        return _with_secrets(layer, catalogue, problems)
    if config:
        raise UsageError(f"{config} (--config) does not exist")
    return {}


def from_credentials(environ: Mapping[str, str], catalogue: Catalogue, problems: list[str]) -> Layer:
    """Secrets that systemd passes as files: `LoadCredential=redis-password:…` becomes redis.password."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return {}
    layer: Layer = {}
    for name, setting in catalogue.items():
        path = Path(folder, name.replace(".", "-"))
        if setting.is_secret and path.exists():
            layer[name + SECRET_FILE_SUFFIX] = Given(str(path), Origin("credential", path.name))
    return _with_secrets(layer, catalogue, problems)


def _is_service_link(rest: str, value: str) -> bool:
    return any(name.fullmatch(rest) and shape.fullmatch(value) for name, shape in _SERVICE_LINKS)


def from_environment(environ: Mapping[str, str], catalogue: Catalogue, problems: list[str]) -> Layer:
    """The `FORETICK_…` variables; one that is no setting is a problem, except the tests' and Kubernetes' own."""
    variables = {variable_of(spelling): spelling for spelling in _spellings(catalogue)}
    layer: Layer = {}
    for variable, value in sorted(environ.items()):
        if not variable.upper().startswith(_PREFIX) or variable.startswith(_OURS):
            continue
        origin = Origin("environment", variable)
        if variable in variables:
            layer[variables[variable]] = Given(value, origin)
        elif not _is_service_link(variable.removeprefix(_PREFIX), value):
            problems.append(_unknown(variable, Origin("environment"), list(variables), "__"))
    return _with_secrets(layer, catalogue, problems)


def from_flags(flags: Sequence[Flag], catalogue: Catalogue, problems: list[str]) -> Layer:
    """The command line; a later flag wins over an earlier one, except that each `--stream` adds a stream."""
    spellings = _spellings(catalogue)
    layer: Layer = {}
    streams = [flag.value for flag in flags if flag.text == "--stream"]
    for flag in flags:
        origin = Origin("flag", flag.text)
        if flag.name not in spellings:
            problems.append(_unknown(flag.name, origin, spellings, "."))
        elif flag.name in catalogue and catalogue[flag.name].is_secret:
            better = flag.name + SECRET_FILE_SUFFIX
            problems.append(
                f"{flag.name} ({origin}) would show the secret to everyone on this machine: "
                f"use {better}, or {variable_of(better)}"
            )
        else:
            layer[flag.name] = Given(streams if flag.text == "--stream" else flag.value, origin)
    return _with_secrets(layer, catalogue, problems)


def _with_secrets(layer: Layer, catalogue: Catalogue, problems: list[str]) -> Layer:
    """The layer with each `…_file` of a secret replaced by what is in that file."""
    for name, setting in catalogue.items():
        pointer = layer.pop(name + SECRET_FILE_SUFFIX, None) if setting.is_secret else None
        if pointer is None:
            continue
        if name in layer:
            problems.append(
                f"{name} ({layer[name].origin}) and {name}{SECRET_FILE_SUFFIX} ({pointer.origin}) "
                "exclude each other: drop one"
            )
            continue
        secret = _read_secret(f"{name}{SECRET_FILE_SUFFIX}", pointer, problems)
        if secret is not None:
            layer[name] = Given(secret, pointer.origin)
    return layer


def _read_secret(name: str, pointer: Given, problems: list[str]) -> str | None:
    if not isinstance(pointer.value, str):
        problems.append(f"{name} ({pointer.origin}) is no path: write the path of a file")
        return None
    try:
        with Path(pointer.value).expanduser().open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        problems.append(f"{name} ({pointer.origin}): {pointer.value} cannot be read: {reason}")
        return None
    if not secret or len(content) > SECRET_BYTES_MAX:
        problems.append(f"{name} ({pointer.origin}): {pointer.value} is {'too long' if secret else 'empty'}")
        return None
    return secret
