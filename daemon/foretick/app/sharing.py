"""Who should own which partition: the decision of one daemon, from nothing but what it sees.

Every daemon decides for itself, and all that see the same decide alike: with P partitions and M daemons, P mod M of
them have one more than the others, and these are the ones that have most already, so that nothing moves without need.
Where two see different things for a moment, the leases keep them apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from foretick.ports.registry import RollCall


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do now.

    Attributes:
        give: partitions to give up.
        take: partitions to take.
        is_waiting: our share is larger than what we have or can take, so somebody is about to give.
    """

    give: tuple[bytes, ...]
    take: tuple[bytes, ...]
    is_waiting: bool


def decide(
    partitions: Collection[bytes],
    roll: RollCall,
    me: str,
    mine: Sequence[bytes],
    abandoned: Collection[bytes] = frozenset(),
    shunned: Collection[bytes] = frozenset(),
) -> Moves:
    """What this daemon should do.

    Args:
        partitions: all that have a stream.
        roll: who is alive and who owns what.
        me: our owner id.
        mine: the partitions that we own or are about to, the longest owned first.
        abandoned: those that nobody has owned for a while. Whoever's share they are is alive and yet does not take
            them, so anybody may.
        shunned: those that we should not take for now.
    """
    gone = [partition for partition in mine if partition not in partitions or roll.owners.get(partition, me) != me]
    kept = [partition for partition in mine if partition not in gone]
    quota = _quotas(len(partitions), roll, me, len(kept))[me]
    unowned = [partition for partition in partitions if partition not in roll.owners and partition not in mine]
    free = [partition for partition in unowned if partition not in shunned]
    free.sort(key=lambda partition: _preference(me, partition))
    room = max(quota - len(kept), 0)
    take = free[:room] + [partition for partition in free[room:] if partition in abandoned]
    return Moves(
        give=(*gone, *kept[quota:]), take=tuple(take), is_waiting=len(kept) + len(take) < min(quota, len(partitions))
    )


def _quotas(partitions_count: int, roll: RollCall, me: str, kept_count: int) -> dict[str, int]:
    """How many partitions each daemon should have."""
    held = Counter(owner for owner in roll.owners.values() if owner != me)
    held[me] = kept_count
    ranked = sorted(roll.members, key=lambda member: (-held[member], member))
    least, more = divmod(partitions_count, len(ranked))
    return {member: least + (rank < more) for rank, member in enumerate(ranked)}


def _preference(me: str, partition: bytes) -> bytes:
    """An order of its own for each daemon, so that they rarely try for the same free partition."""
    return hashlib.blake2b(partition, key=me.encode()[-64:]).digest()
