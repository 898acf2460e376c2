"""What `foretick fit --window W` tells of a windowed network: a table, JSON, a picture."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from foretick.app.fit_flags import WINDOWED_FLAGS

if TYPE_CHECKING:
    from pathlib import Path

    from foretick.app.fit_windowed import Fitted

LINES_TOLD = 20  # series and targets; more are a table that nobody reads
PANELS, DRAWN = 3, 200  # of the picture; targets in each
_NAME_WIDTH = 30  # columns; with it a line fits into 80


def as_text(fitted: Fitted) -> str:
    """All as a table."""
    recipe, (known, choose, test) = fitted.recipe, fitted.pairs
    best = max(epoch.number for epoch in fitted.epochs if epoch.is_best)
    ways = " both ways" if recipe.bidirectional else ""
    train, unseen = fitted.losses
    lines = [
        f"{recipe.cell}, {recipe.layers} × {recipe.hidden} units{ways}, window {recipe.window}, on {recipe.device}",
        f"{known:,} windows to learn from, {choose:,} to choose the epoch, {test:,} to test",
        *([f"{fitted.unusable:,} rows were no numbers"] if fitted.unusable else []),
        f"epoch {best} of {len(fitted.epochs)}: {recipe.loss}, scaled: train loss {train:.6f}, test loss {unseen:.6f}",
        "",
        f"{'test':{_NAME_WIDTH}}  {'MAE':>11}  {'naive MAE':>11}  {'rel-MAE':>7}  {'skill':>7}",
    ]
    for line in fitted.lines[:LINES_TOLD]:
        numbers = f"{line.mae:11.5g}  {line.naive_mae:11.5g}  {line.rel_mae:7.3f}  {1 - line.rel_mae:+7.1%}"
        lines.append(f"{line.name[:_NAME_WIDTH]:{_NAME_WIDTH}}  {numbers}")
    if len(fitted.lines) > LINES_TOLD:
        lines.append(f"and {len(fitted.lines) - LINES_TOLD:,} more")
    lines.append(f"rel-MAE {fitted.rel_mae:.4f} (geometric mean), skill {1 - fitted.rel_mae:+.1%}; 1 is naive")
    lines.append(f"{fitted.forecast_us:,.0f} µs for a forecast, one by one")
    for name, rows in fitted.further.items():
        lines.append(f"{name} goes on: " + "  ".join(",".join(f"{value:.6g}" for value in row) for row in rows))
    return "\n".join(lines) + "\n"


def as_json(fitted: Fitted) -> str:
    """All as JSON; null where there is no number."""
    recipe = fitted.recipe
    document = {
        "window": recipe.window,
        **{name: getattr(recipe, name) for name in WINDOWED_FLAGS if hasattr(recipe, name)},
        "pairs": dict(zip(("train", "validation", "test"), fitted.pairs, strict=True)),
        "epochs": len(fitted.epochs),
        "best_epoch": max(epoch.number for epoch in fitted.epochs if epoch.is_best),
        "train_loss": fitted.losses[0],
        "test_loss": fitted.losses[1],
        "targets": {
            line.name: {
                "mae": line.mae,
                "naive_mae": line.naive_mae,
                "rel_mae": _number(line.rel_mae),
                "skill": _number(1 - line.rel_mae),
            }
            for line in fitted.lines
        },
        "rel_mae": _number(fitted.rel_mae),
        "skill": _number(1 - fitted.rel_mae),
        "forecast_us": round(fitted.forecast_us, 1),
        "unusable": fitted.unusable,
        "further": fitted.further,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def draw(path: Path, fitted: Fitted) -> None:
    """True and predicted of the first targets: over time, and against each other."""
    from foretick.app.backtest.plot import INK, OURS, new_figure, save  # noqa: PLC0415  an extra

    lines = fitted.lines[:PANELS]
    figure = new_figure((12, 1 + 3 * len(lines)))
    panels = figure.subplots(len(lines), 2, squeeze=False, width_ratios=(3, 1))
    for (over_time, against), line in zip(panels, lines, strict=True):
        actual, said = line.actual[-DRAWN:], line.said[-DRAWN:]
        over_time.plot(actual, color=INK, lw=1.2, label="true")
        over_time.plot(said, color=OURS, lw=1.2, label="predicted")
        over_time.set_title(f"{line.name}: the last {len(actual)} of the test part", loc="left")
        against.scatter(line.actual, line.said, s=6, color=OURS, alpha=0.5, linewidths=0)
        ends = [min(line.actual.min(), line.said.min()), max(line.actual.max(), line.said.max())]
        against.plot(ends, ends, color=INK, lw=0.8)
        against.set_xlabel("true")
        against.set_ylabel("predicted")
        against.set_aspect("equal", adjustable="datalim")
        for panel in (over_time, against):
            panel.grid(alpha=0.25)
    panels[0][0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    save(figure, path)
