"""The daemon's main thread: finds streams, shares their partitions with other daemons, and looks after its own.

    every half second          say that we are alive; see who else is, and who owns what
    every five seconds         look for streams that came or went
    a partition too many       end its tenure: finish the turn, commit, release; its next owner waits for that
    a partition too few        take one that nobody owns

So the partitions of a daemon that dies are taken once its leases have expired and its place among the members with
them; those of one that ends cleanly as soon as it releases them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.patience import StopRequested
from foretick.app.sharing import decide
from foretick.app.tenure import Tenure
from foretick.errors import (
    CommandFailed,
    ConnectionLost,
    DeviceFailed,
    ForetickError,
    ServerRefused,
    StateUnreadable,
    UsageError,
)
from foretick.ports.positions import StreamKeys
from foretick.ports.registry import RollCall
from foretick.ports.wire import lease_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.app.discovery import Catalogue, Discovery
    from foretick.app.partition import Partition
    from foretick.app.patience import StopSignal
    from foretick.ports.connection import RedisConnection
    from foretick.ports.endpoints import Health
    from foretick.ports.registry import Registry

ROLL_SECONDS = 0.5  # at most, a dead daemon's partitions lie idle for so long beyond their lease
WAITING_SECONDS = 0.1  # while somebody is about to give a partition up for us
ALLOWANCE_SECONDS = 30.0  # without a sign of life: connecting and a look at the keys take seconds at most
ABANDONED_MAX_SECONDS = 2.0  # without an owner, or a fifth of a lease; whose share it is takes it in a moment
GIVEN_SECONDS = 5.0  # what was given away is left to others for so long
REST_SECONDS = 1.0  # after a bug in a partition, before it is tried again; doubles each time
REST_MAX_SECONDS = 60.0
NAMED_MAX = 20  # partitions in the text of `/readyz`

log = structlog.get_logger()


class Ownership:
    """Owns its share of the partitions.

    Args:
        connection: of its own; those of the partitions are others.
        registry: our place among the daemons.
        discovery: which streams there are.
        make_partition: from its name and streams.
        owner: our id.
        prefix: of our keys.
        ttl_seconds: life of a lease.
        stop: ends it.
        health: of the daemon.
        each_turn: done by the same thread, twice a second or more often.
    """

    def __init__(
        self,
        connection: RedisConnection,
        registry: Registry,
        discovery: Discovery,
        make_partition: Callable[[bytes, tuple[StreamKeys, ...], StopSignal, Health], Partition],
        *,
        owner: str,
        prefix: bytes,
        ttl_seconds: float,
        stop: StopSignal,
        health: Health,
        each_turn: Callable[[], object] = lambda: None,
    ) -> None:
        self._connection = connection
        self._registry = registry
        self._discovery = discovery
        self._make_partition = make_partition
        self._owner = owner
        self._prefix = prefix
        self._abandoned_seconds = min(ABANDONED_MAX_SECONDS, ttl_seconds / 5)
        self._stop = stop
        self._health = health
        self._each_turn = each_turn
        self._tenures: dict[bytes, Tenure] = {}  # in the order in which they began
        self._resting: dict[bytes, tuple[float, float]] = {}  # by partition: until when, and how long after a bug
        self._free_since: dict[bytes, float] = {}
        self._refused: dict[bytes, str] = {}  # partitions that cannot be owned as the settings are, and why
        self._is_alone = False  # may not see the others, so it takes what it can

    def run(self) -> None:
        """Own and forecast until a stop is requested.

        Raises:
            ForetickError: what no waiting mends; the partitions were given up in good order.
            Exception: a bug, where no other partition is left to look after.
        """
        try:
            while not self._stop.is_set():
                self._stop.wait(self._step())
        except StopRequested:
            pass
        finally:
            self._leave()

    def _step(self) -> float:
        """Look around and act; the seconds until the next look."""
        self._health.beat(ALLOWANCE_SECONDS)
        self._each_turn()
        self._reap()
        try:
            if not self._connection.is_open:
                self._connection.open()
            catalogue = self._look()
            if catalogue is None:
                return 0.0
            roll = self._call_roll(catalogue)
        except (ConnectionLost, ServerRefused) as error:
            if not self._tenures:  # who tell it themselves
                log.warning("redis_away", detail=str(error))
            self._health.set("redis", False, str(error))
            self._connection.close()
            return ROLL_SECONDS
        self._health.set("redis", True, "")
        moves = decide(
            [partition for partition in catalogue.partitions if partition not in self._refused],
            roll,
            self._owner,
            self._mine(),
            abandoned=self._abandoned(catalogue, roll),
            shunned=self._shunned(),
        )
        for partition in moves.give:
            if partition in catalogue.partitions:
                _, rested = self._resting.get(partition, (0.0, REST_SECONDS / 2))
                self._resting[partition] = time.monotonic() + GIVEN_SECONDS, rested
            log.info("partition_given_up", partition=_text(partition), members=len(roll.members))
            self._tenures[partition].end()
        for partition in moves.take:
            self._begin(partition, self._keys_of(partition, catalogue))
        for partition, tenure in self._tenures.items():
            if partition in catalogue.partitions:
                tenure.follow(self._keys_of(partition, catalogue))
        self._tell(catalogue, roll)
        return WAITING_SECONDS if moves.is_waiting else ROLL_SECONDS

    def _look(self) -> Catalogue | None:
        try:
            self._discovery.pursue(self._connection)
        except CommandFailed as error:
            log.warning("streams_not_searched", reason=str(error), instead="only the streams that are named are read")
            self._discovery.forgo_globs()
        return self._discovery.catalogue

    def _call_roll(self, catalogue: Catalogue) -> RollCall:
        leases = {partition: lease_key(self._prefix, partition) for partition in catalogue.partitions}
        if not self._is_alone:
            try:
                return self._registry.call_roll(self._connection, leases)
            except CommandFailed as error:
                log.warning("members_unknown", reason=str(error), instead="every partition that is free is taken")
                self._is_alone = True
        return RollCall(frozenset({self._owner}), {})

    def _shunned(self) -> set[bytes]:
        """The partitions that rest: a bug befell them here, or we have just given them to somebody else."""
        now = time.monotonic()
        return {partition for partition, (until, _) in self._resting.items() if until > now}

    def _abandoned(self, catalogue: Catalogue, roll: RollCall) -> set[bytes]:
        """The partitions that have had no owner for longer than a handover takes."""
        now = time.monotonic()
        free = catalogue.partitions.keys() - roll.owners.keys()
        self._free_since = {partition: self._free_since.get(partition, now) for partition in free}
        return {partition for partition, since in self._free_since.items() if now - since > self._abandoned_seconds}

    def _mine(self) -> list[bytes]:
        return [partition for partition, tenure in self._tenures.items() if not tenure.is_ending]

    def _begin(self, partition: bytes, streams: tuple[StreamKeys, ...]) -> None:
        if partition in self._tenures:
            return  # it is just being given up
        tenure = self._tenures[partition] = Tenure(
            _text(partition),
            lambda stop, health: self._make_partition(partition, streams, stop, health),
            self._stop,
            self._health,
        )
        tenure.start()

    def _reap(self) -> None:
        """Bury the tenures that are over."""
        for partition, tenure in list(self._tenures.items()):
            if not tenure.is_over:
                continue
            del self._tenures[partition]
            tenure.close()
            error = tenure.error
            if error is None:
                if tenure.stood_still:  # another has it now: not to and fro between two that both cannot
                    self._resting[partition] = time.monotonic() + REST_MAX_SECONDS, REST_MAX_SECONDS
                continue
            if not self._tenures or isinstance(error, StateUnreadable | DeviceFailed):
                raise error
            if isinstance(error, UsageError):
                log.error("partition_refused", partition=tenure.name, reason=str(error))
                self._refused[partition] = str(error)
                continue
            _, rested = self._resting.get(partition, (0.0, REST_SECONDS / 2))
            rest = min(2 * rested, REST_MAX_SECONDS)
            self._resting[partition] = time.monotonic() + rest, rest
            log.error("bug", partition=tenure.name, tried_again_in_seconds=rest, exc_info=error)

    def _keys_of(self, partition: bytes, catalogue: Catalogue) -> tuple[StreamKeys, ...]:
        return tuple(StreamKeys.of(stream, self._prefix, partition) for stream in catalogue.partitions[partition])

    def _tell(self, catalogue: Catalogue, roll: RollCall) -> None:
        """What `/readyz?verbose` says of all this."""
        refused = [
            f"{_text(name)} refused: {why}" for name, why in (*catalogue.refused.items(), *self._refused.items())
        ]
        seen = f"{catalogue.streams_count} in {len(catalogue.partitions)} partitions"
        named_refused = self._discovery.names & catalogue.refused.keys()
        self._health.set("streams", not (named_refused or self._refused), "; ".join([seen, *refused[:NAMED_MAX]]))
        mine = [tenure.name for tenure in self._tenures.values() if not tenure.is_ending]
        if not mine and catalogue.partitions:
            if not self._health.is_standby:
                log.info("standing_by", partitions=len(catalogue.partitions), members=len(roll.members))
            self._health.is_standby = True
            self._health.set("partitions", False, f"all are owned by others ({len(roll.members)} daemons)")
            return
        self._health.is_standby = False
        names = ", ".join(mine[:NAMED_MAX]) + (", …" if mine[NAMED_MAX:] else "")
        share = f"{len(mine)} of {len(catalogue.partitions)}, {len(roll.members)} daemons"
        self._health.set("partitions", True, f"{names} ({share})" if mine else "no stream matches yet")

    def _leave(self) -> None:
        """Give everything up: first the others are told, then the partitions are released."""
        for tenure in self._tenures.values():
            tenure.end()
        try:
            if self._connection.is_open and not self._is_alone:
                self._registry.leave(self._connection)
        except ForetickError as error:
            log.warning("membership_left_to_expire", reason=str(error))
        self._connection.close()
        for tenure in self._tenures.values():
            tenure.close()
        self._tenures.clear()


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
