"""The examples of the documentation, and a shell in which `foretick` and `redis-cli` mean the test's own.

A block may be told about on the line above it:

    <!-- not run: REASON -->            what cannot be run here, and why
    <!-- tested: tests/…/test_x.py -->  what another test runs
"""

from __future__ import annotations

import array
import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from forked import _context
from servers import daemon_environment

if TYPE_CHECKING:
    from servers import Server

BLOCK = re.compile(r"^(?:<!-- (.+?) -->\n)?[ ]*```(\w+)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
ENDLESS = {"run", "demo"}  # of which only the settings are read: other tests run them
_CLIENT = """
import array, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(os.environ["COMMANDS"])
    told = chr(0).join([os.getcwd(), *sys.argv[1:]]).encode()
    line.sendmsg([told], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    sys.exit(line.recv(1)[0])
"""


class Block(NamedTuple):
    """A fenced example."""

    language: str
    text: str
    note: str = ""


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's examples in these languages, in order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, note) for note, language, text in found if language in languages]


def _answer(path: str, environment: dict[str, str]) -> None:
    """In a process that has imported everything: each connection is a command, run in a fork of it."""
    os.environ.clear()
    os.environ.update(environment)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            line, _ = listener.accept()
            with line:
                told, control, _, _ = line.recvmsg(65536, socket.CMSG_SPACE(12))
                child = os.fork()
                if child == 0:
                    _command(told.decode().split("\0"), array.array("i", control[0][2]))
                for descriptor in array.array("i", control[0][2]):
                    os.close(descriptor)
                line.send(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))


def _command(told: list[str], descriptors: array.array[int]) -> None:
    status = 70
    try:
        for ours, theirs in enumerate(descriptors):
            os.dup2(theirs, ours)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "rw"[n > 0], closefd=False) for n in range(3))
        os.chdir(told[0])
        from foretick import cli
        from foretick.app import demo, lifecycle

        lifecycle.run = lambda settings, **_: 0
        demo.run = lambda arguments: 0
        arguments = [*told[1:], "--seconds", "0.1"] if told[1:2] == ["watch"] else told[1:]
        status = cli.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


class Shell:
    """A shell on this server, in this folder; the `foretick` in it starts at once.

    Keyword arguments are settings that all its commands share.
    """

    def __init__(self, server: Server, folder: Path, **settings: object) -> None:
        self._server, self._folder = server, folder
        self._path = str(folder / "commands.sock")
        self._environment = daemon_environment(redis__url=server.url, **settings) | {"HOME": str(folder)}
        self._process = _context().Process(target=_answer, args=(self._path, self._environment), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()

    def run(self, text: str) -> str:
        """What a block prints; an AssertionError where one of its commands fails."""
        port = self._server.port
        prelude = (
            "set -eo pipefail\n"
            f'redis-cli() {{ local out; out=$(command redis-cli -p {port} "$@"); echo "$out"; '
            "[[ $out != *ERR* && $out != *WRONG* ]]; }\n"
            f"foretick() {{ while [ ! -S {self._path} ]; do sleep 0.01; done; "
            f"{sys.executable} -ISc '{_CLIENT}' \"$@\"; }}\n"
        )
        done = subprocess.run(
            ["bash", "-c", prelude + text.replace("localhost:6379", f"127.0.0.1:{port}")],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment | {"COMMANDS": self._path},
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout
