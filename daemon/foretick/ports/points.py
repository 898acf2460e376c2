"""Forecasts of one series as columns for people to look at: out of the engine's answer, or out of the stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from foretick.core.outputs import ANOMALY, YHAT
from foretick.core.targets import TARGET_MARK
from foretick.ports.wire import split_series_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretick.core.records import Forecasts, Ticks

LOWER, UPPER = f"{YHAT}_lower_", f"{YHAT}_upper_"  # and a level's digits
TS_MAX_DIGITS = 19  # of 64 bits; foreign entries may have more, and int() refuses those of thousands

Number: TypeAlias = float | None  # none where there is no such number, as JSON has no NaN


@dataclass(frozen=True, slots=True)
class Place:
    """Where the forecasts of a series are found.

    Attributes:
        stream: key of its input stream.
        series: series id, as producers give it.
        suffix: of the names of its columns, where its series has several targets.
    """

    stream: bytes
    series: bytes
    suffix: str

    @staticmethod
    def of(key: bytes) -> Place:
        """The place of what the engine knows by this key."""
        base, mark, target = key.partition(TARGET_MARK)
        return Place(*split_series_key(base), "." + target.decode(errors="replace") if mark else "")


@dataclass(slots=True)
class Points:
    """Forecasts of one series, in the order of its ticks.

    Attributes:
        ids: entry ids.
        ts: event times, milliseconds since the epoch, UTC.
        y: values of the ticks.
        yhat: forecasts of the next value.
        warm: whether each is more than the naive one.
        anomaly: how far `y` fell outside its interval.
        bounds: of the next value, lower and upper, by the digits of their level.
    """

    ids: list[bytes] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    y: list[Number] = field(default_factory=list)
    yhat: list[Number] = field(default_factory=list)
    warm: list[bool] = field(default_factory=list)
    anomaly: list[Number] = field(default_factory=list)
    bounds: dict[str, tuple[list[Number], list[Number]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int | None = None) -> Points:
        """Those from one position up to another."""
        s = slice(start, stop)
        return Points(
            self.ids[s],
            self.ts[s],
            self.y[s],
            self.yhat[s],
            self.warm[s],
            self.anomaly[s],
            {level: (lower[s], upper[s]) for level, (lower, upper) in self.bounds.items()},
        )

    @staticmethod
    def joined(parts: Sequence[Points]) -> Points:
        """The forecasts of consecutive parts, all with the same levels, as one."""
        whole = Points(bounds={level: ([], []) for level in parts[0].bounds}) if parts else Points()
        for part in parts:
            whole.ids += part.ids
            whole.ts += part.ts
            whole.y += part.y
            whole.yhat += part.yhat
            whole.warm += part.warm
            whole.anomaly += part.anomaly
            for level, bounds in whole.bounds.items():
                for column, more in zip(bounds, part.bounds[level], strict=True):
                    column.extend(more)
        return whole

    @property
    def told(self) -> dict[str, Any]:
        """The columns as JSON values; nobody who looks needs the ids."""
        return {
            "ts": self.ts,
            "y": self.y,
            "yhat": self.yhat,
            "warm": [int(warm) for warm in self.warm],
            "anomaly": self.anomaly,
            "bounds": self.bounds,
        }


def points_at(ids: Sequence[bytes], ticks: Ticks, forecasts: Forecasts, at: list[int], suffix: str) -> Points:
    """The forecasts at these positions of a batch, all of one series."""
    columns = {name: forecasts.values[at, place].tolist() for place, name in enumerate(forecasts.names)}
    y = columns.get("y" + suffix) or ticks.y[at].tolist()
    return Points(
        [ids[i] for i in at],
        ticks.ts[at].tolist(),
        [_number(one) for one in y],
        [_number(one) for one in columns[YHAT + suffix]],
        forecasts.warm[at].tolist(),
        [_number(one) for one in columns.get(ANOMALY + suffix, [math.nan] * len(at))],
        {level: (_numbers(columns[a]), _numbers(columns[b])) for level, (a, b) in levels_of(columns, suffix).items()},
    )


def points_of(entries: Iterable[tuple[bytes, Sequence[bytes]]], suffix: str) -> Points:
    """The forecasts in these entries, all of one series, in their order; what somebody else wrote is left out."""
    read = ((entry_id, _texts(fields)) for entry_id, fields in entries)
    sound = [(entry_id, texts) for entry_id, texts in read if _is_forecast(texts, suffix)]
    levels = {level: names for _, texts in sound for level, names in levels_of(texts, suffix).items()}
    points = Points(bounds={level: ([], []) for level in levels})
    for entry_id, texts in sound:
        points.ids.append(entry_id)
        points.ts.append(int(texts["ts"]))
        points.y.append(_number(texts.get("y" + suffix)))
        points.yhat.append(_number(texts.get(YHAT + suffix)))
        points.warm.append(texts.get("stage") == "warm")
        points.anomaly.append(_number(texts.get(ANOMALY + suffix)))
        for level, names in levels.items():
            for column, name in zip(points.bounds[level], names, strict=True):
                column.append(_number(texts.get(name)))
    return points


def levels_of(names: Iterable[str], suffix: str) -> dict[str, tuple[str, str]]:
    """The names of the bounds of the next value, by the digits of their level, the narrowest first."""
    there = set(names)
    found: dict[str, tuple[str, str]] = {}
    for name in there:
        level = name.removeprefix(LOWER).removesuffix(suffix)
        pair = LOWER + level + suffix, UPPER + level + suffix
        if name == pair[0] and level.isdecimal() and pair[1] in there:
            found[level] = pair
    return dict(sorted(found.items(), key=lambda item: float("0." + item[0])))


def _texts(fields: Sequence[bytes]) -> dict[str, str]:
    texts = [field.decode(errors="replace") for field in fields]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _is_forecast(texts: dict[str, str], suffix: str) -> bool:
    digits = texts.get("ts", "").removeprefix("-")
    return _number(texts.get(YHAT + suffix)) is not None and digits.isdecimal() and len(digits) <= TS_MAX_DIGITS


def _numbers(column: list[float]) -> list[Number]:
    return [_number(one) for one in column]


def _number(value: str | float | None) -> Number:
    """The number, unless it is none that JSON knows."""
    try:
        number = float(value)  # type: ignore[arg-type]  # what is None raises as well
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
