"""Streams come to a running partition, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from foretick.app.commits import StartOver
from foretick.errors import CommandFailed, ConnectionLost, ServerRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.app.pipeline import Pipeline
    from foretick.app.recovery import Recovery
    from foretick.ports.positions import StreamKeys

log = structlog.get_logger()


def follow(pipeline: Pipeline, recovery: Recovery, wanted: Sequence[StreamKeys]) -> bool:
    """Take up streams that came, and leave those that went.

    A stream that comes to a running partition did not exist before, or held nothing that the engine should know: it
    is read from its beginning, whatever `start` says of older ones.

    Args:
        pipeline: the loop's body; reads the streams of before.
        recovery: settles the streams that came.
        wanted: the streams that belong to the partition now.

    Returns:
        Whether that is done; otherwise it is to be tried again before the next turn.

    Raises:
        StartOver: a stream came back with a history that the engine would have to know at its own place.
    """
    before, now = set(pipeline.streams), {keys.stream for keys in wanted}
    came = [keys for keys in wanted if keys.stream not in before]
    pipeline.finish()
    try:
        settled = recovery.settle_in(came, "earliest")
    except (ConnectionLost, ServerRefused) as error:
        pipeline.stand_firm_again(error)
        return False
    except CommandFailed as error:
        if error.word != "WRONGTYPE":
            raise
        log.warning("streams_not_taken_up", reason=str(error))
        settled = []  # the next rescan leaves out what is no stream, and so offers the others again
        now -= {keys.stream for keys in came}
    if returned := next((one for one in settled if one.has_history), None):
        raise StartOver("a stream came back with its history", returned.keys.stream.decode(errors="backslashreplace"))
    pipeline.admit([one.state() for one in settled])
    pipeline.dismiss(before - now)
    pipeline.stand_firm()
    log.info("streams_changed", came=len(settled), went=len(before - now), streams=len(pipeline.streams))
    return True
