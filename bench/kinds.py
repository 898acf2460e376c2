"""The consumers that are measured: foretick, and its peers."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from foretick.app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
LARGEST_READ_TICKS = int(Settings.model_fields["batch"].default)  # of foretick in a backlog; its peers get the same


@dataclass(frozen=True, slots=True)
class Kind:
    """A consumer under measurement: how it is started, and where its forecasts go.

    Attributes:
        name: in the tables.
        command: of the server's URL, the stream and a free port for HTTP; none where it cannot be had here.
        output: key of its forecasts, with the stream's in the place of `{}`.
        tells_stages: whether its metrics say how long each stage of a turn took.
    """

    name: str
    command: Callable[[str, str, int], list[str]] | None
    output: str = "echo:{}"
    tells_stages: bool = False

    def output_of(self, stream: str) -> str:
        return self.output.format(stream)


def foretick(name: str, *arguments: str, profile: str = "lean") -> Kind:
    """The daemon with its defaults but for these arguments."""

    def command(url: str, stream: str, http_port: int) -> list[str]:
        base = ["-m", "foretick", "run", "--redis-url", url, "--stream", stream, "--http-port", str(http_port)]
        chosen = ["--set", f"profile={profile}", "--log-level", "warning"]
        return [sys.executable, *base, *chosen, *arguments]

    return Kind(name, command, "foretick:{}:forecasts", tells_stages=True)  # every stream here has a {tag}


def off(profile: str = "lean", *arguments: str) -> Kind:
    return foretick(f"foretick {profile}, learning off", "--set", "learn.enabled=false", *arguments, profile=profile)


def on(profile: str = "lean", *arguments: str) -> Kind:
    return foretick(f"foretick {profile}, learning on", *arguments, profile=profile)


def echo() -> Kind:
    """The loop that one would write by hand."""

    def command(url: str, stream: str, _port: int) -> list[str]:
        return [sys.executable, str(HERE / "echo.py"), url, stream, f"echo:{stream}", str(LARGEST_READ_TICKS)]

    return Kind("redis-py echo", command)


def floor(n_series: int) -> Kind:
    """The echo in C, if there is a compiler."""
    binary = _built_floor()
    if binary is None:
        return Kind("C floor (no compiler here: apt-get install gcc)", None)

    def command(url: str, stream: str, _port: int) -> list[str]:
        keys = [f"echo:{stream}", f"echo:{stream}:latest", f"echo:{stream}:lease"]
        return [str(binary), url.rpartition(":")[2], stream, *keys, str(n_series), str(LARGEST_READ_TICKS)]

    return Kind("C floor", command)


@cache
def _built_floor() -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    binary = Path(tempfile.gettempdir()) / f"foretick-floor-{os.getpid()}"
    subprocess.run([compiler, "-O2", "-o", str(binary), str(HERE / "floor.c")], check=True)
    atexit.register(binary.unlink)
    return binary


def deep_river(count: int) -> Kind:
    """The echo with an LSTM of deep-river for each series, if that is installed; it reads `count` ticks at a time."""
    python = HERE.parent / ".venv-bench" / "bin" / "python"
    if not python.exists():
        return Kind("deep-river (not installed: make .venv-bench/.installed)", None)

    def command(url: str, stream: str, _port: int) -> list[str]:
        return [str(python), str(HERE / "echo.py"), url, stream, f"echo:{stream}", str(count), "deep"]

    return Kind("deep-river LSTMForecaster", command)


ECHO = echo()
OFF, ON = off(), on()
