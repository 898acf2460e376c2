"""The peers of `accuracy.py`: each takes one series and gives, tick by tick, a forecast of the next value."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.core.accuracy import seasonal_naive

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Forecaster = Callable[[Floats, int], Floats]

REFIT_TICKS = 500  # between two fits of AutoARIMA: each takes seconds
ARIMA_SEASON_MAX = 24  # ticks; longer seasons take minutes a fit
SEASON_MAX = 400  # ticks; Holt-Winters learns a longer one from too few rounds to be fair to it
WINDOW_TICKS = 32  # of deep-river's LSTM


@dataclass(frozen=True, slots=True)
class Peer:
    """One forecaster, and how much of the data it can be given in minutes.

    Attributes:
        name: in the table.
        forecast: (n,) values and the ticks of a season (0 for none) to (n,) forecasts of the next value.
        series: how many series it is given at most, evenly spread.
        ticks: how many of each.
    """

    name: str
    forecast: Forecaster
    series: int | None = None
    ticks: int | None = None


def naive(y: Floats, _season: int) -> Floats:
    return y


def holt_winters(y: Floats, season: int, *, seasonal: bool) -> Floats:
    from river import time_series

    if seasonal and 1 < season <= SEASON_MAX:
        model: Any = time_series.HoltWinters(alpha=0.3, beta=0.1, gamma=0.3, seasonality=season)
    else:
        model = time_series.HoltWinters(alpha=0.3, beta=0.1)
    return _online(model, y)


def snarimax(y: Floats, _season: int) -> Floats:
    from river import time_series

    return _online(time_series.SNARIMAX(p=12, d=1, q=3), y)


def _online(model: Any, y: Floats) -> Floats:
    """Learn a tick, forecast the next; naive while the model cannot."""
    forecasts = y.copy()
    for t, value in enumerate(y.tolist()):
        with contextlib.suppress(Exception):  # not warm yet, or overflowed
            model.learn_one(value)
            forecasts[t] = model.forecast(horizon=1)[0]
    return forecasts


def deep_river_model() -> Any:
    """Rolling window, standard scaling of input and target on the way, Adam, one step a tick."""
    import torch
    from deep_river.regression import RollingRegressor
    from river import preprocessing

    class Module(torch.nn.Module):
        def __init__(self, n_features: int) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(n_features, 32)
            self.head = torch.nn.Linear(32, 1)

        def forward(self, x: Any) -> Any:
            out, _ = self.lstm(x)
            return self.head(out[-1])

    torch.set_num_threads(1)
    torch.manual_seed(0)
    regressor = RollingRegressor(
        module=Module(1), loss_fn="mse", optimizer_fn="adam", lr=3e-3, window_size=WINDOW_TICKS, append_predict=False
    )
    return preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(regressor=regressor)


def deep_river_lstm(y: Floats, _season: int) -> Floats:
    model = deep_river_model()
    forecasts = y.copy()
    values = y.tolist()
    for t in range(1, len(values)):
        model.learn_one({"y": values[t - 1]}, values[t])
        found = model.predict_one({"y": values[t]})
        forecasts[t] = np.asarray(found, np.float64).reshape(-1)[-1]
    return forecasts


def auto_arima(y: Floats, season: int) -> Floats:
    """Fitted on all that was seen, every `REFIT_TICKS`; in between the same model is led on, one step ahead."""
    from statsforecast.models import AutoARIMA

    forecasts = y.copy()
    for start in range(200, len(y) - 1, REFIT_TICKS):
        stop = min(start + REFIT_TICKS, len(y) - 1)
        model = AutoARIMA(season_length=season if 1 < season <= ARIMA_SEASON_MAX else 1, max_p=3, max_q=3, nmodels=20)
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(y[:start])
            fitted = model.forward(y[: stop + 1], h=1, fitted=True)["fitted"]
            forecasts[start:stop] = fitted[start + 1 : stop + 1]  # of y[t + 1] from all up to t
    return forecasts


PEERS = {
    "naive": Peer("naive", naive),
    "seasonal": Peer("seasonal naive, one day", seasonal_naive),
    "holt-winters": Peer("river HoltWinters", lambda y, season: holt_winters(y, season, seasonal=False)),
    "holt-winters-seasonal": Peer(
        "river HoltWinters, seasonal", lambda y, season: holt_winters(y, season, seasonal=True)
    ),
    "snarimax": Peer("river SNARIMAX(12,1,3)", snarimax),
    "deep-river": Peer("deep-river LSTM", deep_river_lstm, series=20, ticks=1000),
    "auto-arima": Peer("statsforecast AutoARIMA", auto_arima, series=20, ticks=1500),
}
