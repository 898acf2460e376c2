"""The wire contract: key names, entries to ticks, forecasts and dead letters to fields; nothing here talks to Redis."""

from foretick.ports.slots import tag_of
from foretick.ports.wire.columns import Entry, decode
from foretick.ports.wire.decoded import DeadLetter, Decoded, keyed, refusals
from foretick.ports.wire.entry import FieldNames, Reason
from foretick.ports.wire.keys import (
    DEFAULT_PARTITION,
    checkpoint_key,
    dead_key,
    forecasts_key,
    latest_key,
    lease_key,
    members_key,
    origin_key,
    partition_of,
    series_key,
    skipped_key,
    split_series_key,
)
from foretick.ports.wire.many import publications
from foretick.ports.wire.packed import Packed, Publication
from foretick.ports.wire.publish import Published, dead_fields, forecast_fields

__all__ = [
    "DEFAULT_PARTITION",
    "DeadLetter",
    "Decoded",
    "Entry",
    "FieldNames",
    "Packed",
    "Publication",
    "Published",
    "Reason",
    "checkpoint_key",
    "dead_fields",
    "dead_key",
    "decode",
    "forecast_fields",
    "forecasts_key",
    "keyed",
    "latest_key",
    "lease_key",
    "members_key",
    "origin_key",
    "partition_of",
    "publications",
    "refusals",
    "series_key",
    "skipped_key",
    "split_series_key",
    "tag_of",
]
