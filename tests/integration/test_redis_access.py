"""As whom we come and whom we trust: sockets, passwords, users, TLS in both directions; and what is refused how."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from deployed import Certificates
from foretick.errors import ConnectionLost, ServerRefused, UsageError
from foretick.ports.connection import RedisConnection
from foretick.ports.login import Login
from foretick.ports.replies import TLS
from foretick.ports.route import Route
from forked import ForkedDaemon
from servers import Server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.redis
SECRET = "hunter2-and-more"


class Deployed:
    """A server with TLS, a password and a socket beside its plain port."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder)
        self.certificates.sign("server")
        self.certificates.sign("client")
        self.certificates.sign("expired", days=-1)
        self.certificates.sign("elsewhere", names="DNS:elsewhere.example")
        self.socket = str(folder / "redis.sock")
        self.tls_port = free_port()
        path = self.certificates.path
        self.server = Server(
            "redis",
            requirepass=SECRET,
            unixsocket=self.socket,
            tls_port=str(self.tls_port),
            tls_ca_cert_file=path("ca.crt"),
            tls_cert_file=path("server.crt"),
            tls_key_file=path("server.key"),
        )

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.tls_port}"

    def login(self, **changed: Any) -> Login:
        path = self.certificates.path
        files = {"ca": path("ca.crt"), "cert": path("client.crt"), "key": path("client.key")}
        return Login(**{"password": SECRET, **files, **changed})

    def show(self, name: str) -> None:
        """From now on the server has this certificate."""
        path = self.certificates.path
        with contextlib.closing(self.server.client(password=SECRET)) as client:
            client.execute_command(
                "CONFIG", "SET", "tls-cert-file", path(f"{name}.crt"), "tls-key-file", path(f"{name}.key")
            )


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(tmp_path_factory.mktemp("deployed"))
    try:
        made.server.start()
        yield made
    finally:
        made.server.discard()


def opened(url: str, login: Login) -> Any:
    """The answer to a PING."""
    with contextlib.closing(RedisConnection(Route(url, login), timeout_seconds=5)) as connection:
        connection.open()
        return connection.call("PING")


def refusal(url: str, login: Login) -> ServerRefused:
    """Why we are not let in. A server that hangs up on our certificate may be faster than its own word about it."""
    for _ in range(50):
        try:
            opened(url, login)
        except ServerRefused as error:
            return error
        except ConnectionLost:
            continue
    raise AssertionError("never told")


def test_mutual_tls_a_password_and_a_socket_let_us_in(deployed: Deployed) -> None:
    assert opened(deployed.url, deployed.login()) == b"PONG"
    assert opened(f"rediss://:{SECRET}@localhost:{deployed.tls_port}", deployed.login(password=None)) == b"PONG"
    assert opened(f"unix://{deployed.socket}?db=1", Login(password=SECRET)) == b"PONG"


def test_whoever_is_not_trusted_is_refused_in_one_line_without_a_secret(deployed: Deployed, tmp_path: Path) -> None:
    other = Certificates(tmp_path)
    other.sign("client")
    cases = [
        (deployed.login(ca=other.path("ca.crt")), TLS, "its certificate is not accepted: "),
        (deployed.login(ca=None), TLS, "its certificate is not accepted: "),
        (deployed.login(cert=other.path("client.crt"), key=other.path("client.key")), TLS, "unknown ca"),
        (deployed.login(cert=None, key=None), TLS, "certificate required"),
        (deployed.login(password="wrong"), "NOAUTH", "invalid username-password"),
        (deployed.login(password=None), "NOAUTH", "uthentication required"),
        (deployed.login(user="nobody"), "NOAUTH", "invalid username-password"),
    ]
    for login, word, why in cases:
        error = refusal(deployed.url, login)
        assert error.word == word
        assert why in str(error)
        assert SECRET not in str(error)
        assert "\n" not in str(error)
        assert SECRET not in repr(login)


@pytest.mark.parametrize(("shown", "why"), [("expired", "has expired"), ("elsewhere", "IP address mismatch")])
def test_a_certificate_that_is_not_the_servers_is_refused(deployed: Deployed, shown: str, why: str) -> None:
    deployed.show(shown)
    try:
        with pytest.raises(ServerRefused, match=why) as caught:
            opened(deployed.url, deployed.login())
        assert caught.value.word == TLS
    finally:
        deployed.show("server")
    assert opened(deployed.url, deployed.login()) == b"PONG"


def test_without_tls_where_it_is_asked_for_nobody_answers(deployed: Deployed) -> None:
    with pytest.raises(ConnectionLost):
        opened(f"redis://127.0.0.1:{deployed.tls_port}", Login(password=SECRET))


def test_files_that_cannot_be_used_are_named(deployed: Deployed, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    for changed, why in [
        ({"ca": str(tmp_path / "absent")}, "redis.ca: .*/absent cannot be read: No such file"),
        ({"ca": str(junk)}, "redis.ca: .*junk.pem holds no certificates"),
        ({"cert": str(junk)}, "redis.cert, redis.key: .*are no certificate and its key"),
        ({"cert": None}, "redis.key needs redis.cert"),
    ]:
        with pytest.raises(UsageError, match=why):
            Route(deployed.url, deployed.login(**changed))
    with pytest.raises(UsageError, match=r"redis.ca needs TLS: write rediss://"):
        Route("redis://127.0.0.1", deployed.login())


def settings_of(deployed: Deployed, **changed: Any) -> dict[str, Any]:
    path = deployed.certificates.path
    files = {"ca": path("ca.crt"), "cert": path("client.crt"), "key": path("client.key")}
    return {f"redis__{name}": value for name, value in {**files, "password_file": path("password"), **changed}.items()}


def test_a_daemon_runs_over_mutual_tls_and_takes_a_new_certificate_of_the_server(deployed: Deployed) -> None:
    (deployed.certificates.folder / "password").write_text(SECRET)
    client = deployed.server.client(password=SECRET)
    daemon = ForkedDaemon(deployed.url, **settings_of(deployed))
    try:
        daemon.start()
        client.xadd("ticks", {"value": 1})
        wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 1, what="a forecast")
        deployed.show("expired")
        client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: "has expired" in daemon.get("/readyz")[1], 20, "the refusal")
        deployed.show("server")
        client.xadd("ticks", {"value": 2})
        wait_until(lambda: client.xlen("foretick:{ticks}:forecasts") == 2, 20, "the second forecast")
        assert daemon.terminate(20) == 0
        assert SECRET not in daemon.output()
    finally:
        daemon.discard()
        deployed.show("server")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"password_file": "wrong"}, "Redis does not let us in: invalid username-password pair"),
        ({"ca": "client.crt"}, "Redis does not let us in: its certificate is not accepted: "),
        ({"cert": "", "key": ""}, "Redis does not let us in: the TLS handshake failed: "),
    ],
)
def test_a_start_that_cannot_succeed_ends_at_once_with_one_line_and_status_3(
    deployed: Deployed, changed: dict[str, str], why: str
) -> None:
    (deployed.certificates.folder / "password").write_text(SECRET)
    (deployed.certificates.folder / "wrong").write_text(SECRET[::-1])
    paths = {name: deployed.certificates.path(value) if value else None for name, value in changed.items()}
    settings = {name: value for name, value in settings_of(deployed, **paths).items() if value}
    daemon = ForkedDaemon(deployed.url, **settings)
    try:
        begun = time.monotonic()
        assert daemon.start(ready=False).wait(20) == 3
        assert time.monotonic() - begun < 15  # and not the minute of redis.connect_deadline
        lines = [line for line in daemon.output().splitlines() if "does not let us in" in line]
        assert len(lines) == 1
        assert why in lines[0]
        assert SECRET not in daemon.output()
        assert SECRET[::-1] not in daemon.output()
    finally:
        daemon.discard()
