"""`foretick resend`: dead letters become ticks again, after what made them unusable is mended."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from foretick.app.access import connected
from foretick.app.demo import StopSignals
from foretick.app.progress import progress
from foretick.errors import EXIT_CLEAN, ConnectionLost
from foretick.ports.inspection import stream_names
from foretick.ports.letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretick.app.settings import Settings
    from foretick.ports.connection import RedisConnection
    from foretick.ports.letters import Batch, Letter

EXIT_CUT_SHORT = 130  # as shells report Ctrl-C
PAUSE_SECONDS = 0.02  # between batches: a daemon's commit, 1 to 5 ms, gets through in between
OUT_OF_TIME = frozenset({"late", "duplicate"})  # the series has gone on: they would be so again
LOSSES_MAX = 20  # so often a lost connection is opened again; then somebody should look
LOSS_SECONDS = 0.5  # before it is


class Options(Protocol):
    """What the command line says.

    Attributes:
        reason: only these; none is all but those that came at the wrong time.
        since: only from this entry id on.
        dry_run: send nothing.
    """

    reason: str | None
    since: str | None
    dry_run: bool


@dataclass(slots=True)
class Tally:
    """What was found, by reason.

    Attributes:
        sent: are ticks again, or would be.
        torn: were not kept whole.
        left: were not asked for.
    """

    sent: Counter[str] = field(default_factory=Counter)
    torn: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)


def run(settings: Settings, options: Options) -> int:
    """Send again what was asked for; returns the exit status.

    Raises:
        RedisUnreachable: nobody answers.
        UsageError: the server refuses.
    """
    with StopSignals() as stop, connected(settings) as connection:
        for stream in stream_names(connection, settings.streams, settings.prefix):
            letters = DeadLetters(connection, stream, settings.prefix)
            tally = _sorted(letters, options)
            if not options.dry_run:
                found, tally.sent = tally.sent.total(), Counter()
                with progress(found, "sent again", "letters") as advance:
                    for batch in _batches(connection, letters, options, stop):
                        tally.sent.update(one.reason for one in batch.sent)
                        advance(len(batch.sent))
            _tell(stream, tally, dry_run=options.dry_run)
        return EXIT_CUT_SHORT if stop.count else EXIT_CLEAN


def _begin(options: Options) -> bytes:
    return (options.since or "-").encode()


def _is_wanted(letter: Letter, options: Options) -> bool:
    return letter.reason not in OUT_OF_TIME if options.reason is None else letter.reason == options.reason


def _sorted(letters: DeadLetters, options: Options) -> Tally:
    """What there is, before anything is sent."""
    tally = Tally()
    for one in letters.since(_begin(options)):
        if not _is_wanted(one, options):
            tally.left[one.reason] += 1
        else:
            (tally.torn if one.fields is None else tally.sent)[one.reason] += 1
    return tally


def _batches(connection: RedisConnection, letters: DeadLetters, options: Options, stop: StopSignals) -> Iterator[Batch]:
    """Batch after batch, until there are no more or a stop comes; a lost connection is opened again."""
    begin, losses = _begin(options), 0
    while not stop.wait(PAUSE_SECONDS):
        try:
            if not connection.is_open:
                connection.open()
            batch = letters.resend(begin, partial(_is_wanted, options=options))
        except ConnectionLost:
            losses += 1
            if losses > LOSSES_MAX or stop.wait(LOSS_SECONDS):
                raise
            continue
        if batch is None:
            return
        begin = batch.next
        yield batch


def _tell(stream: str, tally: Tally, *, dry_run: bool) -> None:
    """One line for each thing that became of letters."""
    verb = "would be sent" if dry_run else "sent"
    lines = [f"{stream}: {tally.sent.total():,} dead letters {verb} again{_by_reason(tally.sent)}"]
    if tally.torn:
        lines.append(f"{tally.torn.total():,} cannot be sent: their fields were not kept whole{_by_reason(tally.torn)}")
    if tally.left:
        lines.append(f"{tally.left.total():,} left alone{_by_reason(tally.left)}")
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def _by_reason(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in counts.most_common())})" if counts else ""
