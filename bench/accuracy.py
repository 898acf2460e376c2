"""Accuracy and cost of foretick's profiles beside their peers, on real series; writes docs/accuracy.md.

    make accuracy                                       everything: about half an hour on one core
    cd bench && ../.venv-bench/bin/python accuracy.py --only naive,snarimax,lean
    FORETICK_TEST_DATA=/where/it/is/dev.csv.gz make accuracy

Every row is kept in build/accuracy, with its date and commit, so that `--only` renews some of them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "daemon"))

from peers import PEERS, Peer  # noqa: E402  likewise

from foretick.core.accuracy import score_series, summarise_ratios  # noqa: E402  found by the line above
from foretick.core.recipe import SeasonRecipe  # noqa: E402  likewise
from foretick.core.seasons import season_ticks  # noqa: E402  likewise

DATA = REPOSITORY.parent / "shared" / "data" / "dev.csv.gz"
PROFILES = ("accurate", "balanced", "lean")
KEPT = REPOSITORY / "build" / "accuracy"
PAGE = REPOSITORY / "docs" / "accuracy.md"
BEGIN, END = "<!-- table: written by bench/accuracy.py -->", "<!-- end of table -->"
BURN_IN_TICKS = 200
RATIO_MAX = 10.0  # rel-MAE of a series that diverged, in the means
HEAD = ("model", "gm", "bal", "harm", "worst", "diverged", "µs/tick", "on", "measured")


def read(path: Path) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Event times and values by (source, series)."""
    rows: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["source"], row["series"]].append((int(row["ts"]), float(row["value"])))
    return {key: (np.array([ts for ts, _ in one]), np.array([y for _, y in one])) for key, one in rows.items()}


def measure_peer(peer: Peer, data: dict[tuple[str, str], tuple[Any, Any]]) -> dict[str, Any]:
    """Run a peer over its part of the data, one series after another."""
    keys = keys_for(peer, data)
    ratios, source_of, ticks, seconds = {}, {}, 0, 0.0
    peer.forecast(data[keys[0]][1][:50], 0)  # imports
    for key in keys:
        ts, y = (column[: peer.ticks] for column in data[key])
        season = season_ticks(ts, SeasonRecipe())
        began = time.process_time()  # others may be busy beside us
        with np.errstate(all="ignore"):
            forecasts = peer.forecast(y, season)
        seconds += time.process_time() - began
        ticks += len(y)
        name = "/".join(key)
        finite = bool(np.isfinite(forecasts).all())
        ratios[name] = score_series(y, np.where(np.isfinite(forecasts), forecasts, y), BURN_IN_TICKS).rel_mae
        if not finite and np.isfinite(ratios[name]):
            ratios[name] = np.inf
        source_of[name] = key[0]
    on = f"{len(keys)} series, first {peer.ticks:,} ticks" if peer.ticks else f"{len(keys)} series"
    return row_of(peer.name, ratios, source_of, seconds / ticks * 1e6, on)


def keys_for(peer: Peer, data: dict[tuple[str, str], tuple[Any, Any]]) -> list[tuple[str, str]]:
    """The series that a peer gets: all, or some evenly spread over the list where it is slow."""
    keys = list(data)
    if peer.series is None or peer.series >= len(keys):
        return keys
    return [keys[round(i)] for i in np.linspace(0, len(keys) - 1, peer.series)]


def measure_beside(peer: Peer, data: dict[tuple[str, str], tuple[Any, Any]]) -> dict[str, Any]:
    """Run `accurate` over the very ticks that a slow peer got, so that the two compare."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("source", "series", "ts", "value"))
            for key in (keys := keys_for(peer, data)):
                ts, y = (column[: peer.ticks].tolist() for column in data[key])
                writer.writerows((*key, one_ts, repr(one_y)) for one_ts, one_y in zip(ts, y, strict=True))
        row = measure_profile("accurate", path)
    return row | {
        "model": f"foretick, the ticks of {peer.name}",
        "on": f"{len(keys)} series, first {peer.ticks:,} ticks",
    }


def measure_profile(profile: str, path: Path) -> dict[str, Any]:
    """Run `foretick backtest` with a profile over everything."""
    command = [str(REPOSITORY / ".venv" / "bin" / "foretick"), "backtest", str(path), "--json"]
    done = subprocess.run(
        [*command, "--set", f"profile={profile}", "--burn-in", str(BURN_IN_TICKS)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    ratios = {name: np.nan if one["rel_mae"] is None else one["rel_mae"] for name, one in found["series"].items()}
    source_of = {name: one["source"] for name, one in found["series"].items()}
    row = row_of(
        f"**foretick, `{profile}`**", ratios, source_of, 1e6 / found["ticks_per_second"], f"{len(ratios)} series"
    )
    coverage = found["summary"]["coverage"]
    return row | {"coverage": coverage, "near": found["summary"]["coverage_within_2_points"]}


def row_of(
    name: str, ratios: dict[str, float], source_of: dict[str, str], us_per_tick: float, on: str
) -> dict[str, Any]:
    """A row of the table; a series that diverged counts as ten times naive in the means."""
    diverged = sum(ratio > RATIO_MAX for ratio in ratios.values())
    capped = {key: min(ratio, RATIO_MAX) for key, ratio in ratios.items()}
    found = summarise_ratios(capped, source_of)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True, cwd=REPOSITORY
    ).stdout.strip()
    return {
        "model": name,
        "gm": found.gm,
        "bal": found.bal,
        "harm": found.harm,
        "worst": found.worst,
        "diverged": diverged,
        "us_per_tick": us_per_tick,
        "on": on,
        "measured": f"{datetime.now(UTC):%Y-%m-%d}, {commit}",
    }


def as_line(row: dict[str, Any]) -> str:
    worst = f"> {RATIO_MAX:g}" if row["worst"] >= RATIO_MAX else f"{row['worst']:.3f}"
    cost = "–" if row["us_per_tick"] < 0.1 else f"{row['us_per_tick']:,.1f}"
    cells = (f"{row['gm']:.3f}", f"{row['bal']:.3f}", f"{row['harm']:.1%}", worst, str(row["diverged"] or "–"), cost)
    return "| " + " | ".join((row["model"], *cells, row["on"], row["measured"])) + " |"


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---:|---:|---:|---:|---:|---:|---|---|", *map(as_line, rows)]
    covered = [row for row in rows if "coverage" in row]
    lines += [""] * bool(covered)
    for row in covered:
        held = ", ".join(
            f"{float(level):.0%} intervals held {share:.1%} (within two points in {row['near'][level]:.0%} of series)"
            for level, share in row["coverage"].items()
        )
        lines.append(f"- {row['model']}: {held}.")
    return "\n".join(lines)


def write_page(text: str) -> None:
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> int:
    slow = {f"beside-{name}": peer for name, peer in PEERS.items() if peer.ticks}
    names = [*PEERS, *slow, *PROFILES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(os.environ.get("FORETICK_TEST_DATA", DATA)))
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not arguments.data.exists():
        print(f"no series in {arguments.data}: name a CSV of source, series, ts, value, or set FORETICK_TEST_DATA")
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    data = read(arguments.data)
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        if name in PROFILES:
            row = measure_profile(name, arguments.data)
        else:
            row = measure_beside(slow[name], data) if name in slow else measure_peer(PEERS[name], data)
        (KEPT / f"{name}.json").write_text(json.dumps(row))
    rows = [json.loads((KEPT / f"{name}.json").read_text()) for name in names if (KEPT / f"{name}.json").exists()]
    text = table(rows)
    print(text)
    write_page(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
