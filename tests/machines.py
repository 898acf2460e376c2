"""A small Debian that boots under systemd-nspawn: systemd as its first process, Redis, and foretick in /opt/foretick.

It is made once, under build/deploy (needs root, Debian's debootstrap and systemd-container, and the registries), and
booted each time on top of an overlay in memory, so that nothing of one run is left for the next.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import REPOSITORY, wait_until

BUILD = REPOSITORY / "build" / "deploy"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,redis-server,redis-tools,procps,curl"
EXTRAS = "embedded,demo"
MAKE_SECONDS = 1800.0
COMMAND_SECONDS = 120.0


def run(*command: str | Path, seconds: float = COMMAND_SECONDS, given: str | None = None) -> str:
    """What the command prints; an AssertionError with its words when it fails."""
    done = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, timeout=seconds, input=given
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def wheels() -> Path:
    """A folder with the wheels of foretick, as it stands, and of all that it needs on Debian's Python."""
    folder = BUILD / "wheels"
    stamp = folder / ".made-from"
    wanted = hashlib.sha256(
        b"".join((REPOSITORY / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    ).hexdigest()
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--constraint", REPOSITORY / "constraints.txt")
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        # async-timeout: redis-py wants it on a Python before 3.11.3, which Debian 12 has and we may not.
        needed = (f"{REPOSITORY}[{EXTRAS}]", "hatchling", "async-timeout")
        run(*pip, "--wheel-dir", folder, *needed, seconds=MAKE_SECONDS)
        stamp.write_text(wanted)
    for old in folder.glob("foretick-*.whl"):
        old.unlink()
    run(*pip, "--wheel-dir", folder, "--no-deps", REPOSITORY, seconds=MAKE_SECONDS)
    return folder


def debian(name: str, packages: str = "") -> Path:
    """The root folder of a Debian 12 with these packages, made on the first call."""
    root = BUILD / name
    stamp = BUILD / f"{name}.made-from"
    if not stamp.exists() or stamp.read_text() != packages:
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        include = [f"--include={packages}"] if packages else []
        run("debootstrap", "--variant=minbase", *include, "bookworm", root, seconds=MAKE_SECONDS)
        stamp.write_text(packages)
    return root


def machine_root() -> Path:
    """The machine's root folder: foretick installed as docs/deploy.md says, the units of this tree in place."""
    root, wheelhouse = debian("root", PACKAGES), wheels()
    installed = root / "opt/foretick/.made-from"
    wanted = (wheelhouse / ".made-from").read_text()
    options = "--force-reinstall --no-deps"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(root / "opt/foretick", ignore_errors=True)
        options = ""
    install = (
        "test -x /opt/foretick/bin/python3 || python3 -m venv /opt/foretick; /opt/foretick/bin/pip install --quiet "
        f"--no-index --find-links /wheels {options} 'foretick[{EXTRAS}]'"
    )
    nspawn = ("systemd-nspawn", "--quiet", f"--directory={root}", "--register=no", "--keep-unit", "--pipe")
    run(*nspawn, f"--bind-ro={wheelhouse}:/wheels", "sh", "-c", install, seconds=MAKE_SECONDS)
    installed.write_text(wanted)
    for unit in (REPOSITORY / "deploy/systemd").glob("*.service"):
        shutil.copy(unit, root / "etc/systemd/system")
    return root


class Machine:
    """The machine, running: `machine("systemctl", "start", "foretick")` runs a command in it, as root."""

    def __init__(self) -> None:
        root = machine_root()
        self.console = Path(tempfile.mkdtemp(prefix="foretick-machine-")) / "console"
        with self.console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--volatile=overlay"),
                    *("--register=no", "--keep-unit", f"--machine=foretick-{os.getpid()}", "--private-network"),
                    "--console=read-only",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        wait_until(self._leader, 30, "the machine's first process")
        wait_until(lambda: self.ask("systemctl", "is-system-running") == "running", 60, "the machine's start")

    def _leader(self) -> str:
        assert self._nspawn.poll() is None, self.console.read_text(errors="replace")
        return Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().strip()

    def __call__(self, *command: str, given: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
        return run(*self._inside(), *command, given=given, seconds=seconds).strip()

    def ask(self, *command: str) -> str:
        """What a command prints, whatever its status."""
        done = subprocess.run(
            [*self._inside(), *command], check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        return done.stdout.strip()

    def _inside(self) -> list[str]:
        return ["nsenter", "--target", self._leader(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]

    def write(self, path: str, text: str) -> None:
        """Make a file in the machine, readable by all."""
        self("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", given=text)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd knows it."""
        return self("systemctl", "show", unit, f"--property={name}", "--value")

    def close(self) -> None:
        """Switch it off."""
        self._nspawn.terminate()
        self._nspawn.wait(30)
        shutil.rmtree(self.console.parent)
