"""The lower half of the dashboard *Service*: learning, state, ownership, the process."""

from __future__ import annotations

from panels import About, Page, Query
from service import HERE, NONE_IS_GOOD, quantile, rate, risen


def fill(page: Page) -> None:
    """Put the rows on the page that tell of what goes on behind the ticks."""
    _learning(page)
    _state(page)
    _ownership(page)
    _process(page)


def _learning(page: Page) -> None:
    page.row("Learning")
    page.lines(
        About(
            "Steps",
            "Optimiser steps taken a second. 0 for long, while ticks come: see the runbook.",
            "learningstalled",
            "ops",
            width=6,
        ),
        Query(rate("learn_steps_total", "instance"), "{{instance}}"),
        low=0,
    )
    page.lines(
        About("A job", "Time to compute one learning job.", "learningstalled", "s", width=6),
        *(Query(quantile(q, "learn_seconds"), f"p{q * 100:g}") for q in (0.5, 0.99)),
        low=0,
    )
    page.lines(
        About(
            "The loop waits",
            "The share of time in which the loop waited for a learning job. Forecasts stay a function of the stream, "
            "so a slow trainer slows the loop: above a tenth give it a core, or raise learn.every.",
            "learningstalled",
            "percentunit",
            [(None, "green"), (0.1, "red")],
            6,
        ),
        Query(rate("learn_wait_seconds_sum", "instance"), "{{instance}}"),
        low=0,
    )
    page.lines(
        About(
            "Ticks between jobs",
            "learn.every as set, by group; 0: the group does not learn.",
            "learningstalled",
            "short",
            width=6,
        ),
        Query(f"max by (group) (foretick_learn_every_ticks{{{HERE}}})", "{{group}}"),
        low=0,
    )


def _state(page: Page) -> None:
    page.row("State")
    page.lines(
        About(
            "Age of the checkpoint",
            "Time since the state of a partition was last safe; dashed, checkpoint.every. Above five times that a "
            "restart replays for long.",
            "checkpointstale",
            "s",
        ),
        Query(f"max by (partition) (foretick_checkpoint_age_seconds{{{HERE}}})", "{{partition}}"),
        Query(f"max(foretick_checkpoint_every_seconds{{{HERE}}})", "checkpoint.every"),
        dashed="checkpoint.every",
        low=0,
    )
    page.lines(
        About(
            "Size of the checkpoint",
            "Size of each partition's newest checkpoint. In Redis three of them lie in memory for a while; "
            "checkpoint.redis_max bounds one.",
            "checkpointstale",
            "bytes",
        ),
        Query(f"max by (partition) (foretick_checkpoint_bytes{{{HERE}}})", "{{partition}}"),
        low=0,
    )
    page.lines(
        About(
            "Ticks replayed", "Ticks read again, unpublished, to rebuild state after a start.", "checkpointstale", "cps"
        ),
        Query(rate("replayed_ticks_total", "instance"), "{{instance}}"),
        low=0,
    )
    page.lines(
        About(
            "What was borne",
            "Events that should be rare: checkpoints not written or refused, history that was trimmed before it was "
            "read, Redis back with an older position, engines that failed at a tick, trainers that died.",
            "rare-events",
            "short",
            NONE_IS_GOOD,
            24,
        ),
        Query(risen("checkpoint_failures_total"), "{{instance}} checkpoint failed"),
        Query(risen("history_trimmed_total"), "{{instance}} history trimmed"),
        Query(risen("position_regressions_total"), "{{instance}} older position"),
        Query(risen("engine_failures_total"), "{{instance}} engine failed"),
        Query(risen("trainer_restarts_total"), "{{instance}} trainer restarted"),
        low=0,
    )


def _ownership(page: Page) -> None:
    page.row("Ownership and Redis")
    page.lines(
        About(
            "Partitions by daemon",
            "How many partitions each daemon owns. They are shared evenly; the sum falls while one is handed over.",
            "leaseflapping",
            "short",
        ),
        Query(f"sum by (instance) (foretick_leases_held{{{HERE}}})", "{{instance}}"),
        stacked=True,
        low=0,
    )
    page.lines(
        About(
            "Leases lost, connections made anew",
            "A lease is lost where a daemon paused for longer than lease.ttl, or another took it; a connection where "
            "Redis or the network failed.",
            "leaseflapping",
            "short",
            NONE_IS_GOOD,
        ),
        Query(risen("lease_lost_total"), "{{instance}} lease lost"),
        Query(risen("redis_reconnects_total"), "{{instance}} reconnected"),
        low=0,
    )
    page.lines(
        About(
            "Embedded server",
            "1 while the server of `run --embedded` runs; nothing without one.",
            "redisunreachable",
            "bool",
        ),
        Query(f"foretick_embedded_server_up{{{HERE}}}", "{{instance}}"),
        low=0,
        high=1,
    )
    page.states(
        About(
            "Conditions",
            "The conditions of /readyz, as /readyz?verbose tells them with their reasons.",
            "conditions",
            "short",
            width=24,
        ),
        Query(
            f"min by (instance, partition, condition) (foretick_condition_ok{{{HERE}}})",
            "{{instance}} {{partition}} {{condition}}",
        ),
    )


def _process(page: Page) -> None:
    page.row("The process")
    page.lines(
        About("CPU", "Cores used, without the trainer's process.", "highlatency", "short", decimals=2),
        Query(f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])", "{{instance}}"),
        low=0,
    )
    page.lines(
        About("Memory", "Resident memory, without the trainer's process.", "memory", "bytes"),
        Query(f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}"),
        low=0,
    )
    page.lines(
        About("Open files", "File descriptors; a slow rise is a leak.", "memory", "short"),
        Query(f"process_open_fds{{{HERE}}}", "{{instance}}"),
        low=0,
    )
