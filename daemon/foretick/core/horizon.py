"""Forecasts of more than one step: for each h = 2 … H its own experts, mix and interval, settled h ticks later.

Direct, not iterated: the forecast for h steps is learned from what came h steps after like moments, so errors of
shorter horizons do not pile up. What it is made of, in scales of the tick it was made at:

    naive           0
    seasonal naive  y_{t+h−P} − y_t
    EWMA            moving average − y_t
    LSTM            output h of the network's head, times √h (a random walk strays as far)
    linear          robust RLS on the linear features, one per horizon, if the recipe has one

Mix and intervals are those of the next tick (`experts`, `intervals`), each horizon with a record of its own. What
stands unsettled waits in a ring of H places per series: the forecast made at tick t lies at t mod H.

Glossary
    n, M    series of a round, further horizons M = H − 1
    far     record of one horizon of one series; the k-th is of horizon k + 2
    due     the forecast that the newest tick settles: made h ticks ago
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core import experts
from foretick.core.features import linear_width
from foretick.core.intervals import Intervals
from foretick.core.linear import LinearBank
from foretick.core.recipe import IntervalRecipe
from foretick.core.scaling import outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretick.core.block import Block
    from foretick.core.columns import Columns, Table
    from foretick.core.features import Features, Sight
    from foretick.core.features_compact import CompactFeatures
    from foretick.core.recipe import Recipe

_EWMA, _LSTM, _LINEAR = 2, 3, 4  # places of the experts behind naive and seasonal naive


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the due forecasts of a round.

    Attributes:
        stands: (n, M) bool, whether there was one.
        z: (n, M) float32 outcomes, in scales of the tick that each was made at; 0 where there was none.
        error: (n, M) actual minus forecast.
        naive_error: (n, M) actual minus the value at the tick that the forecast was made at.
        bounded: (n, M) bool, whether it had intervals.
        covered: (n, M, L) bool, whether each interval held the actual.
    """

    stands: NDArray[np.bool_]
    z: NDArray[np.float32]
    error: NDArray[np.float64]
    naive_error: NDArray[np.float64]
    bounded: NDArray[np.bool_]
    covered: NDArray[np.bool_]


class Horizons:
    """The further horizons of a group's series.

    Args:
        table: where their state lives, row by row.
        recipe: constants; its horizon is 2 or more.
        features: which look a season back.
    """

    def __init__(self, table: Table, recipe: Recipe, features: Features | CompactFeatures) -> None:
        self._recipe, self._seen = recipe, features
        self.steps = np.arange(2, recipe.horizon + 1)  # (M,) h
        M, H, L = len(self.steps), recipe.horizon, len(recipe.interval.levels)
        far_linear = None if recipe.compact else recipe.far_linear
        K = _LINEAR + (far_linear is not None)
        self._prior = experts.priors(K, recipe.mix)
        self._records = table.column("far", (M * _far_dtype(K, L).itemsize,), np.uint8)
        self._dtype = _far_dtype(K, L)
        self._waiting = table.column("far.waiting", (M * H * _waiting_dtype(K, L).itemsize,), np.uint8)
        self._waiting_dtype = _waiting_dtype(K, L)
        levels = recipe.interval.levels
        conformal = recipe.interval if isinstance(recipe.interval, IntervalRecipe) else IntervalRecipe(levels)
        self._intervals = Intervals(table, conformal, "far.residuals", M)
        width = linear_width(recipe)
        self._linear = LinearBank(table, "far.linear", width, [far_linear] * M) if far_linear else None
        self._features = table.column("far.features", (H if self._linear else 0, width), np.float32)

    def forget(self, row: NDArray[np.int64]) -> None:
        """Begin anew for series that begin anew."""
        for column in (self._records, self._waiting, self._features):
            column.rows[row] = 0
        if self._linear:
            self._linear.forget(row)

    def settle(self, row: NDArray[np.int64], block: Block, y: NDArray[np.float64]) -> Settled:
        """Let each horizon meet the actual that it forecast h ticks ago, and learn from it.

        Args:
            row: (n,) distinct ascending rows.
            block: columns, the first n of these rows, before the tick.
            y: (n,) actuals.
        """
        n, M, H = len(row), len(self.steps), self._recipe.horizon
        t = block["t"][:n] + 1  # number of the actual
        made = t[:, None] - self.steps  # (n, M) number of the tick that each due forecast was made at
        far = self._gather(row)
        waiting = self._waiting.rows[row].view(self._waiting_dtype).reshape(n, M, H)
        due = np.take_along_axis(waiting, (made % H)[:, :, None], axis=2)[:, :, 0]
        stands = made >= 0
        far["t"] = made
        for field in ("yhat", "phat", "expert", "bounds"):
            far[field] = due[field]
        change = outcome(y[:, None] - due["y"], due["scale"]).clip(-self._clip, self._clip)
        z = np.where(stands, change, 0).astype(np.float32)
        rows = (row[:, None] * M + np.arange(M))[stands]
        settled = far[stands]
        columns = _columns(settled)
        actual = np.broadcast_to(y[:, None], (n, M))[stands]
        held = self._intervals.settle(rows, columns, actual, actual - columns["yhat"]).held
        settled["t"] += 1
        self._average_loss(columns, z[stands])
        experts.update_mix(columns, columns["phat"] - z[stands], self._recipe.mix)
        far[stands] = settled
        self._records.rows[row] = far.view(np.uint8).reshape(n, -1)
        if self._linear:
            x = self._features.rows[row[:, None], made % H] * stands[:, :, None]
            self._linear.learn(row, x, z, np.maximum(made + 1, 1))
        covered = np.zeros((n, M, len(self._recipe.interval.levels)), np.bool_)
        covered[stands] = held.T
        bounded = stands & ~np.isnan(due["bounds"]).any(axis=2) & (covered.shape[2] > 0)
        return Settled(stands, z, y[:, None] - due["yhat"], y[:, None] - due["y"], bounded, covered)

    def forecast(
        self,
        row: NDArray[np.int64],
        block: Block,
        zhat: NDArray[np.float32],
        sight: Sight,
        warm: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Forecast from the newest tick.

        Args:
            row: (n,) distinct ascending rows.
            block: columns, the first n of these rows, after the tick.
            zhat: (M, …) the network's outputs of the further horizons.
            sight: what there is to see after the tick.
            warm: (…,) whether the next tick's forecast is more than the naive one.

        Returns:
            (n, M · (2L + 1)) what is told of each horizon: forecast and bounds.
        """
        n, M, H = len(row), len(self.steps), self._recipe.horizon
        far = self._gather(row)
        y, scale, t = (block[name][:n] for name in ("y", "scale", "t"))
        zhat = zhat[:, :n]
        linear = np.ascontiguousarray(sight.linear[:, :n].T)
        far["expert"] = self._experts(row, block, np.where(np.isfinite(zhat), zhat, 0), linear)
        flat = far.reshape(-1)
        weights = experts.weights(_columns(flat), self._prior)
        weight = np.ascontiguousarray(weights.T).reshape(n, M, -1)
        phat = np.where(warm[:n, None], (weight * far["expert"]).sum(axis=2), 0).clip(-self._clip, self._clip)
        far["phat"] = phat
        far["yhat"] = y[:, None] + scale[:, None] * far["phat"]
        rows = (row[:, None] * M + np.arange(M)).reshape(-1)
        self._intervals.bound(rows, _columns(flat))
        self._records.rows[row] = far.view(np.uint8).reshape(n, -1)

        waiting = self._waiting.rows[row].view(self._waiting_dtype).reshape(n, M, H)
        place = waiting[np.arange(n), :, t % H]
        for field in ("yhat", "phat", "expert", "bounds"):
            place[field] = far[field]
        place["y"], place["scale"] = y[:, None], scale[:, None]
        waiting[np.arange(n), :, t % H] = place
        self._waiting.rows[row] = waiting.view(np.uint8).reshape(n, -1)
        if self._linear:
            self._features.rows[row, t % H] = linear
        told = [far["yhat"][:, :, None]]
        if self._recipe.interval.levels:
            told.append(self._intervals.told(_columns(flat)).T.reshape(n, M, -1))
        return np.concatenate(told, axis=2).reshape(n, -1)

    def _average_loss(self, far: Columns, z: NDArray[np.float32]) -> None:
        """Take the newest outcomes into ℓ, as `RunningMeans` does for the next tick's forecast."""
        loss, share = far["mix_loss"], np.maximum(self._recipe.mix.loss_rate, 1.0 / np.maximum(far["t"], 1))
        loss[...] += share.astype(np.float32) * (np.abs(far["phat"] - z) - loss)

    @property
    def _clip(self) -> NDArray[np.float64]:
        """(M,) bound of a change over h ticks, in scales."""
        return np.multiply(self._recipe.mix.clip, self.steps, dtype=np.float64)

    def _gather(self, row: NDArray[np.int64]) -> NDArray[Any]:
        """(n, M) a copy of the far records."""
        return self._records.rows[row].view(self._dtype).reshape(len(row), -1)

    def _experts(
        self, row: NDArray[np.int64], block: Block, zhat: NDArray[np.float32], linear: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(n, M, K) what each expert says, in scales; `zhat` is (M, n), `linear` (n, k)."""
        M, n = zhat.shape
        said = np.zeros((n, M, len(self._prior)))
        said[:, :, experts.SEASONAL_NAIVE] = self._seen.ahead(_repeated(row, block), block, self.steps)[:, :n].T
        if len(block["deviation"]) > experts.EWMA_AVERAGE:
            said[:, :, _EWMA] = -(block["deviation"][experts.EWMA_AVERAGE] * block["per_scale"])[:n, None]
        said[:, :, _LSTM] = zhat.T * np.sqrt(self.steps)
        if self._linear:
            talks = block["t"][:n, None] >= self._recipe.linear_cold_ticks + self.steps
            x = np.repeat(linear[:, None], M, axis=1)
            said[:, :, _LINEAR] = np.where(talks, self._linear.forecast(row, x), 0)
        return said.clip(-self._clip[:, None], self._clip[:, None]).astype(np.float32)


def _columns(far: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The fields of (n,) records as views with the records last."""
    return {name: far[name].T for name in far.dtype.names or ()}


def _repeated(row: NDArray[np.int64], block: Block) -> NDArray[np.int64]:
    """These rows with the last repeated up to the width of the block."""
    return row.take(np.minimum(np.arange(len(block["t"])), len(row) - 1))


def _far_dtype(K: int, L: int) -> np.dtype[np.void]:
    """The state of one horizon of one series, and what its mix and intervals read of the due or the new forecast."""
    fields: list[tuple[Any, ...]] = [
        ("t", np.int64),
        ("yhat", np.float64),
        ("bounds", np.float64, (2 * L,)),
        ("residual_size", np.float64),
        ("residuals_seen", np.int64),
        ("correction", np.float32, (2 * L,)),
        ("phat", np.float32),
        ("mix_loss", np.float32),
        ("expert", np.float32, (K,)),
        ("regret", np.float32, (K,)),
        ("regret_square", np.float32, (K,)),
    ]
    return np.dtype(fields, align=True)


def _waiting_dtype(K: int, L: int) -> np.dtype[np.void]:
    """One forecast that waits for its actual."""
    fields: list[tuple[Any, ...]] = [
        ("y", np.float64),  # value and scale at the tick it was made at
        ("scale", np.float64),
        ("yhat", np.float64),
        ("bounds", np.float64, (2 * L,)),
        ("phat", np.float32),
        ("expert", np.float32, (K,)),
    ]
    return np.dtype(fields, align=True)
