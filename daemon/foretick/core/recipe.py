"""Every constant of the forecasting recipe, with its unit and the reason for its value.

The figures behind the reasons were measured over 175 real series; `docs/design.md` says how.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MS_PER_DAY = 86_400_000
LAYERS_MAX = 3  # each costs a tick as much again
_WINDOW_MIN = 17  # ticks: 16 first differences


@dataclass(frozen=True, slots=True)
class ScalingRecipe:
    """Running scale of a series and its moving averages."""

    rate: float = 0.005  # forgets over ~200 ticks: slower misses regime changes, faster is noisy
    fast_rate: float = 0.1  # ~10 ticks: fast over slow scale tells a burst
    clip: float = 20.0  # scales; one outlier moves the scale by at most 10% and a feature by at most this
    clip_after: int = 50  # ticks; before it the scale itself is still being found
    average_rates: tuple[float, ...] = (0.1, 0.01, 0.3)  # two features of different memory, then the EWMA expert


@dataclass(frozen=True, slots=True)
class SeasonRecipe:
    """Seasonal lags, in ticks of the series' median spacing."""

    durations_ms: tuple[int, ...] | None = None  # None: one day, and seven where a day is short; () for none
    week_below_ticks: int = 48  # a week is looked up only where a day has at most this many ticks
    gaps: int = 32  # spacings whose median is trusted
    tolerance: float = 0.01  # relative; a season must be a whole number of ticks within it


@dataclass(frozen=True, slots=True)
class MixRecipe:
    """ML-Poly (Gaillard, Stoltz and van Erven 2014) with a smooth start."""

    loss_rate: float = 0.01  # ~100 ticks; scale of the mix's own loss
    regret_clip: float = 5.0  # losses; one outlier must not decide the weights
    memory: float = 0.999  # per tick; old regret fades over ~1,000 ticks
    smooth: float = 1e-3  # weight of the prior: removes the jump where all regrets are ≤ 0
    naive_prior: float = 0.5  # the rest is shared: naive is the one that never harms
    clip: float = 20.0  # scales; bound of any published change


@dataclass(frozen=True, slots=True)
class LinearRecipe:
    """One robust linear expert.

    Attributes:
        name: among the experts.
        forgetting: λ per tick; .998 forgets over 500 ticks; at .995 and below it blows up.
        hub: bound of an error's pull, in running mean errors.
        start: what a feature's variance in P begins with.
        seasonal: whether it sees the season columns.
        diagonal_max: bound of the mean of P's diagonal, which forgetting inflates where nothing excites it.
    """

    name: str
    forgetting: float
    hub: float
    start: float
    seasonal: bool = True
    diagonal_max: float = 100.0  # far above any start, far below what float32 cannot carry


LINEAR = (
    LinearRecipe("linear_quick", forgetting=0.998, hub=0.5, start=1.0),
    LinearRecipe("linear", forgetting=0.9995, hub=0.5, start=0.1),
    LinearRecipe("linear_plain", forgetting=0.9995, hub=1.0, start=0.1, seasonal=False),
)
FAR_LINEAR = LinearRecipe("linear", forgetting=0.9995, hub=0.5, start=0.1)
READOUT = LinearRecipe("readout", forgetting=0.998, hub=0.5, start=0.1)


@dataclass(frozen=True, slots=True)
class IntervalRecipe:
    """Conformal intervals."""

    levels: tuple[float, ...] = (0.8, 0.95)  # ascending; none for no intervals
    window: int = 250  # residuals kept; fewer are noisy at 95%, more are stale
    gain: float = 0.05  # γ, residual sizes; larger ones jitter, smaller ones take long to make up for a shift
    rate: float = 0.05  # α, ~20 ticks
    clip: float = 50.0  # residual sizes; one outlier widens an interval by a factor of 3.5 at most
    warm_residuals: int = 30  # before them there is no interval


@dataclass(frozen=True, slots=True)
class TrackingRecipe:
    """Intervals by quantile tracking: 20 bytes a series in place of 1,100."""

    levels: tuple[float, ...] = (0.8, 0.95)  # ascending; none for no intervals
    gain: float = 0.1  # γ, mean residuals; larger ones jitter, smaller ones take long to make up for a shift
    rate: float = 0.1  # ~10 ticks: the fast one of the two means; the slow one is the mix's own
    warm_residuals: int = 30  # before them there is no interval


@dataclass(frozen=True, slots=True)
class PoolRecipe:
    """Chunks to learn from where series are many."""

    chunks: int = 4096  # kept: 6 MB in the lean profile, whatever the number of series
    begins: int = 16  # series that begin to be recorded at a cut
    slots: int = 128  # recorded at a time at most: twice what `begins` asks for when cuts are 8 ticks apart
    newest: int = 64  # chunks from which half of a batch is drawn
    batch: int = 64  # chunks a step; those drawn twice count once


@dataclass(frozen=True, slots=True)
class KalmanRecipe:
    """Diagonal Kalman autoregression."""

    moves: int = 16  # latest first differences
    start: float = 0.1  # variance of a coefficient at first
    drift: float = 1e-4  # added per tick: coefficients wander
    hub: float = 0.5  # bound of an error's pull, in running mean errors
    clip: float = 10.0  # scales


@dataclass(frozen=True, slots=True)
class CompactRecipe:
    """What stands in place of windows of values, several wide linear experts and a readout where bytes are few."""

    week: bool = False  # whether it looks a week back besides a day
    week_bins: int = 0  # of a profile of the week; none at 0
    day_bins: int = 24  # of the profile of the day
    day_rate: float = 0.1  # ~10 visits of a bin
    week_rate: float = 0.25  # ~4 weeks
    profile_clip: float = 8.0  # scales; one outlier must not stand in a profile for weeks
    linear: LinearRecipe = LinearRecipe("linear", forgetting=0.998, hub=0.5, start=0.1, diagonal_max=1.0)
    linear_moves: int = 3  # of the differences it sees
    kalman: KalmanRecipe = KalmanRecipe()
    heard: bool = False  # whether the LSTM hears the forecasts of the two


@dataclass(frozen=True, slots=True)
class LearnRecipe:
    """Truncated BPTT on recorded chunks. `t` counts ticks per active series."""

    enabled: bool = True
    every: int = 8  # t between two jobs
    early_every: int = 2  # t between two jobs at first: the first hundreds of ticks gain most
    early_until: int = 600  # t
    steps: int = 4  # Adam steps a job
    chunk: int = 32  # ticks through which the gradient flows
    depth: int = 16  # past chunks kept per recorder slot: 512 ticks are as good as full history
    slots: int = 128  # series recorded at a time: bounds memory and the cost of a job, whatever the number of series
    pool: PoolRecipe | None = None  # in place of slots and depth
    rate: float = 3e-3
    rate_floor: float = 0.2  # share of `rate`; a live stream never stops changing
    rate_until: int = 400  # t from which the rate falls as 1/√t
    clip_norm: float = 1.0
    target_clip: float = 10.0  # scales
    loss_floor: float = 0.1  # scales; keeps an almost constant series from dominating the loss


@dataclass(frozen=True, slots=True)
class Recipe:
    """One group's model: the `accurate` profile by default."""

    hidden: int = 64  # H; 32 costs 3% of error, 128 gains 1–2% at four times the price
    layers: int = 1  # L; all figures were measured with one
    window: int = 1536  # ticks of history per series: a day of minutes (1,440) with its neighbours
    cold_ticks: int = 10  # ticks with the naive forecast only
    linear: tuple[LinearRecipe, ...] = LINEAR  # diverse memories and robustness; each helps some kind of series
    linear_cold_ticks: int = 20  # a linear expert is silent so long
    readout: LinearRecipe | None = READOUT  # on the LSTM's state, per series: the best single expert; None without
    compact: CompactRecipe | None = None  # in place of `linear` and `readout`, on a window of differences
    late_run: int = 16  # late ticks in a row after which a series restarts at the new time
    max_series: int = 1_000_000
    features: tuple[str, ...] = ("value",)
    targets: tuple[str, ...] = ("value",)  # those of the features that are forecast
    horizon: int = 1  # H: forecasts of the next H values
    far_linear: LinearRecipe | None = FAR_LINEAR  # an expert of each horizon beyond the next tick; None without
    ttl_ms: int | None = None  # a series without a tick for so long is forgotten; None for never
    seed: int = 0
    scaling: ScalingRecipe = field(default_factory=ScalingRecipe)
    season: SeasonRecipe = field(default_factory=SeasonRecipe)
    mix: MixRecipe = field(default_factory=MixRecipe)
    interval: IntervalRecipe | TrackingRecipe = field(default_factory=IntervalRecipe)
    learn: LearnRecipe = field(default_factory=LearnRecipe)

    def __post_init__(self) -> None:
        """Refuse what the formulas cannot carry.

        Raises:
            ValueError: a constant is out of its bounds.
        """
        if self.hidden % 8:
            raise ValueError("hidden is a multiple of 8: a ragged tail would be rounded differently")
        if not 1 <= self.layers <= LAYERS_MAX:
            raise ValueError(f"layers are 1 to {LAYERS_MAX}")
        if self.window < _WINDOW_MIN or self.learn.chunk < 2:
            raise ValueError(f"window is {_WINDOW_MIN} ticks or more, chunk 2 or more")
        if self.season.durations_ms is not None and len(self.season.durations_ms) > 2:
            raise ValueError("two seasons at most")
        levels = self.interval.levels
        if list(levels) != sorted(set(levels)) or not all(0 < level < 1 for level in levels):
            raise ValueError("interval levels lie between 0 and 1, ascending")
