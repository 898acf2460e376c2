"""Flags and help of the verbs beside the daemon: backtest, produce, watch, inspect, resend.

Imports nothing that takes time.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Act = Callable[[argparse.Namespace], int]
    AddVerb = Callable[..., argparse.ArgumentParser]

_PRODUCE_TEXT = """\
Pushes ticks into a stream: recorded ones from CSV files, live ones from standard input or this computer's sensors.

  foretick produce history.csv --speed 60x --redis-url redis://localhost:6379
  foretick produce january.csv.gz february.csv.gz --speed max --maxlen 1000000
  my-meter | foretick produce -                    lines such as {"series": "boiler-7", "value": 71.3}
  foretick produce --sensors                       processor, memory, network, disks, ten times a second

CSV: a header with series, ts (Unix milliseconds) and value; files are merged by ts. Rows that are no ticks are
named, counted and left out. A lost connection is outlasted; then some ticks may be sent twice, and it says how many.
Ctrl-C ends it and tells what was sent.

exit status: 0 all sent, 2 usage or settings, 3 Redis unreachable at start, 130 a recording was cut short
"""

_WATCH_TEXT = """\
Follows the forecasts of a stream in the terminal, beginning with the last ones there are. Ctrl-C ends it.

  foretick watch --redis-url redis://localhost:6379     every series, a line each
  foretick watch --worst                                those with the lowest skill on top
  foretick watch boiler-7                               one series: actual against forecast
  foretick watch boiler-7 | tee boiler.log              without a terminal: a line for every forecast

skill is 1 - |error| / |naive error| over the ticks on the screen's record; naive: the next value is the last.
"""

_INSPECT_TEXT = """\
Tells what a stream holds and how far its forecasts are, who owns its partition, and which checkpoints there are.
Changes nothing.

  foretick inspect --redis-url redis://localhost:6379
  foretick inspect stream --stream ticks --json
  foretick inspect lease

exit status: 0 found, 2 usage, settings, or no such stream, 3 Redis unreachable
"""

_RESEND_TEXT = """\
Sends dead letters again: each becomes a new entry of its input stream, with its original fields, once. For when what
made them unusable is mended: a setting such as fields.value, max_series, or a daemon's fault.

  foretick resend --dry-run                        what there is, by reason; changes nothing
  foretick resend --reason missing_field
  foretick resend --since 1763712000000

Left alone: late and duplicate ticks, unless --reason names them, since they would be late and duplicate again; and
letters whose fields were too long or no UTF-8 and so are not kept whole. A tick without ts is one of now.

exit status: 0 done, 2 usage or settings, 3 Redis unreachable
"""

_BACKTEST_TEXT = """\
Runs the daemon's very own engine over recorded ticks and tells how its forecasts did against the naive ones.

  foretick backtest history.csv
  foretick backtest january.parquet february.csv.gz --json --set season=24h,7d
  foretick backtest history.csv --html report.html                     a page: every series, pictures, settings
  foretick backtest history.csv --plot out.png --series boiler-7
  foretick backtest 'redis://localhost:6379/0?stream=ticks'            what a stream holds; nothing is written
  foretick backtest 'redis://localhost:6379/0?stream=ticks' --verify   did the daemon publish the same, to the bit?

Files have series, ts (Unix milliseconds), value and optionally source; they are merged by ts. --verify needs the
daemon's own settings, and the stream from its first entry on.

exit status: 0 done, 1 --verify found a difference or could not compare, 2 usage or settings, 3 Redis unreachable
"""


def add_backtest(add: AddVerb, act: Act, settings: argparse.ArgumentParser) -> None:
    """Add the verb `backtest` to the command line, as `add_verbs` does."""
    parser = add("backtest", act, _BACKTEST_TEXT, "the engine over recorded ticks", parents=[settings])
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="CSV or Parquet of ticks, or redis://HOST/0?stream=KEY"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument(
        "--by", choices=("series", "source"), help="lines of the table (default: source where there are several)"
    )
    parser.add_argument(
        "--burn-in",
        type=_ticks,
        default=200,
        metavar="TICKS",
        help="ticks at the beginning of each series that are not scored (default: 200)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a series: needs foretick[plot]")
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="write the whole report as one page")
    parser.add_argument(
        "--series", default="worst", metavar="ID", help="which one: worst (default), best, or a series id"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare with what the daemon published for the stream, bit for bit"
    )


def add_verbs(add: AddVerb, act: Act, settings: argparse.ArgumentParser) -> None:
    """Add the four verbs to the command line.

    Args:
        add: makes a verb's parser from its name, act, description and brief.
        act: what any of them does.
        settings: the flags for settings that they share.
    """
    _add_produce(add("produce", act, _PRODUCE_TEXT, "ticks into a stream", parents=[settings]))
    _add_watch(add("watch", act, _WATCH_TEXT, "the forecasts, live in the terminal", parents=[settings]))
    inspect = add("inspect", act, _INSPECT_TEXT, "what Redis holds of a stream", parents=[settings])
    inspect.add_argument(
        "part", nargs="?", choices=("stream", "lease", "checkpoint"), help="only this part (default: all)"
    )
    inspect.add_argument("--json", action="store_true", help="the same as JSON on standard output")
    _add_resend(add("resend", act, _RESEND_TEXT, "dead letters again into the stream", parents=[settings]))


def _add_produce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="CSV of ticks, or - for lines of JSON")
    parser.add_argument("--sensors", action="store_true", help="this computer's sensors, ten ticks a second each")
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="1x|60x|max",
        help="the recording's own pace, so many times faster, or flat out (default: 1x for files, max for lines)",
    )
    parser.add_argument("--maxlen", type=_count, metavar="N", help="keep about the newest N entries of the stream")
    parser.add_argument(
        "--partitions",
        type=_count,
        metavar="N",
        help="spread the series over the streams ticks:{0} … ticks:{N-1}, by crc32(series id) mod N",
    )
    parser.add_argument(
        "--max-lag", type=_count, metavar="TICKS", help="wait while the daemon is more than so many ticks behind"
    )
    parser.add_argument(
        "--without-ts", action="store_true", help="leave ts out: each tick is one of the time it arrives"
    )
    parser.add_argument("--strict", action="store_true", help="the first row that is no tick ends it")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("series", nargs="?", metavar="SERIES", help="only this one, in detail")
    parser.add_argument("--worst", action="store_true", help="the series with the lowest skill on top")
    parser.add_argument("--plain", action="store_true", help="lines also on a terminal")
    parser.add_argument("--seconds", type=_positive_seconds, metavar="N", help="end by itself after so long")


def _add_resend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="REASON", help="only dead letters with this reason")
    parser.add_argument(
        "--since", type=_entry_id, metavar="ID", help="only those from this entry id on (or milliseconds)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be sent")


def _ticks(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of ticks: write a whole number, such as 200")
    return int(text)


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if match is None or float(match[1]) == 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: write 1x, 60x or max")
    return float(match[1])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: write a whole number from 1 on")
    return int(text)


def _positive_seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, such as 30")
    return float(text)


def _entry_id(text: str) -> str:
    if not re.fullmatch(r"\d{1,19}(-\d{1,19})?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no entry id: write milliseconds or an id, such as 1763712000000-0"
        )
    return text
