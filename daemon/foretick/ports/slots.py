"""Redis Cluster's slots: where a key lies, and which node has what."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretick.ports.address import Node

SLOTS = 16384
UNKNOWN_HOST = "?"  # a node that is to be named by a hostname and has none


def tag_of(key: bytes) -> bytes | None:
    """The key's hash tag: what stands between the first `{` and the next `}`, if not empty."""
    opening = key.find(b"{")
    closing = key.find(b"}", opening + 1)
    if opening < 0 or closing < 0:
        return None
    return key[opening + 1 : closing] or None


def slot_of(key: bytes) -> int:
    """The slot of a key: CRC-16 (XMODEM) of its tag, or of all of it."""
    return binascii.crc_hqx(tag_of(key) or key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring slots and the master that has them."""

    first: int
    last: int
    owner: Node


def read_slots(reply: list[Any], asked: Node) -> tuple[Span, ...]:
    """The answer to CLUSTER SLOTS, in the order of the slots.

    Args:
        reply: as it came.
        asked: the node that gave it; the host of those that do not know their own.
    """
    spans = []
    for first, last, (host, port, *_), *_ in reply:
        name = (host or b"").decode()
        if name != UNKNOWN_HOST:
            spans.append(Span(first, last, (name or asked[0], port or asked[1])))
    return tuple(sorted(spans, key=lambda span: span.first))


def owner_of(slot: int, spans: tuple[Span, ...]) -> Node | None:
    """Who has a slot; none where nobody does."""
    return next((span.owner for span in spans if span.first <= slot <= span.last), None)
