"""Streams come to a running partition, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from foretick.app.commits import StartOver
from foretick.errors import CommandFailed, ConnectionLost, ServerRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretick.app.pipeline import Pipeline
    from foretick.app.recovery import Recovery, Settled
    from foretick.ports.positions import StreamKeys

log = structlog.get_logger()


def follow(pipeline: Pipeline, recovery: Recovery, wanted: tuple[StreamKeys, ...]) -> tuple[StreamKeys, ...] | None:
    """Take up streams that came, and leave those that went.

    A stream that comes to a running partition did not exist before, or held nothing that the engine should know: it
    is read from its beginning, whatever `start` says of older ones.

    Args:
        pipeline: the loop's body; reads the streams of before.
        recovery: settles the streams that came.
        wanted: the streams that belong to the partition now.

    Returns:
        Those of the wanted that are read now; none if it is to be tried again before the next turn.

    Raises:
        StartOver: a stream came back with a history that the engine would have to know at its own place.
    """
    before, now = set(pipeline.streams), {keys.stream for keys in wanted}
    came = [keys for keys in wanted if keys.stream not in before]
    pipeline.finish()
    try:
        settled = _settled(recovery, came)
    except (ConnectionLost, ServerRefused) as error:
        pipeline.stand_firm_again(error)
        return None
    if returned := next((one for one in settled if one.has_history), None):
        raise StartOver("a stream came back with its history", returned.keys.stream.decode(errors="backslashreplace"))
    pipeline.admit([one.state() for one in settled])
    pipeline.dismiss(before - now)
    pipeline.stand_firm()
    log.info("streams_changed", came=len(settled), went=len(before - now), streams=len(pipeline.streams))
    return tuple(keys for keys in wanted if keys.stream in pipeline.streams)


def _settled(recovery: Recovery, came: Sequence[StreamKeys]) -> list[Settled]:
    """The streams that came, without keys that are none."""
    try:
        return recovery.settle_in(came, "earliest")
    except CommandFailed as error:
        if error.word != "WRONGTYPE":
            raise
        if len(came) > 1:
            return [one for keys in came for one in _settled(recovery, [keys])]
        log.warning("stream_not_taken_up", stream=came[0].stream.decode(errors="backslashreplace"), reason=str(error))
        return []
