"""The three profiles: points of accuracy against bytes and time per series, each a recipe of measured constants.

The figures are of 89 real series, in `docs/accuracy.md`; bytes are all that a series costs, its name included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretick.core.recipe import (
    CompactRecipe,
    LearnRecipe,
    LinearRecipe,
    PoolRecipe,
    Recipe,
    ScalingRecipe,
    SeasonRecipe,
    TrackingRecipe,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_SCALING = ScalingRecipe(average_rates=(0.1, 0.01))  # no EWMA expert
_SEASON = SeasonRecipe(gaps=8)  # their median bears three odd ones; looked at again at each doubling of the ticks


def accurate() -> Recipe:
    """All experts; a day of minutes of history."""
    return Recipe()


def balanced() -> Recipe:
    """A day of five-minute ticks, or a week of half-hours."""
    return Recipe(
        hidden=32,
        window=384,
        linear=(),
        readout=None,
        compact=CompactRecipe(
            week=True,
            week_bins=168,
            linear=LinearRecipe("linear", forgetting=0.998, hub=0.5, start=0.1, diagonal_max=1.0),
            linear_moves=5,
            heard=True,
        ),
        scaling=_SCALING,
        season=_SEASON,
        interval=TrackingRecipe(),
        learn=LearnRecipe(pool=PoolRecipe(chunks=8192, begins=32, slots=256, batch=128)),
    )


def lean() -> Recipe:
    """For hundreds of thousands of series: a day of half-hours."""
    return Recipe(
        hidden=16,
        window=64,
        linear=(),
        readout=None,
        compact=CompactRecipe(),
        scaling=_SCALING,
        season=_SEASON,
        interval=TrackingRecipe(),
        learn=LearnRecipe(pool=PoolRecipe()),
    )


PROFILES: dict[str, Callable[[], Recipe]] = {"accurate": accurate, "balanced": balanced, "lean": lean}
