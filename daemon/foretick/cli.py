"""The command line: verbs, flags, exit statuses.

Only what `--help` and `--version` need is imported at the top; each verb brings in its own part of the app, so that
nobody waits for torch who does not need it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from foretick import __version__
from foretick.app import fit_flags
from foretick.app.verbs import add_backtest, add_verbs
from foretick.errors import EXIT_BUG, ForetickError, UsageError
from foretick.ports.masking import mask_passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from foretick.app.settings_load import Loaded

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of our output went away, as in `foretick check | head -1`

_MAIN_TEXT = """\
Online forecasting of live Redis streams: ticks in, forecasts out, learning as it runs.

  foretick demo                                     see it work on this computer's own sensors
  foretick run --embedded                           the daemon with a private server: no Redis to install
  foretick run --redis-url redis://localhost:6379   the daemon on your Redis (7.0 or newer) or Valkey
  foretick check                                    the settings in force, and what they reach
  foretick fit history.csv                          teach the network on recorded ticks, to begin with
  foretick produce history.csv --speed 60x          ticks into the stream; watch, inspect: what became of them

exit status: 0 clean, 2 usage or settings, 3 Redis unreachable at start, 4 state unreadable,
5 the device failed, 70 a bug
"""

_RUN_TEXT = """\
Reads ticks from a stream, writes a forecast for each, learns on the way, until SIGTERM or Ctrl-C.

  foretick run --embedded
  foretick run --redis-url redis://localhost:6379 --stream ticks
  foretick run --config /etc/foretick/foretick.toml --set lease.ttl=5s --set learn.enabled=false
  FORETICK_REDIS__URL=redis://localhost:6379 FORETICK_HTTP__PORT=0 foretick run

then, from anywhere:  redis-cli XADD ticks '*' series boiler-7 value 71.3
"""

_CHECK_TEXT = """\
Prints every setting with its value and where it came from (secrets masked), then tries what they point to:
the server and its version, the stream, the HTTP port. Changes nothing.

  foretick check --redis-url redis://localhost:6379

exit status: 0 all fine, 2 something to correct, 3 Redis unreachable
"""

_DEMO_TEXT = """\
Starts a private server, live ticks from this computer's own sensors, the daemon, and a live view of its forecasts.
Ctrl-C ends everything and leaves nothing behind.

  foretick demo
  foretick demo --seconds 30 --plain
"""

_SETTINGS_TEXT = (
    "Every setting has a name, as `foretick check` prints it. Later sources win: defaults, file, environment, flags."
)


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are a `UsageError` like any other wrong setting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def flags(self) -> list[str]:
        """Every flag that it knows."""
        return [flag for action in self._actions for flag in action.option_strings]


class _SettingFlag(argparse.Action):
    """Collects settings in the order of the command line, as (name, value, flag)."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        text = option_string or ""
        name, value = self.const, "true" if self.nargs == 0 else values
        if name is None:
            name, equals, value = values.partition("=")
            if not equals:
                parser.error(f"--set {values} has no =: write --set name=value, such as --set http.port=9464")
            text = f"--set {name}"
        namespace.flags = [*namespace.flags, (name.strip(), value, text)]


def _settings_flags(*, daemon: bool = True) -> argparse.ArgumentParser:
    """The flags that every verb with settings has; those of the daemon alone on demand."""
    parent = _Parser(add_help=False)
    group = parent.add_argument_group("settings", _SETTINGS_TEXT)
    group.set_defaults(flags=[])
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file (default: foretick.toml here, else /etc/foretick/foretick.toml, where there is one)",
    )

    def add(flag: str, name: str | None, metavar: str | None, text: str) -> None:
        nargs = 0 if metavar is None else None
        group.add_argument(flag, action=_SettingFlag, const=name, nargs=nargs, metavar=metavar, dest="flags", help=text)

    if daemon:
        add("--embedded", "embedded", None, "start a private Valkey, its data in state_dir; instead of --redis-url")
    add("--redis-url", "redis.url", "URL", "redis://HOST:6379, rediss://HOST:6379 (TLS) or unix:///PATH")
    add("--stream", "streams", "KEY", "the stream of ticks (default: ticks)")
    if daemon:
        add("--start", "start", "WHERE", "at the first run, begin at the earliest entry (default) or after the latest")
        add("--http-port", "http.port", "PORT", "metrics and probes (default: 9464; 0 takes any free one)")
        add("--device", "device", "DEVICE", "where the network computes: cpu (as auto, the default), cuda, or cuda:1")
        add("--log-level", "log.level", "LEVEL", "debug, info (default), warning or error")
    add("--set", None, "NAME=VALUE", "any setting: --set lease.ttl=5s --set fields.value=price; may be repeated")
    return parent


def _build_parser() -> _Parser:
    parser = _Parser(prog="foretick", description=_MAIN_TEXT)
    parser.add_argument("--version", action="version", version=f"foretick {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    settings = _settings_flags()

    def add(verb: str, act: Callable[[argparse.Namespace], int], text: str, brief: str, **options: Any) -> Any:
        added = verbs.add_parser(verb, help=brief, description=text, **options)
        added.set_defaults(act=act, parser=added)
        return added

    run = add("run", _run, _RUN_TEXT, "the daemon", parents=[settings])
    run.add_argument(
        "--discard-state",
        action="store_true",
        help="forget checkpoints from before now, and learn from the streams again; needed after a change of the model",
    )
    add("check", _check, _CHECK_TEXT, "the settings in force, and what they reach", parents=[settings])
    demo = add("demo", _demo, _DEMO_TEXT, "everything at once, live, on this computer")
    demo.add_argument("--seconds", type=_seconds, metavar="N", help="end by itself after so long (default: Ctrl-C)")
    demo.add_argument("--plain", action="store_true", help="one line a second instead of the live table")
    add_backtest(add, _backtest, settings)
    brief = "the network, taught on recorded ticks before its first live one"
    fit_flags.add_fit(add("fit", _fit, fit_flags.TEXT, brief, parents=[_settings_flags(daemon=False)]))
    add_verbs(add, _beside, _settings_flags(daemon=False))
    return parser


def _seconds(text: str) -> float:
    from foretick.app.values import parse_duration  # noqa: PLC0415  only when the flag is there

    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, such as 30") from None


def _load(arguments: argparse.Namespace) -> Loaded:
    from foretick.app.settings_load import load  # noqa: PLC0415  pydantic takes longer than --help
    from foretick.app.settings_sources import Flag  # noqa: PLC0415  likewise

    return load([Flag(*flag) for flag in arguments.flags], config=arguments.config)


def _start_logging(loaded: Loaded) -> None:
    from foretick.ports.logs import configure_logging  # noqa: PLC0415  `check` and `demo` do not log

    configure_logging(loaded.settings.log.level, loaded.settings.log.format)


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Around what prints a result: when its reader goes away, there is nothing more to do and nothing wrong."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        sys.exit(EXIT_BROKEN_PIPE)


def _run(arguments: argparse.Namespace) -> int:
    from foretick.app.settings_load import require_redis  # noqa: PLC0415  as above

    loaded = _load(arguments)
    require_redis(loaded.settings)
    _start_logging(loaded)
    from foretick.app import lifecycle  # noqa: PLC0415  torch takes seconds: wrong settings are told at once

    return lifecycle.run(loaded.settings, discard_state=arguments.discard_state, load=lambda: _load(arguments).settings)


def _check(arguments: argparse.Namespace) -> int:
    from foretick.app import check  # noqa: PLC0415  needs no torch

    with _reader_may_leave():
        return check.run(_load(arguments))


def _demo(arguments: argparse.Namespace) -> int:
    from foretick.app import demo  # noqa: PLC0415  needs the demo extra

    return demo.run(arguments)


def _backtest(arguments: argparse.Namespace) -> int:
    loaded = _load(arguments)
    _start_logging(loaded)
    from foretick.app import backtest  # noqa: PLC0415  torch takes seconds

    with _reader_may_leave():
        return backtest.run(loaded.settings, arguments)


def _fit(arguments: argparse.Namespace) -> int:
    fit_flags.check(arguments)
    loaded = _load(arguments)
    from foretick.app import fit, fit_windowed  # noqa: PLC0415  torch takes seconds

    with _reader_may_leave():
        return int((fit if arguments.window is None else fit_windowed).run(loaded.settings, arguments))


def _beside(arguments: argparse.Namespace) -> int:
    from foretick.app import inspect, produce, resend, watch  # noqa: PLC0415  as above

    acts: dict[str, Callable[..., int]] = {
        "produce": produce.run,
        "watch": watch.run,
        "inspect": inspect.run,
        "resend": resend.run,
    }
    with _reader_may_leave():
        return acts[arguments.verb](_load(arguments).settings, arguments)


def _act(argv: Sequence[str] | None) -> int:
    parser = _build_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.verb is None and not unknown:
        parser.print_help(sys.stderr)
        return UsageError.exit_code
    if unknown:
        asked: _Parser = parser if arguments.verb is None else arguments.parser
        found = difflib.get_close_matches(unknown[0].partition("=")[0], asked.flags(), n=1)
        asked.error(f"unknown argument {unknown[0]}" + (f": did you mean {found[0]}?" if found else ""))
    return int(arguments.act(arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit status; every error becomes a line on standard error."""
    try:
        return _act(argv)
    except ForetickError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            sys.stderr.write(f"foretick: {mask_passwords(line)}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001  the last line of defence: a bug, shown whole
        sys.stderr.write(mask_passwords(traceback.format_exc()))
        sys.stderr.write(f"foretick: this is a bug in foretick {__version__}: please report it with the lines above\n")
        return EXIT_BUG
