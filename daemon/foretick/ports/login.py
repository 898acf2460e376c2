"""As whom we come to Redis, and whom we trust there; what a failed TLS handshake means."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from foretick.errors import ServerRefused, UsageError
from foretick.ports.replies import TLS


@dataclass(frozen=True, slots=True)
class Login:
    """As whom we come, and whom we trust; nothing of it is ever shown.

    Attributes:
        user: of the ACL; takes the place of the URL's.
        password: likewise.
        sentinel_user: for Sentinels that ask for one; they have users of their own.
        sentinel_password: likewise.
        ca: file of the certificates that may have signed the server's.
        cert: file of our certificate, where the server asks for one.
        key: file of its private key.
    """

    user: str | None = None
    password: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return "Login(…)"

    def tls_files(self, *, is_tls: bool) -> dict[str, str]:
        """The files as redis-py wants them; each is looked at once, so that a wrong one is told by its setting's name.

        They are read again for every connection, so a certificate can be renewed while we run.

        Raises:
            UsageError: one cannot be used.
        """
        given = {"redis.ca": self.ca, "redis.cert": self.cert, "redis.key": self.key}
        needless = next((name for name, path in given.items() if path), None)
        if needless is None:
            return {}
        if not is_tls:
            raise UsageError(f"{needless} needs TLS: write rediss:// (or rediss+sentinel://) in redis.url")
        if self.key and not self.cert:
            raise UsageError("redis.key needs redis.cert, the certificate that it belongs to")
        for name, path in given.items():
            _check_readable(name, path)
        _check_pair(self)
        # The key may stand in the certificate's file.
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {name: path for name, path in files.items() if path}


def _check_readable(name: str, path: str | None) -> None:
    try:
        if path:
            with open(path, "rb"):  # noqa: PTH123  nothing but this is asked of it
                pass
    except OSError as error:
        raise UsageError(f"{name}: {path} cannot be read: {error.strerror}") from error


def _check_pair(login: Login) -> None:
    context = ssl.create_default_context()
    try:
        if login.ca:
            context.load_verify_locations(login.ca)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"redis.ca: {login.ca} holds no certificates in PEM") from error
    try:
        if login.cert:
            context.load_cert_chain(login.cert, login.key, password="")
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"redis.cert, redis.key: {login.cert} and {login.key or login.cert} are no certificate and its key "
            "in PEM, without a passphrase"
        ) from error


def tls_error(error: BaseException | None) -> ServerRefused | None:
    """A refusal, if what went wrong is that the two sides do not accept each other; none for a lost connection."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerRefused(TLS, f"its certificate is not accepted: {error.verify_message}")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            reason = (error.reason or str(error)).lower().replace("_", " ")
            return ServerRefused(TLS, f"the TLS handshake failed: {reason}")
        error = error.__cause__ or error.__context__
    return None
