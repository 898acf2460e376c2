"""What all campaigns of a run came to, told at its end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


@dataclass
class Tally:
    """Sums over the campaigns of this process."""

    seeds: list[str] = field(default_factory=list)
    kills: int = 0
    ticks: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    begun: float = field(default_factory=time.monotonic)


TALLY = pytest.StashKey[Tally]()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(TALLY, None)
    if found is None or not found.kills:
        return
    failed = len(terminalreporter.stats.get("failed", ())) + len(terminalreporter.stats.get("error", ()))
    write = terminalreporter.write_line
    terminalreporter.section("chaos")
    write(f"seeds       {' '.join(dict.fromkeys(found.seeds))}")
    write(f"SIGKILLs    {found.kills} in {time.monotonic() - found.begun:.0f} s")
    write("acts        " + ", ".join(f"{name} {n}" for name, n in sorted(found.faults.items())))
    write(f"ticks       {found.ticks:,}")
    write(f"violations  {failed}")
