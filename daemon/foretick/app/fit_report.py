"""What `foretick fit` tells of a network of ours: a table, JSON, a picture."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from pathlib import Path

    from foretick.app.fit import Fitted
    from foretick.app.fit_walk import Standing, Walk

SERIES_TOLD = 20  # more are a table that nobody reads
SERIES_DRAWN = 3
TICKS_DRAWN = 200  # of a series: more are a smear
_NAME_WIDTH = 30  # columns; with it a line fits into 80
BLEND = "blend, learning"


def as_text(fitted: Fitted) -> str:
    """All as a table."""
    train, choose, test = fitted.ticks
    lines = [
        f"{fitted.series:,} series: {train:,} ticks to learn from, {choose:,} to choose the epoch, {test:,} to test",
        *([f"{fitted.unusable:,} rows were no ticks"] if fitted.unusable else []),
        "",
        f"{'epoch':>5}  {'train loss':>10}  {'validation loss':>15}  {'seconds':>7}",
    ]
    best = max(epoch.number for epoch in fitted.epochs if epoch.is_best)
    for epoch in fitted.epochs:
        mark = "  best" if epoch.number == best else ""
        lines.append(f"{epoch.number:5}  {epoch.loss:10.4f}  {epoch.validation:15.4f}  {epoch.seconds:7.1f}{mark}")
    lines += ["", f"{'test, the last of each series':{_NAME_WIDTH}}  {_HEADER}"]
    lines += [f"{name:{_NAME_WIDTH}}  {_row(one)}" for name, one in fitted.standings.items()]
    lines += ["", *_series_lines(fitted)]
    lines.append(f"wrote {fitted.output}; begin with it by --set model.init={fitted.output}")
    return "\n".join(lines) + "\n"


_HEADER = f"{'loss':>7}  {'MAE':>11}  {'rel-MAE':>7}  {'skill':>7}"


def _row(one: Standing) -> str:
    return f"{one.loss:7.4f}  {one.mae:11.5g}  {one.rel_mae:7.4f}  {one.skill:+7.1%}"


def _series_lines(fitted: Fitted) -> list[str]:
    naive, ours = fitted.standings["naive"].by_series, fitted.standings[BLEND].by_series
    if len(ours) == 1 or len(ours) > SERIES_TOLD:
        return []
    lines = [f"{'series, ' + BLEND:{_NAME_WIDTH}}  {'MAE':>11}  {'naive MAE':>11}  {'rel-MAE':>7}"]
    for name, mae in sorted(ours.items()):
        ratio = mae / naive[name] if naive[name] else math.nan
        lines.append(f"{_text(name)[:_NAME_WIDTH]:{_NAME_WIDTH}}  {mae:11.5g}  {naive[name]:11.5g}  {ratio:7.3f}")
    return [*lines, ""]


def as_json(fitted: Fitted) -> str:
    """All as JSON; null where there is no number."""
    document = {
        "series": fitted.series,
        "ticks": dict(zip(("train", "validation", "test"), fitted.ticks, strict=True)),
        "unusable": fitted.unusable,
        "epochs": [
            {"number": e.number, "train_loss": _number(e.loss), "validation_loss": _number(e.validation)}
            for e in fitted.epochs
        ],
        "best_epoch": max(epoch.number for epoch in fitted.epochs if epoch.is_best),
        "test": {name: _numbers(one) for name, one in fitted.standings.items()},
        "output": str(fitted.output),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _numbers(one: Standing) -> dict[str, Any]:
    series = {_text(name): _number(mae) for name, mae in sorted(one.by_series.items())}
    names = ("loss", "mae", "rel_mae", "skill")
    return {**{name: _number(getattr(one, name)) for name in names}, "mae_by_series": series}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(key: bytes) -> str:
    return split_series_key(key)[1].decode(errors="replace")


def draw(path: Path, walked: Walk) -> None:
    """Actual and forecast at the end of the test part, of the series with most ticks."""
    from foretick.app.backtest.plot import INK, NAIVE, OURS, new_figure, save  # noqa: PLC0415  an extra

    places: dict[bytes, list[int]] = {}
    for place in np.flatnonzero(np.isfinite(walked.blend)).tolist():
        places.setdefault(walked.series[place], []).append(place)
    longest = sorted(places, key=lambda name: (-len(places[name]), name))[:SERIES_DRAWN]
    figure = new_figure((11, 1 + 3 * len(longest)))
    panels = figure.subplots(len(longest), 1, squeeze=False)[:, 0]
    for panel, name in zip(panels, longest, strict=True):
        at = np.array(places[name][-TICKS_DRAWN - 1 :])
        ticks = np.arange(len(at) - 1)
        panel.plot(ticks, walked.y[at[1:]], color=INK, lw=1.2, label="actual")
        panel.plot(ticks, walked.lstm[at[:-1]], color=NAIVE, lw=0.9, ls="--", label="network alone")
        panel.plot(ticks, walked.blend[at[:-1]], color=OURS, lw=1.2, label="blend, learning")
        panel.set_title(f"{_text(name)}: the last {len(ticks)} ticks of the test part", loc="left")
        panel.grid(alpha=0.25)
    panels[-1].set_xlabel("ticks")
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    save(figure, path)
