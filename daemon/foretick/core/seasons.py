"""Seasonal lags of a series: how many of its ticks make a day, once its spacing is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretick.core.recipe import MS_PER_DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.arena import Arena
    from foretick.core.block import Block
    from foretick.core.recipe import SeasonRecipe


def update_seasons(arena: Arena, rows: NDArray[np.int64], block: Block, recipe: SeasonRecipe) -> bool:
    """Note the newest spacing; look for seasons when `gaps` spacings are known, and at each doubling of the ticks.

    Returns:
        Whether any series was looked at.
    """
    if recipe.durations_ms == ():
        return False
    t = block["t"]
    arena.gaps.push(rows, t, block["gap"])
    lower = t & (t - 1)
    if np.minimum.reduce(lower) > 0:
        return False
    at = np.flatnonzero((lower == 0) & (t >= recipe.gaps))
    if len(at) == 0:
        return False
    spacing = _spacing(arena.gaps.latest(rows[at]))
    season = block["season"]
    season[:, at] = _lags(spacing, arena.window.length, recipe).T[: len(season)]
    return True


def season_ticks(ts: NDArray[np.int64], recipe: SeasonRecipe) -> int:
    """Ticks of the first season of a series whose (n,) event times these are, all of them known; 0 for none."""
    if recipe.durations_ms == () or len(ts) < 2:
        return 0
    return int(_lags(_spacing(np.diff(ts)[None, :]), len(ts), recipe)[0, 0])


def _spacing(gaps: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) mean of the gaps near the median: a missing tick does not count, and jitter cancels as in a mean."""
    median = np.median(gaps, axis=1, keepdims=True)
    near = np.abs(gaps - median) <= median / 2
    return np.asarray((gaps * near).sum(axis=1) / np.maximum(near.sum(axis=1), 1), np.float64)


def _lags(spacing: NDArray[np.float64], window: int, recipe: SeasonRecipe) -> NDArray[np.int32]:
    """(n, 2) whole numbers of ticks per season; 0 where there is none or the window is too short for it."""
    durations = recipe.durations_ms if recipe.durations_ms is not None else (MS_PER_DAY, 7 * MS_PER_DAY)
    lags = np.zeros((len(spacing), 2), np.int32)
    for k, duration in enumerate(durations[:2]):
        ratio = duration / np.maximum(spacing, 1.0)
        whole = np.rint(ratio)
        fits = (whole >= 2) & (whole + 2 <= window) & (np.abs(ratio - whole) <= recipe.tolerance * whole)
        if recipe.durations_ms is None and k == 1:
            fits &= (lags[:, 0] > 0) & (lags[:, 0] <= recipe.week_below_ticks)
        lags[:, k] = np.where(fits, whole, 0)
    return lags
