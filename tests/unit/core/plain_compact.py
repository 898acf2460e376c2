"""What the compact profiles do for one series, in plain Python, written from its formulas."""

from __future__ import annotations

import math
from statistics import NormalDist

from unit.core.plain import DAY, PlainSeries, clip


class PlainKalman:
    """A diagonal Kalman filter over the coefficients of an autoregression."""

    def __init__(self, k, start, drift, hub):
        self.theta, self.v = [0.0] * k, [start] * k
        self.drift, self.hub, self.size, self.outcomes = drift, hub, 0.0, 0

    def forecast(self, x):
        return sum(a * b for a, b in zip(self.theta, x, strict=True))

    def learn(self, x, z):
        self.outcomes += 1
        e = z - self.forecast(x)
        self.size += max(0.01, 1 / self.outcomes) * (abs(e) - self.size)
        w = min(1.0, self.hub * self.size / abs(e)) if e else 1.0
        self.v = [min(v + self.drift, 1.0) for v in self.v]
        down = 1 / w + sum(v * a * a for v, a in zip(self.v, x, strict=True))
        g = [v * a / down for v, a in zip(self.v, x, strict=True)]
        self.theta = [a + b * e for a, b in zip(self.theta, g, strict=True)]
        self.v = [v - b * a * v for v, b, a in zip(self.v, g, x, strict=True)]


class PlainTracking:
    """Bounds of one series that widen at each miss and narrow at each hit."""

    def __init__(self, levels, gain, rate, warm):
        self.levels, self.gain, self.rate, self.warm = levels, gain, rate, warm
        self.q = [[1.25 * NormalDist().inv_cdf((1 + level) / 2)] * 2 for level in levels]
        self.fast, self.outcomes = 0.0, 0

    def bounds(self, yhat, slow, scale):
        """The (lower, upper) of each level, None before calibration; no wider level lies inside a narrower one."""
        if self.outcomes <= self.warm:
            return None
        unit, found, widest = (slow + self.fast) / 2 * scale, [], [0.0, 0.0]
        for pair in self.q:
            widest = [max(was, side) for was, side in zip(widest, pair, strict=True)]
            found.append((yhat - widest[0] * unit, yhat + widest[1] * unit))
        return found

    def learn(self, y, yhat, slow, scale):
        bounds = self.bounds(yhat, slow, scale)
        for k, level in enumerate(self.levels if bounds else ()):
            a, (lower, upper) = (1 - level) / 2, bounds[k]
            self.q[k][0] += self.gain * ((y < lower) - a)
            self.q[k][1] += self.gain * ((y > upper) - a)
        self.outcomes += 1
        u = min(abs(y - yhat) / scale, 20.0) if scale else float(y != yhat)
        self.fast += max(self.rate, 1 / self.outcomes) * (u - self.fast)


class PlainCompact(PlainSeries):
    """The inputs of a compact profile: every difference in the scale of its own tick."""

    def __init__(self, *, week, gaps, window, bins):
        super().__init__(gaps, window)
        self.week, self.bins, self.u = week, bins, []
        self.profiles = [[0.0] * count for count in bins]
        self.rates = (0.1, 0.25)
        self.next_ts = None

    def take(self, y, ts):
        t, s = len(self.y), self.s
        if t:
            d = y - self.y[-1]
            z = clip(d / s if s else (d > 0) - (d < 0), 8.0)
            for profile, period, rate in zip(self.profiles, (DAY, 7 * DAY), self.rates, strict=False):
                b = self.next_ts % period * len(profile) // period
                profile[b] += max(rate, 1 / (1 + (t - 1) / len(profile))) * (z - profile[b])
        super().take(y, ts)
        self.u.append(clip(self.d(self.t) / self.s, 1024.0) if self.s else 0.0)
        self.next_ts = ts + (ts - self.ts[-2] if t else 0)

    def moved(self, t):
        return self.u[t] if t >= 1 else 0.0

    def swing(self, P):
        return sum(self.u[self.t - P + 1 :])

    def inputs(self):
        t = self.t
        x = [math.asinh(clip(self.moved(t - i))) for i in range(8)]
        for weight, rate in ((0.5, 0.1), (0.2, 0.01)):
            x.append(math.asinh(self.per_scale(weight * (self.y[t] - self.averages[rate]))))
        for P in self.season[: 1 + self.week]:
            known = P > 0 and t > P
            parts = [self.moved(t + k - P) for k in (2, 1, 0)] + [0.3 * self.swing(P)] if known else [0.0] * 4
            x += [math.asinh(clip(part)) for part in parts]
        for profile, period in zip(self.profiles, (DAY, 7 * DAY), strict=False):
            x.append(math.asinh(profile[self.next_ts % period * len(profile) // period]))
        day, week = (2 * math.pi * (self.next_ts % length) / length for length in (DAY, 7 * DAY))
        x += [math.sin(day), math.sin(week), math.cos(day), math.cos(week)]
        return [*x, math.log((self.fast / self.s if self.s > 0 else 0.0) + 0.05), 1 / (1 + t / 50), self.pace()]

    def seasonal_naive(self):
        P = self.season[0]
        return clip(self.moved(self.t + 1 - P) - self.swing(P)) if P and self.t > P else 0.0
