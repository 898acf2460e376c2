"""Draws docs/speed.svg, and writes the tables of docs/performance.md and the README, from docs/speed.json: `make docs`.

`make bench` writes that file, and runs this.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictures import styled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCS = Path(__file__).resolve().parents[1]
FOUND, PICTURE = DOCS / "speed.json", DOCS / "speed.svg"
PAGE, README = DOCS / "performance.md", DOCS.parent / "README.md"
WIDTH, LEFT, RIGHT = 720, 178, 128  # px; names stand to the left of the bars, figures to the right
ROW, BAR, HEAD, LEGEND = 17, 11, 24, 30  # px: heights
AIR = 1.04  # of the axis beyond the longest bar that is drawn whole
PARTS = {  # of a tick's time: its colour and its name
    "server": ("expert-0", "Redis"),
    "decode": ("expert-1", "decode"),
    "engine": ("expert-3", "engine"),
    "encode": ("expert-2", "text"),
    "rest": ("expert-4", "client: socket, loop, model"),
    "learning": ("expert-5", "learning"),
}
IN_SHORT = {
    "C floor": "C: the same work of Redis, nothing computed",
    "redis-py echo": "the plainest redis-py echo, no model",
    "foretick lean, learning off": "foretick, learning off",
    "foretick lean, learning on": "foretick, learning as it goes",
}
PARTS_COLUMNS = ((("least", "median"), 1), (("alone_least", "alone"), 0))  # and digits behind the point
COMPUTED = ("decode", "engine", "encode")


def parts_of(row: dict[str, Any], still: dict[str, Any]) -> dict[str, float]:
    """The parts of a tick's time on the core, µs.

    Stages of a turn are timed by the wall clock. What is beyond the time on the core is other programs' and shared out.

    Args:
        row: what was found of one consumer.
        still: the same of foretick without learning, on the same stream; what is beyond that is learning.
    """
    if row["consumer"].endswith("learning on"):
        fewer = min(1.0, row["core_us"] / still["core_us"])  # less than without learning is noise
        parts = {part: micros * fewer for part, micros in parts_of(still, still).items()}
        return {**parts, "learning": max(row["core_us"] - still["core_us"], 0.0)}
    client = row["core_us"] - row["server_us"]
    stages = {stage: row[f"{stage}_us"] for stage in COMPUTED if f"{stage}_us" in row}
    share = min(1.0, client / max(sum(stages.values()), 1e-9))
    stages = {stage: micros * share for stage, micros in stages.items()}
    return {"server": row["server_us"], **stages, "rest": client - sum(stages.values())}


def by_stream(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What was found, by the stream that was read; the heading of each."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['series']:,} series, {row['profile']}", []).append(row)
    return groups


def bar(y: float, parts: dict[str, float], px_per_micro: float) -> Iterator[str]:
    """One tick's time from left to right; a bar that does not fit is torn, and shows the shares only."""
    x, end, total = float(LEFT), WIDTH - RIGHT, sum(parts.values())
    is_torn = total * px_per_micro > end - LEFT
    for part, micros in parts.items():
        width = micros * ((end - LEFT) / total if is_torn else px_per_micro)
        told = f"<title>{PARTS[part][1]}: {micros:,.1f} µs</title>"
        place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"'
        yield f'<rect class="{PARTS[part][0]}" {place}>{told}</rect>'
        x += width
    if is_torn:
        tear = f"M{end - 12} {y + BAR + 2}l5 -{BAR + 4}h4l-5 {BAR + 4}z"
        yield f'<path d="{tear}" fill="var(--paper)"/>'


def legend() -> Iterator[str]:
    """The colours, and what the figures are, in a line."""
    x = 14.0
    for colour, name in PARTS.values():
        yield f'<rect class="{colour}" x="{x:.0f}" y="10" width="14" height="9" rx="2"/>'
        yield f'<text x="{x + 18:.0f}" y="18">{escape(name)}</text>'
        x += 32 + 4.9 * len(name)
    yield from figures("µs per tick", "ticks/s", 18)


def figures(cost: str, rate: str, y: float) -> Iterator[str]:
    """Two columns at the right."""
    for x, text in ((WIDTH - 68, cost), (WIDTH - 12, rate)):
        yield f'<text x="{x}" y="{y}" text-anchor="end">{text}</text>'


def picture(found: dict[str, Any]) -> str:
    """Every consumer's time per tick, stream by stream."""
    groups = by_stream(found["rows"])
    whole = [row["core_us"] for row in found["rows"] if row["series"] >= 1_000]  # the others are torn
    scale = (WIDTH - LEFT - RIGHT) / (AIR * max(whole or [row["core_us"] for row in found["rows"]]))
    parts, y = [*legend()], float(LEGEND)
    for heading, rows in groups.items():
        y += HEAD
        parts.append(f'<text x="14" y="{y - 5}" style="fill: var(--ink); font-weight: 600">{escape(heading)}</text>')
        still = next((row for row in rows if row["consumer"].endswith("learning off")), rows[0])
        for row in rows:
            name = row["consumer"].replace(f" {row['profile']},", ",")
            parts.append(f'<text x="{LEFT - 8}" y="{y + BAR - 2}" text-anchor="end">{escape(name)}</text>')
            parts += bar(y, parts_of(row, still), scale)
            parts += figures(f"{row['core_us']:,.1f}", f"{1e6 / row['core_us']:,.0f}", y + BAR - 2)
            y += ROW
    label = "time per tick on one core, Redis included, beside peers"
    return f'<svg viewBox="0 0 {WIDTH} {y + 8:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def throughput_table(found: dict[str, Any]) -> str:
    """Every consumer on every stream, in Markdown."""
    names = ("series", "ticks of each", "consumer", "ticks/s of the core", "µs per tick", "of it Redis", "of the floor")
    lines = [f"| {' | '.join(names)} | of the echo |", "|---:|---:|---|---:|---:|---:|---:|---:|"]
    for row in found["rows"]:
        cells = [
            f"{row['series']:,}",
            row["rounds"].removeprefix("ticks ").removesuffix(" of each"),
            row["consumer"],
            f"{1e6 / row['core_us']:,.0f}",
            f"{row['core_us']:,.1f} ({row['least_us']:,.1f}–{row['most_us']:,.1f})",
            f"{row['server_us']:,.1f}",
            *(f"{row[of]:.2f}" if row[of] else "–" for of in ("of_floor", "of_echo")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    runs = len(found["rows"][0]["runs_us"])
    return f"{found['about']} Scale {found['scale']:g}, medians of {runs} runs (least and most).\n\n" + "\n".join(lines)


def latency_table(found: dict[str, Any]) -> str:
    """The same of single ticks."""
    lines = ["| series | consumer | p50 µs | p99 µs | p50 ratio | p99 ratio | core µs |"]
    lines.append("|---:|---|---:|---:|---:|---:|---:|")
    for row in found["rows"]:
        cells = [f"{row['series']:,}", row["consumer"], *(f"{row[of]:,.0f}" for of in ("p50_us", "p99_us"))]
        cells += [*(f"{row[of]:.2f}" for of in ("p50_ratio", "p99_ratio")), f"{row['core_us']:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return f"{found['about']} {found['ticks']:,} ticks of each consumer.\n\n" + "\n".join(lines)


def parts_table(found: dict[str, Any]) -> str:
    """What each part of a turn costs alone."""
    lines = ["| part | µs per tick of 1,000: least | median | µs of a tick alone: least | median |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, micros in found.items():
        many, one = ([f"{micros[of]:,.{digits}f}" for of in pair] for pair, digits in PARTS_COLUMNS)
        lines.append(f"| {' | '.join([name, *many, *one])} |")
    return "\n".join(lines)


def short_table(found: dict[str, Any]) -> str:
    """Those of `lean` with a thousand series and ten thousand, for the README."""
    sizes = (1_000, 10_000)
    lines = [
        "| |" + "".join(f" {size:,} series, ticks/s | of the echo |" for size in sizes),
        "|---|---:|---:|---:|---:|",
    ]
    known = {(row["series"], row["consumer"]): row for row in found["rows"] if row["profile"] == "lean"}
    for consumer, name in IN_SHORT.items():
        rows = [known[size, consumer] for size in sizes if (size, consumer) in known]
        cells = [cell for row in rows for cell in (f"{1e6 / row['core_us']:,.0f}", f"{row['of_echo']:.2f}")]
        if cells:  # there is no floor where there was no compiler
            lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def with_table(whole: str, name: str, text: str) -> str:
    """The page with this between the marks of that name."""
    begin, end = f"<!-- {name}: written by docs/scripts/speed.py -->", f"<!-- end of {name} -->"
    return re.sub(f"(?s)(?<={begin}\n).*(?={end})", lambda _: f"\n{text}\n\n", whole)


def page(found: dict[str, Any]) -> str:
    """docs/performance.md with its tables."""
    text = PAGE.read_text(encoding="utf-8")
    text = with_table(text, "throughput", throughput_table(found["throughput"]))
    text = with_table(text, "parts", parts_table(found["parts"]))
    return with_table(text, "latency", latency_table(found["latency"]))


def readme(found: dict[str, Any]) -> str:
    """The README with its table."""
    return with_table(README.read_text(encoding="utf-8"), "throughput", short_table(found["throughput"]))


if __name__ == "__main__":
    known = json.loads(FOUND.read_text(encoding="utf-8"))
    PICTURE.write_text(styled(picture(known["throughput"])), encoding="utf-8")
    PAGE.write_text(page(known), encoding="utf-8")
    README.write_text(readme(known), encoding="utf-8")
