"""One partition in the hands of this daemon: a thread of its own, from taking the lease to giving it back.

A loop waits in blocking reads most of the time and leaves the interpreter to the others meanwhile, as torch does while
it computes; and an error in one of them cannot hold up the rest.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from foretick.app.patience import StopSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretick.app.partition import Partition
    from foretick.ports.endpoints import Health
    from foretick.ports.positions import StreamKeys


class Tenure:
    """Runs a partition until told to give it up, until the daemon stops, or until an error.

    Args:
        name: of the partition, for people.
        make: the partition, on this stop signal and this part of the daemon's health.
        stop: of the whole daemon.
        health: of the whole daemon.

    Attributes:
        error: what ended it, if it did not end by request.
    """

    def __init__(
        self, name: str, make: Callable[[StopSignal, Health], Partition], stop: StopSignal, health: Health
    ) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._stop = StopSignal(stop)
        self._health = health
        part = health.part(name)
        part.set("lease", False, "being taken")
        part.set("state", False, "not yet restored")
        self._partition = make(self._stop, part)
        self._thread = threading.Thread(target=self._run, name=f"partition {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the partition is given up."""
        return not self._thread.is_alive()

    @property
    def is_ending(self) -> bool:
        """Whether it is to be given up."""
        return self._stop.is_set()

    @property
    def stood_still(self) -> bool:
        """Whether the partition could not go on."""
        return self._partition.is_stopped

    def follow(self, streams: tuple[StreamKeys, ...]) -> None:
        """Tell which streams the partition has now."""
        if streams != self._partition.wanted:
            self._partition.wanted = streams

    def end(self) -> None:
        """Finish the turn, commit, release the lease; does not wait for it."""
        self._stop.set()

    def close(self) -> None:
        """Wait for the end, and leave nothing behind."""
        self._thread.join()
        self._health.forget(self.name)
        self._stop.close()

    def _run(self) -> None:
        torch.set_num_threads(1)  # counts per thread in OpenMP
        try:
            self._partition.run()
        except BaseException as error:  # noqa: BLE001  told to whoever looks after the tenures
            self.error = error
            self._partition.hang_up()
