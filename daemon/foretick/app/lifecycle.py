"""Start, run, stop: three short functions; what ends the process and with which status.

The first SIGTERM or SIGINT sets the stop: the turn in flight is finished and committed, the lease released, status 0.
The second one ends the process at once with status 130, whatever it is doing; the lease then expires by itself.
SIGHUP has the settings read again (`reload`); one that comes because the terminal is gone is a stop.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import structlog

from foretick.app.garbage import collector_by_hand
from foretick.app.groups import learn_schedule
from foretick.app.learning import trainer_process
from foretick.app.patience import StopRequested, StopSignal
from foretick.app.reload import Reload
from foretick.app.supervision import Supervision
from foretick.errors import (
    EXIT_BUG,
    EXIT_CLEAN,
    CommandFailed,
    ConnectionLost,
    ForetickError,
    RedisUnreachable,
    ServerRefused,
)
from foretick.ports.embedded import EmbeddedServer
from foretick.ports.embedded_keeper import EmbeddedKeeper
from foretick.ports.endpoints import Health, HttpServer
from foretick.ports.logs import set_log_level
from foretick.ports.replies import DENIALS, STRANGER
from foretick.ports.supervisor import Supervisor
from foretick.ports.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from foretick.app.settings import Settings
    from foretick.ports.connection import RedisConnection
    from foretick.ports.trainer import TrainerProcess

EXIT_FORCED = 130  # as a shell reports Ctrl-C
SWITCH_SECONDS = 0.0005  # so long a scrape may keep the interpreter from the loop; Python's own 5 ms show in the p99
CONNECT_WAIT_SECONDS = 2.0  # between two tries at start, at most

log = structlog.get_logger()


def run(settings: Settings, *, discard_state: bool = False, load: Callable[[], Settings] | None = None) -> int:
    """Run the daemon until a signal ends it.

    Args:
        settings: all of them.
        discard_state: whether to forget the state that was saved before now.
        load: reads the settings again, for SIGHUP.

    Raises:
        ForetickError: what keeps the daemon from starting; carries the exit status.
    """
    stop = StopSignal()
    metrics = settings.metrics
    telemetry = Telemetry(embedded=settings.embedded, worst_series=metrics.worst, named_series=metrics.series)
    health = Health()
    supervision = Supervision(Supervisor(), health)
    reload = Reload(settings, load or (lambda: settings))
    reload.each_time(lambda wanted: telemetry.choose_series(wanted.metrics.worst, wanted.metrics.series))
    reload.each_time(lambda wanted: set_log_level(wanted.log.level))
    telemetry.watch_conditions(health.checks)
    telemetry.tell_settings(settings.checkpoint.every, learn_schedule(settings))
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_signals(stop, supervision, reload))
            trainer = stack.enter_context(trainer_process(settings, telemetry))  # first: it takes seconds to be ready
            url, page = settings.redis.url or "", telemetry.exposition
            if settings.embedded:
                embedded = stack.enter_context(EmbeddedServer(settings.state_dir / "embedded"))
                url, page = embedded.url, _with_embedded(telemetry, embedded)
                log.info("embedded_server_started", url=url, folder=str(embedded.folder))
                stack.enter_context(EmbeddedKeeper(embedded, _tell_death, lambda: log.info("embedded_server_revived")))
            http = HttpServer(settings.http.host, settings.http.port, page, health)
            discard_before_ms = time.time_ns() // 1_000_000 if discard_state else None
            _serve(settings, url, stop, telemetry, health, http, trainer, discard_before_ms, reload)
    except StopRequested:
        pass
    except ForetickError:
        raise
    except Exception:
        log.exception("bug")
        return EXIT_BUG
    finally:
        stop.close()
    log.info("stopped")
    return EXIT_CLEAN


def _tell_death(last_words: str) -> None:
    log.error("embedded_server_died", last_words=last_words, next="it is started again")


def _with_embedded(telemetry: Telemetry, embedded: EmbeddedServer) -> Callable[[], bytes]:
    """The metrics page of a daemon with a server of its own: whether that runs is asked at each scrape."""

    def exposition() -> bytes:
        telemetry.set_embedded_up(up=embedded.alive())
        return telemetry.exposition()

    return exposition


def _serve(
    settings: Settings,
    url: str,
    stop: StopSignal,
    telemetry: Telemetry,
    health: Health,
    http: HttpServer,
    trainer: TrainerProcess | None,
    discard_before_ms: int | None,
    reload: Reload,
) -> None:
    """Connect, open the HTTP port, forecast; close everything in the opposite order."""
    import torch  # noqa: PLC0415  takes seconds, in which the trainer's process imports it too

    from foretick.app.assembly import make_ownership, make_page  # noqa: PLC0415  likewise
    from foretick.app.recipes import devices_of  # noqa: PLC0415  likewise

    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_SECONDS)
    devices = devices_of(settings)
    http.page = page = make_page(settings, url, telemetry, health)
    connection, ownership = make_ownership(
        settings, devices, url, stop, telemetry, health, trainer, discard_before_ms, page.live, reload
    )
    for condition in ("redis", "partitions"):
        health.set(condition, ok=False, detail="starting")
    http.start()
    try:
        address = f"http://{settings.http.host}:{http.port}"
        used = ", ".join(sorted(set(devices.values())))
        log.info("starting", streams=list(settings.streams), http=address, device=used)
        connect(connection, settings.redis.connect_deadline, stop, health)
        with collector_by_hand():
            ownership.run()
    finally:
        http.stop()


def connect(connection: RedisConnection, deadline_seconds: float, stop: StopSignal, health: Health) -> None:
    """Open the connection, trying with full jitter until the deadline.

    Raises:
        RedisUnreachable: nobody answered in time, or no Redis, the password is wrong, or the user may not connect.
        StopRequested: a stop came first.
    """
    give_up = time.monotonic() + deadline_seconds
    wait_seconds = 0.05
    while True:
        health.beat(CONNECT_WAIT_SECONDS + 30.0)
        try:
            connection.open()
            connection.call(b"PING")
        except CommandFailed as error:  # the user may not even do what opens a connection
            raise RedisUnreachable(f"Redis does not let us in: {error}") from error
        except (ConnectionLost, ServerRefused) as error:
            if isinstance(error, ServerRefused) and error.word == STRANGER:
                raise RedisUnreachable(str(error)) from error
            if isinstance(error, ServerRefused) and error.word in DENIALS:
                raise RedisUnreachable(f"Redis does not let us in: {error}") from error
            if time.monotonic() + wait_seconds > give_up:
                raise RedisUnreachable(f"Redis did not answer within {deadline_seconds:g} s: {error}") from error
            log.warning("redis_unreachable", detail=str(error))
            health.set("redis", ok=False, detail=str(error))
            stop.pause(random.uniform(0, wait_seconds))  # noqa: S311  jitter is no secret
            wait_seconds = min(2 * wait_seconds, CONNECT_WAIT_SECONDS)
        else:
            return


@contextlib.contextmanager
def _signals(stop: StopSignal, supervision: Supervision, reload: Reload) -> Iterator[None]:
    """The first signal requests the stop, the second forces it; SIGHUP has the settings read again."""
    has_terminal = os.isatty(0)

    def receive(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not (has_terminal and not os.isatty(0)):
            reload.ask()
            return
        if stop.is_set():
            os._exit(EXIT_FORCED)
        stop.set()
        supervision.stop()

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
