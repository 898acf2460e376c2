"""Our positions beside the inputs' own account of themselves: how far we lag, whether an input is still the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from foretick.app.commits import StartOver
from foretick.errors import ForetickError
from foretick.ports.positions import later, set_position, stream_infos
from foretick.ports.streams import id_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretick.app.answers import Pending, StreamState
    from foretick.ports.connection import RedisConnection
    from foretick.ports.positions import StreamInfo
    from foretick.ports.telemetry import Telemetry

SURVEY_EVERY_SECONDS = 1.0  # lag and re-created inputs are seen this soon; costs one round trip
SURVEY_STREAMS = 200  # a time, in turns: 3 ms of the loop; of 10,000 streams each is surveyed every 50 s


class Lookout:
    """Surveys the streams of a partition between turns, some of them at a time.

    Args:
        connection: the partition's.
        telemetry: takes the lag.
        clock_offset_seconds: server's clock minus ours.
    """

    def __init__(self, connection: RedisConnection, telemetry: Telemetry, clock_offset_seconds: float) -> None:
        self._connection = connection
        self._telemetry = telemetry
        self._clock_offset_seconds = clock_offset_seconds
        self._surveyed_at = 0.0
        self._unsurveyed: list[bytes] = []

    def between_turns(
        self, streams: Mapping[bytes, StreamState], reached: Mapping[bytes, bytes], pending: Pending
    ) -> None:
        """Look, if it is time; counts that are put right go along with the pending commit.

        Args:
            streams: where each stands.
            reached: position of each once the pending commit is through.
            pending: the next commit.

        Raises:
            StartOver: an input is another one than before.
        """
        now = time.monotonic()
        if now - self._surveyed_at < SURVEY_EVERY_SECONDS:
            return
        self._surveyed_at = now
        self._unsurveyed = self._unsurveyed or list(streams)
        some, self._unsurveyed = self._unsurveyed[:SURVEY_STREAMS], self._unsurveyed[SURVEY_STREAMS:]
        some = [stream for stream in some if stream in streams]
        try:
            infos = stream_infos(self._connection, some)
        except ForetickError:
            return  # a lost connection shows in the next exchange, a wrong type in its XREAD
        for stream, info in zip(some, infos, strict=True):
            if info is not None and info.added:  # deleted: what comes next may still have later ids than ours
                self._survey(streams[stream], reached[stream], info, pending)

    def _survey(self, state: StreamState, position: bytes, info: StreamInfo, pending: Pending) -> None:
        stream = state.keys.stream
        if later(position, info.top):
            raise StartOver("the input is another one than before", state.name)
        if position == info.top:
            self._telemetry.set_lag(stream, 0, 0.0)
            _recount(state, position, info.added, pending)
            return
        if info.first is not None and later(info.first, position):  # all that is there is unread
            _recount(state, position, info.gone, pending)
        lag = max(info.added - state.entries_read - _coming(state, pending), 0)
        seconds = time.time() + self._clock_offset_seconds - id_order(position)[0] / 1000
        self._telemetry.set_lag(stream, lag, max(seconds, 0.0))


def _recount(state: StreamState, position: bytes, read: int, pending: Pending) -> None:
    """Correct the count of entries up to where we are, which trimming and deleting put wrong.

    At the stream's end all that was ever added was read; before its first entry, all that is gone.
    """
    coming = _coming(state, pending)
    if state.entries_read + coming == read:
        return
    state.entries_read = read - coming
    pending.commit.commands.append(set_position(state.keys.stream, position, read))  # the last word of this commit


def _coming(state: StreamState, pending: Pending) -> int:
    """Entries of a stream in the pending commit."""
    return sum(advance.entries for advance in pending.advances if advance.state is state)
