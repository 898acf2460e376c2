"""What to do about a commit that did not simply go through.

    answer                      what it means                  what we do
    none (connection lost)      perhaps done                   reconnect, look for our forecasts, else send it again
    EXEC nil                    lease or our streams touched   take the lease again; foreign entries aside; again
    refused (OOM, READONLY, …)  nothing done                   wait, renew the lease, again
    XADD `equal or smaller`     a foreign entry slipped in     stream aside; the failed forecasts again
    XGROUP SETID `NOGROUP`      group or stream destroyed      make it at our position; another stream: start over
    XGROUP SETID `WRONGTYPE`    input is no stream             wait
    anything else inside EXEC   nobody foresaw it              stop the partition

The engine has already moved past these ticks, so a commit is either carried out in full or the process gives up the
partition; it is never dropped while the lease is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from foretick.app.forgetting import answers_of, forgotten, is_created_anew
from foretick.errors import CommandFailed, ConnectionLost, PartitionStopped, ServerRefused
from foretick.ports.positions import aside_name, holds_publications, later, tops_of
from foretick.ports.streams import HEAD, Commit, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.app.patience import Patience
    from foretick.ports.connection import Command
    from foretick.ports.streams import Exchange, Failure
    from foretick.ports.telemetry import Telemetry

REPAIRS_AT_ONCE = 5  # of one commit without a wait: one accident takes one or two
REPAIRS_MAX = 100  # of one commit, most of them after a wait of up to a second: somebody works against us

log = structlog.get_logger()


class StartOver(Exception):  # no error: what the engine has seen is not what Redis remembers
    """The partition has to be recovered again, from what Redis holds now."""

    def __init__(self, reason: str, stream: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stream = stream


class Committer:
    """Carries commits through.

    Args:
        exchange: the partition's connection and lease.
        patience: how to wait.
        telemetry: counts reconnects.
    """

    def __init__(self, exchange: Exchange, patience: Patience, telemetry: Telemetry) -> None:
        self.exchange = exchange
        self.patience = patience
        self._telemetry = telemetry
        self._connection = exchange.connection
        self._lease = exchange.lease
        self._guarded: dict[bytes, bytes] = {}

    def guard(self, streams: dict[bytes, bytes]) -> None:
        """Let foreign writes to these streams of ours trip the fence.

        Args:
            streams: input stream by stream of ours.
        """
        self._guarded = streams
        self._lease.guard(streams)

    def stand_firm(self, before: Mapping[bytes, bytes], error: ConnectionLost | ServerRefused | None = None) -> None:
        """Raise the fence anew, where no turn's own does it, and put right what it would hide.

        A fence tells only what happens after it was raised. So the positions and our own streams are looked at once it
        stands: a foreign entry among them would make the next commit fail in part.

        Args:
            before: position of every stream, as last committed.
            error: what has just gone wrong with the connection, if anything.

        Raises:
            LeaseLost: another process owns the partition.
            StartOver: Redis does not remember what we had committed.
            StopRequested: a stop came while waiting.
        """
        while True:
            try:
                if error is not None:
                    self.reconnect(error)
                self._lease.raise_fence(self._connection)
                self.check_positions(Commit(before=before))
                self._clear(self._floors(Commit(before=before)))
            except (ConnectionLost, ServerRefused) as again:
                error = again
            else:
                return

    def settle(self, commit: Commit, outcome: Outcome | None) -> None:
        """Return when the commit is carried out; afterwards the fence does not stand.

        Args:
            commit: was sent.
            outcome: the answer; none when it was lost.

        Raises:
            LeaseLost: another process owns the partition; nothing more was written.
            PartitionStopped: Redis answered what cannot be put right.
            StartOver: the server came back without a part of what we had committed.
            StopRequested: a stop came while waiting; the ticks stand to be read again.
        """
        repairs = 0
        while outcome is None or not outcome.is_committed:
            try:
                if outcome is None:
                    commit.in_doubt = True
                elif outcome.refused:
                    self._outwait(outcome.refused)
                else:
                    repairs += not self._must_wait(outcome.failures)
                    self._pace(repairs, outcome)
                    commit = self._mend(commit, outcome.failures) if outcome.failures else commit
                outcome = self._send_again(commit)
            except (ConnectionLost, ServerRefused) as error:
                self.reconnect(error)
                outcome = None
        self.patience.over()

    def reconnect(self, error: ConnectionLost | ServerRefused) -> None:
        """Come back after an error: wait until there is a connection on which we own the lease."""
        cause: Exception = error
        while True:
            word = cause.word if isinstance(cause, ServerRefused) else "lost"
            self.patience.bear("redis", "redis_away", f"{word}: {cause}")
            try:
                if not self._connection.is_open:
                    self._connection.open()
                    self._telemetry.count_reconnect()
                self._lease.raise_fence(self._connection)
            except (ConnectionLost, ServerRefused) as again:
                cause = again
            else:
                self.patience.over()
                return

    def renew(self) -> None:
        """Keep the lease, outside a turn; the fence does not stand afterwards."""
        self._lease.raise_fence(self._connection)
        self.exchange.commit_alone(Commit())

    def check_positions(self, commit: Commit) -> None:
        """After a reconnect: see that Redis still knows how far we were.

        Raises:
            StartOver: it came back from an older copy of its memory: without answers of ours, or without ticks.
        """
        if loss := forgotten(self._connection, commit, self._guarded):
            self._telemetry.count_position_regression()
            name = loss.stream.decode(errors="backslashreplace")
            log.error("position_regressed", stream=name, ours=loss.ours, found=loss.found, reason=loss.reason)
            raise StartOver(loss.reason, name)

    def set_aside(self, keys: list[bytes], reason: str) -> None:
        """Rename streams of ours in which somebody else wrote, so that ours can begin anew.

        The fence must stand; it does not afterwards.
        """
        names = {key: aside_name(key) for key in keys}
        outcome = self.exchange.commit_alone(Commit([(b"RENAME", key, aside) for key, aside in names.items()]))
        if outcome.refused:
            raise outcome.refused
        if not outcome.fenced:
            for key, aside in names.items():
                log.error("stream_set_aside", stream=key, aside=aside, reason=reason)

    def _send_again(self, commit: Commit) -> Outcome:
        self._lease.raise_fence(self._connection)
        if commit.in_doubt:
            self.check_positions(commit)
        floors = self._floors(commit)
        if commit.in_doubt:
            answered = self._answered(commit)
            if commit.publications and answered == {publication[1] for publication in commit.publications}:
                # Published; whether the position moved as well is not certain: the group may have been destroyed.
                moves = [command for command in commit.commands if command[0] == b"XGROUP"]
                return self.exchange.commit_alone(Commit(moves))
            for key in answered:
                del floors[key]
        self._clear(floors)
        return self.exchange.commit_alone(commit)

    def _check_identity(self, stream: bytes, before: bytes) -> None:
        """See that a stream without our group is still the one that we were reading.

        Raises:
            StartOver: it was created anew, and what we have published of it would hide the entries before.
        """
        if not is_created_anew(self._connection, stream, before):
            return
        if ours := answers_of(self._connection, stream, self._guarded):
            self._lease.raise_fence(self._connection)
            self.set_aside(ours, "the input was created anew")
        raise StartOver("the input is another one than before", stream.decode(errors="backslashreplace"))

    def _floors(self, commit: Commit) -> dict[bytes, bytes]:
        """Where the tops of our streams may be: of those that are guarded, and of those that the commit writes to."""
        guarded = {key: commit.before[stream] for key, stream in self._guarded.items() if stream in commit.before}
        return guarded | commit.floors

    def _clear(self, floors: dict[bytes, bytes]) -> None:
        """Set streams of ours aside that hold what nobody but we should have written; the fence stands afterwards."""
        for _ in range(REPAIRS_AT_ONCE):
            tops = tops_of(self._connection, list(floors))
            foreign = [key for key, top in tops.items() if top is None or later(top, floors[key])]
            if not foreign:
                return
            self.set_aside(foreign, "entries that are not ours")
            self._lease.raise_fence(self._connection)

    def _answered(self, commit: Commit) -> set[bytes]:
        """The streams that hold the last of the commit's entries for them."""
        last = {publication[1]: publication for publication in commit.publications}
        held = holds_publications(self._connection, list(last.values()))
        return {key for key, is_held in zip(last, held, strict=True) if is_held and isinstance(key, bytes)}

    def _outwait(self, refusal: Exception) -> None:
        """Wait while the server cannot write, and keep the lease meanwhile if at least that is possible."""
        if not isinstance(refusal, ServerRefused):
            raise PartitionStopped(f"Redis refuses the commit: {refusal}") from refusal
        self.patience.bear("redis", "redis_refuses", f"{refusal.word}: {refusal}")
        self.renew()

    def _must_wait(self, failures: tuple[Failure, ...]) -> bool:
        """Wait a little, if only waiting can help."""
        for command, error in ((failure.command, failure.error) for failure in failures):
            if isinstance(error, ServerRefused):
                self.patience.bear("redis", "redis_refuses", f"{error.word}: {error}")
                return True
            if command[0] == b"XGROUP" and error.word == "WRONGTYPE":
                self.patience.bear("input", "input_unusable", str(error))
                return True
        return False

    def _pace(self, repairs: int, outcome: Outcome) -> None:
        """Slow down against somebody who keeps undoing what we put right, and give up in the end."""
        if repairs > REPAIRS_MAX:
            cause = outcome.failures[0].error if outcome.failures else "our keys are changed again and again"
            raise PartitionStopped(f"{REPAIRS_MAX} repairs did not help: {cause}")
        if repairs > REPAIRS_AT_ONCE:
            self.patience.bear("redis", "commit_contended", "somebody keeps changing our keys")

    def _mend(self, commit: Commit, failures: tuple[Failure, ...]) -> Commit:
        """The commit that does what failed, after what kept it from succeeding is out of the way."""
        mended = Commit(before=commit.before, floors=commit.floors_after(failures))
        aside: list[bytes] = []
        for failure in failures:
            command = self._replacement(commit, failure)
            if command is None:
                continue
            mended.commands.append(command)
            if command[0] in {b"XADD", b"HSET"}:
                key = command[1]
                assert isinstance(key, bytes)
                aside += [key] if key not in aside else []
        if aside:
            self._lease.raise_fence(self._connection)
            self.set_aside(aside, str(failures[0].error))
        return mended

    def _replacement(self, commit: Commit, failure: Failure) -> Command | None:
        """The command to send instead of a failed one; none where nothing is left to do."""
        command, error = failure.command, failure.error
        name, word = command[0], error.word
        if isinstance(error, ServerRefused):
            return command
        if name in {b"XTRIM", b"HDEL"}:
            return None  # trimmed next turn; a wrong type shows in the XADD or HSET
        if name == b"XADD" and failure.is_out_of_order:
            if commit.in_doubt and holds_publications(self._connection, [command])[0]:
                return None
            return command
        if name in {b"XADD", b"HSET"} and word == "WRONGTYPE":
            return command
        if name == b"XGROUP":
            return self._replace_group(commit, command, error)
        raise PartitionStopped(f"{name!r} inside a commit: {error}")

    def _replace_group(self, commit: Commit, command: Command, error: CommandFailed) -> Command:
        _, verb, stream, group, position, *_, entries_read = command
        if error.word == "WRONGTYPE":
            return command
        if verb == b"SETID" and (error.word == "NOGROUP" or "requires the key to exist" in str(error)):
            assert isinstance(stream, bytes)
            self._check_identity(stream, commit.before.get(stream, HEAD))
            log.warning("group_destroyed", stream=stream, position=position)
            return (b"XGROUP", b"CREATE", stream, group, position, b"MKSTREAM", b"ENTRIESREAD", entries_read)
        if verb == b"CREATE" and error.word == "BUSYGROUP":
            return (b"XGROUP", b"SETID", stream, group, position, b"ENTRIESREAD", entries_read)
        raise PartitionStopped(f"the position cannot be stored: {error}")
