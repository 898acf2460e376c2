"""The wire contract: key names, entries to ticks, forecasts and dead letters to fields; nothing here talks to Redis."""

from foretick.ports.wire.columns import DeadLetter, Decoded, Entry, decode, refusals, take
from foretick.ports.wire.entry import FieldNames, Reason
from foretick.ports.wire.keys import (
    DEFAULT_PARTITION,
    dead_key,
    forecasts_key,
    latest_key,
    lease_key,
    origin_key,
    partition_of,
    tag_of,
)
from foretick.ports.wire.publish import Published, dead_fields, forecast_fields, latest_fields

__all__ = [
    "DEFAULT_PARTITION",
    "DeadLetter",
    "Decoded",
    "Entry",
    "FieldNames",
    "Published",
    "Reason",
    "dead_fields",
    "dead_key",
    "decode",
    "forecast_fields",
    "forecasts_key",
    "latest_fields",
    "latest_key",
    "lease_key",
    "origin_key",
    "partition_of",
    "refusals",
    "tag_of",
    "take",
]
