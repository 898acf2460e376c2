"""Flags and help of `foretick fit`. Imports nothing that takes time."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT = """\
Teaches the network on recorded ticks, so that `run` and `backtest` need not begin with an empty head. The last fifth
of each series is kept apart and tells how good it became; the best epoch on another tenth is what is written.

  foretick fit history.csv                            writes weights.safetensors
  foretick run --set model.init=weights.safetensors   begins with it, where there is no checkpoint yet
  foretick fit history.csv --epochs 5 --plot fit.png --set model.hidden=32

With --window it teaches a windowed network instead, as tutorials build them: every forecast from a zero state over the
last rows. To compare, on the same files; nothing runs on it.

  foretick fit history.csv --window 10
  foretick fit prices.csv --window 10 --cell gru --layers 2 --features open,high,low,close --targets close
  foretick fit counts.csv --window 3 --epochs 500 --continue 5

exit status: 0 done, 2 usage, settings, or files that cannot be used
"""

OUTPUT = Path("weights.safetensors")
EPOCHS, WINDOWED_EPOCHS = 4, 50
_WINDOWED = "windowed networks"


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Give the verb its flags."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="CSV: series, ts, value; may be gzipped")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where the weights go (default: {OUTPUT})")
    parser.add_argument("--group", metavar="NAME", help="teach this group of the settings, on its own series only")
    parser.add_argument(
        "--epochs", type=_whole(1, 100_000), metavar="N", help=f"passes (default: {EPOCHS}, windowed {WINDOWED_EPOCHS})"
    )
    parser.add_argument(
        "--patience",
        type=_whole(1, 100_000),
        metavar="N",
        help="end after N epochs that were no better (1, windowed 10)",
    )
    parser.add_argument(
        "--split", type=_share, default=0.8, metavar="SHARE", help="of each series, the part to learn from (0.8)"
    )
    parser.add_argument("--seed", type=_whole(0, 2**63 - 1), metavar="N", help="of all chance (default: model.seed)")
    parser.add_argument("--plot", type=_picture, metavar="PNG", help="a picture of the test part (foretick[plot])")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    _add_windowed(parser.add_argument_group(_WINDOWED, "All need --window."))


def _add_windowed(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--window", type=_whole(1, 10_000), metavar="W", help="rows that each forecast sees, such as 10")
    group.add_argument("--cell", choices=("lstm", "gru", "rnn"), help="kind of unit (default: lstm)")
    group.add_argument("--hidden", type=_whole(1, 4096), metavar="N", help="units per layer (default: 32)")
    group.add_argument("--layers", type=_whole(1, 4), metavar="N", help="1 to 4, stacked (default: 1)")
    group.add_argument("--dropout", type=_dropout, metavar="SHARE", help="units silenced while it learns (default: 0)")
    group.add_argument("--bidirectional", action="store_const", const=True, help="read the window backwards as well")
    group.add_argument("--scaling", choices=("minmax", "standard"), help="by the training part (default: minmax)")
    group.add_argument("--features", type=_columns, metavar="A,B", help="columns that it sees (default: value)")
    group.add_argument("--targets", type=_columns, metavar="A,B", help="columns to forecast (default: the features)")
    group.add_argument("--ahead", type=_whole(0, 10_000), metavar="N", help="rows ahead; 0: the same row (default: 1)")
    group.add_argument("--optimizer", choices=("sgd", "adam"), help="default: adam")
    group.add_argument("--rate", type=_rate, metavar="R", help="learning rate at first (default: 0.01)")
    group.add_argument("--batch", type=_whole(1, 1_000_000), metavar="N", help="windows per step (default: 64)")
    group.add_argument("--loss", choices=("mse", "mae"), help="squared or absolute (default: mse)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="auto: cuda where there is one (default: cpu)")
    group.add_argument(
        "--continue", type=_whole(1, 100_000), metavar="N", dest="extend", help="tell N more values of each series"
    )


WINDOWED_FLAGS = {
    "cell": "--cell",
    "hidden": "--hidden",
    "layers": "--layers",
    "dropout": "--dropout",
    "bidirectional": "--bidirectional",
    "scaling": "--scaling",
    "features": "--features",
    "targets": "--targets",
    "ahead": "--ahead",
    "optimizer": "--optimizer",
    "rate": "--rate",
    "batch": "--batch",
    "loss": "--loss",
    "device": "--device",
    "extend": "--continue",
}


def check(arguments: argparse.Namespace) -> None:
    """See that the flags go together.

    Raises:
        UsageError: some do not.
    """
    given = [flag for name, flag in WINDOWED_FLAGS.items() if getattr(arguments, name) is not None]
    if arguments.window is None:
        if given:
            settings = {"--hidden": "model.hidden", "--layers": "model.layers"}
            instead = next((f", or --set {settings[flag]}=… for ours" for flag in given if flag in settings), "")
            raise UsageError(f"{given[0]} is of windowed networks: name --window too{instead}")
        return
    for name, flag in (("output", "--output"), ("group", "--group")):
        if getattr(arguments, name) is not None:
            raise UsageError(f"{flag} and --window exclude each other: nothing runs on a windowed network")
    features = arguments.features or ("value",)
    shared = set(features) & set(arguments.targets or features)
    if arguments.ahead == 0 and shared:
        raise UsageError(f"--ahead 0 would show it the answer: {min(shared)} is both a feature and a target")
    if arguments.extend and set(arguments.targets or features) != set(features):
        raise UsageError("--continue feeds forecasts back: the targets have to be the features")


def _whole(least: int, most: int) -> Any:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text) else None


def _share(text: str) -> float:
    share = _number(text)
    if share is None or not 0.1 <= share <= 0.95:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write a number from 0.1 to 0.95, such as 0.8")
    return share


def _dropout(text: str) -> float:
    share = _number(text)
    if share is None or not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write a number from 0 to under 1, such as 0.2")
    return share


def _rate(text: str) -> float:
    rate = _number(text)
    if rate is None or not 0 < rate <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: write a number such as 0.01")
    return rate


def _columns(text: str) -> Sequence[str]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} are no columns: write names with commas, each once")
    return names


def _picture(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r} is no picture: write a name that ends in .png")
    return Path(text)
