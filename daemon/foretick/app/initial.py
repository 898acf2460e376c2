"""What a network begins with: the weights that `foretick fit` wrote, if the setting `model.init` names some.

They count where a group has no state yet. A checkpoint wins over them, as it does over the seed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foretick import __version__
from foretick.app.groups import groups_of, settings_of
from foretick.app.recipes import recipe_of
from foretick.core.engine import Engine
from foretick.core.learner import Knowledge
from foretick.core.snapshots import shaping
from foretick.errors import UsageError
from foretick.ports.weights import read_weights, write_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from foretick.app.settings import Settings
    from foretick.core.recipe import Recipe
    from foretick.ports.checkpoints.container import Contents

# Constants that leave the network's inputs and outputs what they are: weights may go from one to another.
_BESIDE = ("interval", "mix", "learn", "readout", "cold_ticks", "late_run", "window", "ttl_ms")


def initial_of(settings: Settings) -> dict[str, Knowledge]:
    """What each group's network begins with; a group without `model.init` is missing.

    Raises:
        UsageError: a file cannot be read, or is of another network.
    """
    found: dict[str, Knowledge] = {}
    for group in groups_of(settings):
        own = settings_of(settings, group)
        if own.model.init is not None:
            found[group] = load_knowledge(own.model.init, recipe_of(own))
    return found


def save_knowledge(path: Path, recipe: Recipe, knowledge: Knowledge, facts: Mapping[str, Any]) -> None:
    """Write a network's weights, and all that a reader needs to tell whether they fit.

    Raises:
        UsageError: the file cannot be written.
    """
    parts = Engine.shape_of(recipe).split(knowledge.theta.detach())
    arrays = {name: part.contiguous().numpy() for name, part in parts.items()}
    about = {"version": __version__, "seed": recipe.seed, "constants": _constants(recipe)}
    write_weights(path, arrays, {**about, **facts})


def load_knowledge(path: Path, recipe: Recipe) -> Knowledge:
    """The weights of a file, for a network of this recipe; its optimiser has seen nothing.

    Raises:
        UsageError: the file cannot be read, or is of another network; the message says what differs.
    """
    contents = read_weights(path)
    if differences := _differences(contents, recipe):
        raise UsageError(
            f"model.init: {path} is of another model: {'; '.join(differences[:3])}. "
            "Set these as they were when it was made, or make it again by `foretick fit` with these settings"
        )
    shape = Engine.shape_of(recipe)
    flat = np.concatenate([contents.arrays[name].reshape(-1) for name in shape.parts])
    knowledge = Knowledge.fresh(torch.from_numpy(flat.astype(np.float32)))
    if not knowledge.sound:
        raise UsageError(f"model.init: {path} holds weights that are not finite, or absurdly large")
    return knowledge


def _constants(recipe: Recipe) -> dict[str, Any]:
    """What gives the network's inputs and outputs their meaning, as JSON would give it back."""
    kept = {name: value for name, value in shaping(recipe).items() if name.partition(".")[0] not in _BESIDE}
    constants: dict[str, Any] = json.loads(json.dumps(kept))
    return constants


def _differences(contents: Contents, recipe: Recipe) -> list[str]:
    """What keeps these weights from a network of this recipe, in words."""
    theirs, ours = contents.facts.get("constants"), _constants(recipe)
    if not isinstance(theirs, dict):
        return ["it does not say of which"]
    differences = [
        f"{_setting(name)} was {theirs[name]!r:.60}, here it is {ours[name]!r:.60}"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    ]
    shapes = {name: array.shape for name, array in contents.arrays.items()}
    wanted = dict(Engine.shape_of(recipe).parts)
    if not differences and shapes != wanted:
        name = next(name for name in [*wanted, *shapes] if shapes.get(name) != wanted.get(name))
        differences = [f"its {name} is {_size(shapes.get(name))}, here it is {_size(wanted.get(name))}"]
    return differences


def _setting(constant: str) -> str:
    """What the settings call a constant."""
    return {"hidden": "model.hidden", "layers": "model.layers"}.get(constant, constant)


def _size(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "×".join(map(str, shape))
