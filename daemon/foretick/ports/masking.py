"""Passwords taken out of what people and log collectors read."""

from __future__ import annotations

import re

MASK = "***"

# Greedy up to the last @ before a blank: a password with an unescaped / or @ in it must not show its tail.
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*):\S*@")
_QUERY_PASSWORD = re.compile(r"([?&][^\s=&]*pass[^\s=&]*=)[^\s&]*", re.IGNORECASE)


def mask_passwords(text: str) -> str:
    """The text with the password of every URL in it replaced by `***`; the user's name stays."""
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))


def mask_url(url: str) -> str:
    """What was written as a URL, safe to show even where it is none: `user:pw@host` loses all before the `@`."""
    masked = mask_passwords(url)
    return masked if "://" in masked else re.sub(r"^.*@", f"{MASK}@", masked, flags=re.DOTALL)
