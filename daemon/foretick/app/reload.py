"""Settings read again on SIGHUP (`systemctl reload`): what can change while the daemon runs does, the rest is told.

Everything that shapes forecasts, keys or connections belongs to a start: the same stream is to give the same forecasts
whenever somebody sends a signal.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog

from foretick.app.settings import catalogue, value_of
from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.app.settings import Settings

LIVE = ("streams", "batch", "forecasts.maxlen", "dead.maxlen", "metrics.worst", "metrics.series", "log.level")

log = structlog.get_logger()


class Reload:
    """Takes up changed settings when somebody has asked for it.

    Args:
        settings: those in force.
        load: reads all sources again.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._in_force = {name: value_of(settings, name) for name in catalogue()}
        self._load = load
        self._acts: list[Callable[[Settings], object]] = []
        self._is_asked = False

    def ask(self) -> None:
        """Have them read at the next turn of the main loop; safe in a signal's handler."""
        self._is_asked = True

    def each_time(self, act: Callable[[Settings], object]) -> None:
        """Call this with the new settings; it may look at those in `LIVE` only."""
        self._acts.append(act)

    def if_asked(self) -> None:
        """Read and apply, or tell what is wrong and change nothing."""
        if not self._is_asked:
            return
        self._is_asked = False  # first: who asks from here on means a later state of the file
        try:
            wanted = self._load()
        except UsageError as error:
            log.warning("settings_not_reloaded", reason=str(error), instead="those in force stay")
            return
        changed = [name for name, value in self._in_force.items() if value_of(wanted, name) != value]
        hushes = _rank(wanted.log.level) > _rank(self._in_force["log.level"])
        if hushes:  # afterwards it would hide what tells of it
            self._tell(wanted, changed)
        for act in self._acts:
            act(wanted)
        if not hushes:
            self._tell(wanted, changed)
        self._in_force |= {name: value_of(wanted, name) for name in changed if name in LIVE}

    def _tell(self, wanted: Settings, changed: list[str]) -> None:
        log.info("settings_reloaded", changed={name: value_of(wanted, name) for name in changed if name in LIVE})
        if left := [name for name in changed if name not in LIVE]:
            log.warning("settings_need_restart", settings=left, instead="the values of the last start stay in force")


def _rank(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
