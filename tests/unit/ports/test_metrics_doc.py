"""docs/metrics.md names every metric that there is, with its labels, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from foretick.core.engine import Engine
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.records import Ticks
from foretick.ports.telemetry import Telemetry

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def exposed():
    """Name and labels of all metrics of a telemetry to which everything has happened."""
    telemetry = Telemetry(embedded=True, worst_series=1, named_series=["*"])
    telemetry.count_answers(b"ticks", 2, cold=1, warm=1)
    telemetry.count_dead(b"ticks", "late", 1)
    telemetry.observe_turn(read=0.1)
    telemetry.set_lag(b"ticks", 1, 1.0)
    telemetry.put_checkpoint("default", 1, 1.0)
    telemetry.tell_settings(60.0, {"default": 8})
    telemetry.watch_conditions(lambda: {"default/lease": (True, "")})
    engine = Engine(Recipe(hidden=8, window=17, linear=(), readout=None, horizon=2, learn=LearnRecipe(enabled=False)))
    n = np.arange(50, dtype=np.int64)
    engine.advance(Ticks([b"ticks\0a"] * 50, n, n, np.zeros(50, np.bool_), np.sin(n)))
    telemetry.watch_scores(engine.scores)
    telemetry.watch_series(engine.series)
    found = {}
    for family in text_string_to_metric_families(telemetry.exposition().decode()):
        if family.name.startswith("foretick_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[family.samples[0].name if family.type in ("counter", "info") else family.name] = labels
    return found


def test_the_page_has_every_metric_and_no_other():
    text = PAGE.read_text()
    assert set(re.findall(r"`(foretick_\w+)`", text)) == set(exposed())


def test_the_page_has_the_labels_of_every_metric():
    rows = re.findall(r"^\| `(foretick_\w+)` \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    labels = {name: set(filter(None, cell.strip().split(", "))) for name, cell in rows}
    assert labels
    found = exposed()
    assert labels == {name: found[name] for name in labels}
