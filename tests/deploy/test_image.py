"""The image, built by buildah on a Debian made here and run by runc, as Docker would: `make image-test`."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from foretick.ports.embedded import free_port
from machines import BUILD, MAKE_SECONDS, debian, run, wheels
from servers import REPOSITORY, wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]

NAME = "localhost/foretick:test"
BASE = "localhost/debian:bookworm-slim"
BUILDAH = ("buildah", "--storage-driver", "vfs")
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def image():
    """The image's configuration and a mounted copy of its files."""
    base = debian("base")
    if not run(*BUILDAH, "images", "--quiet", "--filter", f"reference={BASE}").strip():
        made = run(*BUILDAH, "from", "scratch").strip()
        run(*BUILDAH, "add", made, base, "/", seconds=MAKE_SECONDS)
        run(*BUILDAH, "commit", "--rm", made, BASE, seconds=MAKE_SECONDS)
    folder = wheels()
    arguments = {"BASE": BASE, "PIP_EXTRA_INDEX_URL": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    build = ("bud", "--isolation", "chroot", "--format", "docker", *given)  # no --layers: vfs copies each one whole
    run(*BUILDAH, *build, "--volume", f"{folder}:/wheels:ro", "--tag", NAME, REPOSITORY, seconds=MAKE_SECONDS)
    config = json.loads(run(*BUILDAH, "inspect", "--type", "image", NAME))["Docker"]["config"]
    container = run(*BUILDAH, "from", NAME).strip()
    try:
        yield config, Path(run(*BUILDAH, "mount", container).strip())
    finally:
        run(*BUILDAH, "rm", container)


class Container:
    """The image as Docker runs it with --read-only --cap-drop=ALL --security-opt=no-new-privileges --network=host."""

    def __init__(self, image, *arguments, **settings):
        config, root = image
        uid, gid = (int(part) for part in config["User"].split(":"))
        environment = [*config["Env"], *(f"FORETICK_{name.upper()}={value}" for name, value in settings.items())]
        self.name = f"foretick-test-{free_port()}"
        self.bundle = BUILD / self.name
        self.bundle.mkdir(parents=True)
        proc = {"destination": "/proc", "type": "proc", "source": "proc"}
        dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
        spec = {
            "ociVersion": "1.0.0",
            "root": {"path": str(root), "readonly": True},
            "process": {
                "user": {"uid": uid, "gid": gid},
                "cwd": config["WorkingDir"],
                "noNewPrivileges": True,
                "capabilities": {},
                "args": [*config["Entrypoint"], *(arguments or config["Cmd"])],
                "env": environment,
            },
            "mounts": [proc, dev],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }
        (self.bundle / "config.json").write_text(json.dumps(spec))
        with (self.bundle / "output").open("wb") as output:
            command = ["runc", "run", "--bundle", str(self.bundle), self.name]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def ask(self, *command, environment=()):
        """Exit status and words of a command inside."""
        given = [part for pair in environment for part in ("--env", pair)]
        done = subprocess.run(
            ["runc", "exec", *given, self.name, *command], check=False, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    def stop(self):
        """As `docker stop`; the exit status."""
        run("runc", "kill", self.name, "TERM")
        return self.process.wait(30)

    def output(self):
        return (self.bundle / "output").read_text(errors="replace")

    def discard(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        subprocess.run(["runc", "delete", "--force", self.name], check=False, capture_output=True)
        shutil.rmtree(self.bundle)


@pytest.fixture
def container(image):
    with contextlib.ExitStack() as stack:

        def start(*arguments, **settings):
            made = Container(image, *arguments, **settings)
            stack.callback(made.discard)
            return made

        yield start


def ready(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
        return reply.status == 200
    return False


def test_it_forecasts_read_only_without_rights_and_stops_clean(image, container, redis_server):
    port = free_port()
    daemon = container(redis__url=redis_server.url, http__port=port)
    wait_until(lambda: ready(port) or daemon.process.poll() is not None, 90, "readiness")
    assert daemon.process.poll() is None, daemon.output()
    client = redis_server.client()
    for number in range(200):
        client.xadd("ticks", {"series": f"s{number % 5}", "value": number})
    wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 200, 60, "the forecasts")
    assert daemon.ask("id", "-u") == (0, "65532\n")
    assert daemon.ask("touch", "/opt/foretick/x")[0] != 0
    health = image[0]["Healthcheck"]["Test"]
    assert health[0] == "CMD"
    assert daemon.ask(*health[1:], environment=[f"FORETICK_HTTP__PORT={port}"]) == (0, "")
    assert daemon.ask(*health[1:], environment=[f"FORETICK_HTTP__PORT={free_port()}"])[0] == 1
    assert daemon.stop() == 0


def test_wrong_settings_are_told_with_status_2(container):
    daemon = container(redis__ulr="redis://nowhere")
    assert daemon.process.wait(60) == 2
    assert "FORETICK_REDIS__URL" in daemon.output()


def test_it_holds_nothing_that_only_a_build_needs(image):
    config, root = image
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    packages = next((root / "opt/foretick/lib").glob("python3*")) / "site-packages"
    for name in ("pip", "setuptools", "torch/include", "torch/test"):
        assert not (packages / name).exists(), name
    ours = sum(file.lstat().st_size for file in (root / "opt/foretick").rglob("*"))
    print(f"/opt/foretick: {ours / MEGABYTE:.0f} MB")
    assert ours < 800 * MEGABYTE


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).parent / "hadolint"
    tool = shutil.which("hadolint") or (str(hadolint) if hadolint.exists() else "")
    if not tool:
        pytest.skip("hadolint is missing: make image-test brings it")
    run(*shlex.split(tool), REPOSITORY / "Dockerfile")


def test_compose_accepts_its_file(tmp_path):
    compose = shutil.which("docker-compose")
    if not compose:
        pytest.skip("docker-compose is missing (Debian: docker-compose, 1.29)")
    source = (REPOSITORY / "deploy/compose.yaml").read_text()
    copy = tmp_path / "compose.yaml"
    copy.write_text(source.replace("name: foretick\n\n", "", 1))  # the project's name came after 1.29
    run(compose, "--file", copy, "config", "--quiet")
