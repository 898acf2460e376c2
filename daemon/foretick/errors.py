"""Every error foretick raises, and what each one means for the tick, the turn and the process.

    ForetickError
    ├── UsageError            process ends, exit 2: settings or arguments are wrong; never restarted
    ├── RedisUnreachable      process ends, exit 3: no answer at start before `redis.connect_deadline`
    ├── StateUnreadable       process ends, exit 4: no stored state can be read, and going on would lose it
    ├── DeviceFailed          process ends, exit 5: what `device` names takes no memory, or failed; a restart may help
    ├── ConnectionLost        turn is repeated: reconnect with jitter, then the same commit again
    │   └── ReplyTooLarge     the same, and less is asked for: producers wrote what would fill our memory
    ├── ServerRefused         turn is repeated: the server is up but not able (OOM, READONLY, LOADING, MISCONF …)
    ├── LeaseLost             state is dropped: another process owns the partition; become a candidate
    ├── CheckpointFailed      turn goes on: no checkpoint was written, the one before stands, another try follows
    ├── CheckpointUnsound     recovery goes on: this generation is not used but the one before, or the stream itself
    ├── PartitionStopped      partition stops without advancing: only an operator can decide; `/readyz` says why
    └── CommandFailed         a reply that none of the above explains; inside a commit it stops the partition

A tick never raises: one that cannot be used becomes a dead letter with a reason (`ports.wire.Reason`).
Anything that is not a `ForetickError` is a bug: the process ends with exit 70 and a traceback.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_CLEAN = 0
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h


class ForetickError(Exception):
    """Base of all errors that foretick raises on purpose.

    Attributes:
        exit_code: the process' exit status when the error ends it.
    """

    exit_code: ClassVar[int] = EXIT_BUG


class UsageError(ForetickError):
    """Settings or arguments are wrong. The message says which, where, and what to write instead."""

    exit_code = 2


class RedisUnreachable(ForetickError):
    """Redis did not answer at start before the deadline."""

    exit_code = 3


class StateUnreadable(ForetickError):
    """Stored state exists and cannot be read."""

    exit_code = 4


class DeviceFailed(ForetickError):
    """The device that computes has no memory left, or is gone. One that a start does not find is a `UsageError`."""

    exit_code = 5


class ConnectionLost(ForetickError):
    """The connection broke or timed out; whether the last commit took place is unknown."""


class ReplyTooLarge(ConnectionLost):
    """What was asked for is more than we take at once; the connection is closed, and less has to be asked for."""


class ServerRefused(ForetickError):
    """The server answers but cannot serve for now; waiting may help.

    Attributes:
        word: first word of the server's message (`OOM`, `READONLY`, `LOADING`, …).
    """

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class LeaseLost(ForetickError):
    """Another process holds the partition's lease."""


class CheckpointFailed(ForetickError):
    """A checkpoint could not be written; what was written before stands."""


class CheckpointUnsound(ForetickError):
    """A generation of a checkpoint is damaged, of another format, or of another history: it must not be used."""


class PartitionStopped(ForetickError):
    """The partition cannot go on without an operator; nothing was advanced."""


class CommandFailed(ForetickError):
    """A command was refused for a reason of its own (`WRONGTYPE`, `NOGROUP`, `NOPERM`, …).

    Attributes:
        word: first word of the server's message.
    """

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word
