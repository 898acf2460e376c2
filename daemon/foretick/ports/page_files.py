"""The files of the page, and what keeps a browser from doing anything else with them than show our own numbers.

All files but the first stand under a name that changes with their contents, so that browsers may keep them for ever.
"""

from __future__ import annotations

import hashlib
import ipaddress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foretick import __version__
from foretick.ports.web import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.ports.web import Request

FOLDER: Final = Path(__file__).parent / "page"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SAFETY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOR_EVER: Final = "public, max-age=31536000, immutable"
_FIRST = "index.html"


class PageFiles:
    """The page as it is installed, read once."""

    def __init__(self) -> None:
        paths = sorted(path for path in FOLDER.iterdir() if path.suffix in TYPES)
        contents = {path.name: path.read_bytes() for path in paths}
        digest = hashlib.blake2b(b"\0".join(contents.values()), digest_size=8).hexdigest()
        first = contents.pop(_FIRST).replace(b"{page}", f"page/{digest}".encode())
        first = first.replace(b"{version}", __version__.encode())
        self._answers = {"/": Answer(first, TYPES[".html"], headers=SAFETY)}
        for name, content in contents.items():
            kept = {**SAFETY, "Cache-Control": FOR_EVER}
            self._answers[f"/page/{digest}/{name}"] = Answer(content, TYPES[Path(name).suffix], headers=kept)

    def answer(self, path: str) -> Answer | None:
        """The file of this path, if there is one."""
        return self._answers.get(path)


def refusal(request: Request, host: str) -> Answer | None:
    """Why a browser should not get the page, where another site's page sent it here; none where it may.

    A site may point a name of its own at 127.0.0.1, and then its scripts may read what we answer. So a daemon that
    listens on loopback answers to addresses and to `localhost`, and to no other name. Of requests that the browser
    itself marks as another site's, none is answered: they could not read the answer, but take up viewers' places.

    Args:
        request: for the page, or its numbers.
        host: what we listen on.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"} and request.path != "/":
        return Answer(b"403 Forbidden: asked by another site\n", status=HTTPStatus.FORBIDDEN)
    asked = _host_of(request.headers.get("Host", ""))
    if _is_loopback(host) and not (_is_address(asked) or asked == "localhost" or asked.endswith(".localhost")):
        text = "421 Misdirected Request: this daemon listens on loopback, and answers to localhost and addresses only\n"
        return Answer(text.encode(), status=HTTPStatus.MISDIRECTED_REQUEST)
    return None


def _host_of(header: str) -> str:
    """The host without its port."""
    host, colon, port = header.strip().lower().rpartition(":")
    return (host if colon and port.isdecimal() else header.strip().lower()).strip("[]")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
