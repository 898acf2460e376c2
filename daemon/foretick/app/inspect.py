"""`foretick inspect`: what a stream holds, how far its forecasts are, who owns it, which checkpoints there are."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from foretick.app.access import connected
from foretick.app.inspect_checkpoints import look_at_generations
from foretick.errors import EXIT_CLEAN, UsageError
from foretick.ports.inspection import (
    DEAD_ENTRIES,
    id_ms,
    look_at_checkpoints,
    look_at_lease,
    look_at_stream,
    stream_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from foretick.app.inspect_checkpoints import GenerationSeen
    from foretick.app.settings import Settings
    from foretick.ports.connection import RedisConnection
    from foretick.ports.inspection import InputSeen, KeySeen, LeaseSeen, StreamSeen

STREAMS_MAX = 100  # beyond it nobody reads on; --stream names others
SERIES_SHOWN = 8  # a line or two
KEYS_SHOWN = 20  # of a checkpoint
LABEL_COLUMNS = 12
WIDTH = 80
UNITS = ("bytes", "kB", "MB", "GB")
AGES = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"))


class Options(Protocol):
    """What the command line says.

    Attributes:
        part: `stream`, `lease` or `checkpoint`; none is all.
        json: JSON instead of lines.
    """

    part: str | None
    json: bool


def run(settings: Settings, options: Options) -> int:
    """Print what is there; returns the exit status.

    Raises:
        UsageError: there is no such stream, or a key is of another type.
        RedisUnreachable: nobody answers.
    """
    with connected(settings) as connection:
        names = stream_names(connection, settings.streams, settings.prefix)
        streams = _streams(connection, settings, names)
        partitions = list(dict.fromkeys(one.partition for one in streams))
        report: dict[str, Any] = {}
        if options.part in (None, "stream"):
            report["streams"] = streams
        if options.part in (None, "lease"):
            report["leases"] = [look_at_lease(connection, name, settings.prefix) for name in partitions]
        if options.part in (None, "checkpoint"):
            report["checkpoints"] = {
                name: look_at_checkpoints(connection, name, settings.prefix) for name in partitions
            }
            report["generations"] = {name: look_at_generations(connection, settings, name) for name in partitions}
    hidden = len(names) - len(names[:STREAMS_MAX])
    if options.json:
        sys.stdout.write(json.dumps(_plain(report), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(report, time.time() * 1000.0)) + "\n")
        if hidden:
            sys.stdout.write(f"\nand {hidden:,} more streams: name one by --stream\n")
    return EXIT_CLEAN


def _streams(connection: RedisConnection, settings: Settings, names: list[str]) -> list[StreamSeen]:
    """Those of the streams that exist; one that was named alone has to."""
    shown = names[:STREAMS_MAX]
    seen = [look_at_stream(connection, name, settings.prefix, settings.fields.series) for name in shown]
    found = [one for one in seen if one.input is not None or one.forecasts.last_id or one.dead.last_id]
    if not found:
        raise UsageError(f"there is no stream {', '.join(settings.streams)} yet: the first XADD makes it")
    return found


def _plain(value: Any) -> Any:
    """The same in what JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else asdict(value)


def _lines(report: Mapping[str, Any], now_ms: float) -> Iterator[str]:
    sections: list[Iterable[str]] = [_stream_lines(one, now_ms) for one in report.get("streams", ())]
    sections += [_lease_lines(one) for one in report.get("leases", ())]
    generations = report.get("generations", {})
    sections += [
        _checkpoint_lines(name, keys, generations[name], now_ms) for name, keys in report.get("checkpoints", {}).items()
    ]
    for number, section in enumerate(sections):
        if number:
            yield ""
        yield from section


def _line(label: str, words: str) -> str:
    return f"  {label:<{LABEL_COLUMNS}}{words}"


def _stream_lines(seen: StreamSeen, now_ms: float) -> Iterator[str]:
    yield f"stream {seen.name}"
    if seen.input is None:
        yield _line("entries", "none: there is no such stream (any more)")
    else:
        yield from _input_lines(seen.input, now_ms)
    if seen.position is None:
        yield _line("position", "none: no daemon has read this stream")
    else:
        lag = "lag unknown" if seen.lag_ticks is None else f"lag {seen.lag_ticks:,} ticks"
        yield _line("position", f"{seen.position}   {lag}{_behind(seen)}")
    yield _line("forecasts", f"{seen.forecasts.entries:,} entries{_last(seen.forecasts.last_id)}")
    yield _line("latest", f"{seen.latest_series:,} series")
    yield _line("dead", f"{seen.dead.entries:,} letters{_last(seen.dead.last_id)}")
    if seen.dead_by_reason:
        part = f"the newest {DEAD_ENTRIES:,}: " if seen.dead.entries > DEAD_ENTRIES else ""
        counts = ", ".join(f"{reason} {count:,}" for reason, count in seen.dead_by_reason.items())
        yield _line("", part + counts)


def _input_lines(seen: InputSeen, now_ms: float) -> Iterator[str]:
    gone = max(seen.added - seen.entries, 0)
    yield _line("entries", f"{seen.entries:,}" + (f"   ({gone:,} more were trimmed or deleted)" if gone else ""))
    for label, entry_id in (("first", seen.first_id), ("last", seen.last_id if seen.added else None)):
        if entry_id:
            yield _line(label, f"{entry_id}   {_time(entry_id)}, {_age(now_ms - id_ms(entry_id))} ago")
    if seen.recent:
        newest = f"in the newest {seen.recent:,}"
        if seen.ticks_per_second is not None:
            yield _line("rate", f"{_rate(seen.ticks_per_second)} {newest}")
        yield _line("fields", _some(list(seen.fields)))
        yield _line("series", f"{len(seen.series):,} {newest}")
        yield _line("", _some(list(seen.series)))


def _lease_lines(seen: LeaseSeen) -> Iterator[str]:
    yield f"lease of partition {seen.partition}"
    if seen.owner is None:
        yield _line("owner", "none: no daemon runs, or none has taken it yet")
        return
    yield _line("owner", seen.owner)
    if seen.epoch_ms is not None:
        yield _line("since", _time(str(seen.epoch_ms)))
    yield _line("left", f"{(seen.left_ms or 0) / 1000.0:.1f} s, if it is not renewed")


def _checkpoint_lines(
    partition: str, keys: list[KeySeen], generations: list[GenerationSeen], now_ms: float
) -> Iterator[str]:
    yield f"checkpoint of partition {partition}"
    if not generations:
        yield _line("generations", "none: a start replays the streams from their first entries")
    for generation in generations:
        yield from _generation_lines(generation, now_ms)
    if not keys:
        yield _line("keys", "none in Redis")
    width = max((len(one.key) for one in keys[:KEYS_SHOWN]), default=0)
    for one in keys[:KEYS_SHOWN]:
        length = "" if one.length is None else _bytes(one.length) if one.kind == "string" else f"{one.length:,} entries"
        memory = "" if one.memory_bytes is None else f"   {_bytes(one.memory_bytes)} of memory"
        yield f"  {one.key:<{width}}   {one.kind}, {length}{memory}"
    if len(keys) > KEYS_SHOWN:
        yield _line("", f"and {len(keys) - KEYS_SHOWN:,} more keys, {_bytes(_sum(keys))} in all")


def _generation_lines(seen: GenerationSeen, now_ms: float) -> Iterator[str]:
    size = f"{seen.name}   {_bytes(seen.size_bytes)}" if seen.name else "unreadable"
    yield _line("generation", size + (f", foretick {seen.version}, schema {seen.schema}" if seen.version else ""))
    if seen.saved_ms is not None:
        yield _line("saved", f"{_time(str(seen.saved_ms))}, {_age(now_ms - seen.saved_ms)} ago")
        groups = ", ".join(f"{group} {series:,}" for group, series in seen.groups.items())
        yield _line("holds", f"{seen.series:,} series" + (f": {groups}" if len(seen.groups) > 1 else ""))
    for stream, position in list(seen.positions.items())[:SERIES_SHOWN]:
        yield _line("position", f"{position} of {stream}, {seen.entries_read[stream]:,} entries read")
    if len(seen.positions) > SERIES_SHOWN:
        yield _line("", f"and of {len(seen.positions) - SERIES_SHOWN:,} more streams")
    yield _line("state", f"not used by a start: {seen.unsound}" if seen.unsound else "sound")


def _sum(keys: list[KeySeen]) -> int:
    return sum(one.length or 0 for one in keys if one.kind == "string")


def _behind(seen: StreamSeen) -> str:
    """How far the position is behind the last entry, in time; nothing when it is not."""
    if seen.input is None or seen.position is None or not seen.lag_ticks:
        return ""
    return f", {_age(id_ms(seen.input.last_id) - id_ms(seen.position))} of arrival time"


def _last(entry_id: str | None) -> str:
    return f", up to {entry_id}" if entry_id else ""


def _time(entry_id: str) -> str:
    try:
        return f"{datetime.fromtimestamp(id_ms(entry_id) / 1000.0, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError):
        return "no time"  # an id that somebody chose


def _age(milliseconds: float) -> str:
    seconds = max(milliseconds, 0.0) / 1000.0
    for length, unit in AGES:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f} ticks/s" if per_second >= 0.1 else f"{per_second * 3600:,.1f} ticks/h"


def _bytes(count: float) -> str:
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == UNITS[0] else f"{count:.1f} {unit}"


def _some(names: list[str]) -> str:
    """The first names, as many as fit into the line."""
    shown: list[str] = []
    for name in names[:SERIES_SHOWN]:
        if shown and len(", ".join([*shown, name])) > WIDTH - LABEL_COLUMNS - 16:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
