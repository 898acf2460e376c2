"""`foretick fit`: teach a group's network on recorded ticks, judge it on the last part of each series, write it.

The engine itself learns, as it would from a stream, once per epoch: with fresh series and with what the network knows
from the epoch before. So the inputs, the carried states and the loss are the daemon's own.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from foretick.app.fit_flags import EPOCHS, OUTPUT
from foretick.app.fit_report import as_json, as_text, draw
from foretick.app.fit_walk import Standing, Walk, score, walk
from foretick.app.groups import DEFAULT_GROUP, group_finder, groups_of, settings_of
from foretick.app.initial import load_knowledge, save_knowledge
from foretick.app.progress import progress
from foretick.app.recipes import recipe_of
from foretick.core.engine import Engine
from foretick.errors import EXIT_CLEAN, UsageError
from foretick.ports.recordings import read_recordings
from foretick.ports.wire import series_key

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from numpy.typing import NDArray

    from foretick.app.progress import Advance
    from foretick.app.settings import Settings
    from foretick.core.learner import Knowledge
    from foretick.core.recipe import Recipe
    from foretick.core.records import Ticks

PATIENCE = 1  # epochs; a second one without gain has not been seen to be made up for
VALIDATION = 0.125  # of what is not for the test: a tenth of all at a split of .8
SERIES_MIN_TICKS = 20  # a shorter series is learned from as a whole
TRAIN, CHOOSE, TEST = range(3)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training part.

    Attributes:
        number: from 1.
        loss: of the network alone, each tick before it was learned from.
        validation: of the network alone on the validation part, its weights frozen.
        is_best: whether its weights are the best so far.
        seconds: it took.
    """

    number: int
    loss: float
    validation: float
    is_best: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it.

    Attributes:
        epochs: one after the other.
        standings: of each way to forecast the test part, by name.
        walk: over the test part, learning.
        ticks: in the training, validation and test part.
        series: how many there are.
        unusable: rows of the files that are no ticks.
        output: where the weights are.
    """

    epochs: list[Epoch]
    standings: dict[str, Standing]
    walk: Walk
    ticks: tuple[int, int, int]
    series: int
    unusable: int
    output: Path


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Teach, judge, write and tell; returns the exit status.

    Raises:
        UsageError: files or settings cannot be used.
    """
    torch.set_num_threads(1)  # as the daemon: the same bits
    if arguments.plot:
        from foretick.app.backtest.plot import require  # noqa: PLC0415  matplotlib takes a second

        require(arguments.plot)
    output: Path = arguments.output or OUTPUT
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.absolute().parent}")
    recipe, knowledge, finder = _model(settings, arguments)
    recording = read_recordings(arguments.files)
    ticks = _keyed(recording.ticks, settings, finder)
    part = split(ticks.series, arguments.split)
    if not (part == TEST).any():
        names = ", ".join(map(str, arguments.files))
        raise UsageError(f"{names}: no series has the {SERIES_MIN_TICKS} ticks that it takes to learn and to test")
    parts = [ticks.at(np.flatnonzero(part == one)) for one in (TRAIN, CHOOSE, TEST)]
    epochs = arguments.epochs or EPOCHS
    total = epochs * (len(parts[TRAIN]) + len(parts[CHOOSE])) + len(ticks) + len(parts[TEST])
    with progress(total, "fit", "ticks", plain_seconds=10.0) as advance:
        told, knowledge = teach(recipe, knowledge, parts, epochs, arguments.patience or PATIENCE, advance)
        standings, last = judge(recipe, knowledge, ticks.at(np.flatnonzero(part != TEST)), parts[TEST], advance)
    counts = len(parts[TRAIN]), len(parts[CHOOSE]), len(parts[TEST])
    fitted = Fitted(told, standings, last, counts, len(set(ticks.series)), recording.unusable, output)
    facts = {"ticks": counts[TRAIN], "series": fitted.series, "epochs": next(e.number for e in told[::-1] if e.is_best)}
    save_knowledge(output, recipe, knowledge, facts)
    if arguments.plot:
        draw(arguments.plot, last)
    sys.stdout.write(as_json(fitted) if arguments.json else as_text(fitted))
    return EXIT_CLEAN


def teach(
    recipe: Recipe, knowledge: Knowledge | None, parts: list[Ticks], epochs: int, patience: int, advance: Advance
) -> tuple[list[Epoch], Knowledge]:
    """The epochs, and what was known after the best of them.

    Args:
        recipe: of the group.
        knowledge: what to begin with, if not with noise.
        parts: ticks to learn from and ticks to choose the epoch by.
        epochs: at most.
        patience: epochs without a better validation loss after which to stop.
        advance: told how many ticks are done.
    """
    recipe = replace(recipe, readout=None)  # the network does not hear it, and it costs as much as all the rest
    learning = replace(recipe, learn=replace(recipe.learn, enabled=True))
    still = replace(recipe, learn=replace(recipe.learn, enabled=False))
    told: list[Epoch] = []
    best, best_knowledge = None, knowledge
    for number in range(1, epochs + 1):
        began = time.perf_counter()
        engine = Engine(learning, init=knowledge)
        loss = score(walk(engine, parts[TRAIN], advance)).lstm.loss
        taken = engine.snapshot()
        knowledge = taken.knowledge
        frozen = Engine(still)
        frozen.restore(taken)
        validation = score(walk(frozen, parts[CHOOSE], advance)).lstm.loss
        is_best = best is None or validation < best.validation
        told.append(Epoch(number, loss, validation, is_best, time.perf_counter() - began))
        if is_best:
            best, best_knowledge = told[-1], knowledge
        if best is not None and number - best.number >= patience:
            break
    assert best_knowledge is not None
    return told, best_knowledge


def judge(
    recipe: Recipe, knowledge: Knowledge, before: Ticks, test: Ticks, advance: Advance
) -> tuple[dict[str, Standing], Walk]:
    """How good each way to forecast the test part is, and the last one's forecasts.

    The series are led to the test part by what was learned, frozen; from there on the weights stay, or learn on as the
    daemon's do.
    """
    engine = Engine(replace(recipe, learn=replace(recipe.learn, enabled=False)), init=knowledge)
    for start in range(0, len(before), 500):
        advance(len(engine.advance(before.slice(start, start + 500)).verdict))
    at_test = engine.snapshot()
    frozen = score(walk(engine, test, advance))
    learner = Engine(replace(recipe, learn=replace(recipe.learn, enabled=True)))
    learner.restore(at_test)
    last = walk(learner, test, advance)
    learning = score(last)
    return {
        "naive": frozen.naive,
        "network alone, frozen": frozen.lstm,
        "network alone, learning": learning.lstm,
        "blend, frozen": frozen.blend,
        "blend, learning": learning.blend,
    }, last


def split(series: list[bytes], share: float) -> NDArray[np.int8]:
    """(n,) the part of each tick: the last 1 − `share` of each series to test, of the rest the last eighth to choose.

    Args:
        series: (n,) series ids, in order of time.
        share: of each series, what is not for the test.
    """
    places: dict[bytes, list[int]] = {}
    for place, name in enumerate(series):
        places.setdefault(name, []).append(place)
    part = np.full(len(series), TRAIN, np.int8)
    for at in places.values():
        if len(at) >= SERIES_MIN_TICKS:
            until = round(len(at) * share)
            part[at[round(until * (1 - VALIDATION)) : until]] = CHOOSE
            part[at[until:]] = TEST
    return part


def _model(settings: Settings, arguments: argparse.Namespace) -> tuple[Recipe, Knowledge | None, str | None]:
    """The recipe of the group, what its network begins with, and the group's name where there are several."""
    group = arguments.group or DEFAULT_GROUP
    if group not in groups_of(settings):
        raise UsageError(f"--group {group}: there is no such group, only {', '.join(groups_of(settings))}")
    own = settings_of(settings, group)
    recipe = recipe_of(own)
    if len(recipe.features) > 1:
        raise UsageError(f"fit learns from files with one value a tick, and features are {', '.join(recipe.features)}")
    if arguments.seed is not None:
        recipe = replace(recipe, seed=arguments.seed)
    knowledge = load_knowledge(own.model.init, recipe) if own.model.init else None
    return recipe, knowledge, group if settings.groups else None


def _keyed(ticks: Ticks, settings: Settings, group: str | None) -> Ticks:
    """The ticks of the group as the daemon's engine gets them: the names of series decide what is sampled."""
    stream = settings.streams[0].encode()
    keyed = replace(ticks, series=[series_key(stream, series) for series in ticks.series])
    if group is None:
        return keyed
    find = group_finder(list(settings.groups))
    return keyed.at(np.flatnonzero([find(key) == group for key in keyed.series]))
