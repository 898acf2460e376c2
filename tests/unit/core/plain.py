"""The recipe of one series in plain Python, written from its formulas and from nothing in the package.

It keeps all history, so that each formula can be written as it stands.
"""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

DAY = 86_400_000


def clip(value, bound=20.0):
    return max(-bound, min(bound, value))


class PlainSeries:
    """Scales, moving averages, seasons and inputs of one series after each of its ticks."""

    def __init__(self, gaps=32, window=1536):
        self.y, self.ts = [], []
        self.s = self.fast = self.move = 0.0
        self.averages = {0.1: None, 0.01: None, 0.3: None}
        self.gaps, self.window = gaps, window
        self.season = (0, 0)
        self.spacing = 0.0

    @property
    def t(self):
        return len(self.y) - 1

    def d(self, t):
        """First difference of tick t; 0 before there is one."""
        return self.y[t] - self.y[t - 1] if t >= 1 else 0.0

    def take(self, y, ts):
        self.y.append(y)
        self.ts.append(ts)
        t = self.t
        if t == 0:
            self.averages = dict.fromkeys(self.averages, y)
            return
        self.spacing += max(0.02, 1 / t) * (self.gap - self.spacing)
        size = abs(self.d(t))
        self.move += max(0.005, 1 / t) * (size - self.move)
        if t > 50 and self.s > 0:
            size = min(size, 20 * self.s)
        self.s += max(0.005, 1 / t) * (size - self.s)
        self.fast += max(0.1, 1 / t) * (size - self.fast)
        self.averages = {rate: m + rate * (y - m) for rate, m in self.averages.items()}
        if t >= self.gaps and t.bit_count() == 1:
            self.season = self.seasons()

    def seasons(self):
        """One day over the spacing, if that is a whole number ≥ 2; and the week where the day has ≤ 48."""
        last = self.ts[-self.gaps - 1 :]
        step = statistics.median(b - a for a, b in pairwise(last))
        day = self.whole(DAY, step)
        return day, self.whole(7 * DAY, step) if 0 < day <= 48 else 0

    def whole(self, duration, step):
        ticks = round(duration / max(step, 1))
        fits = abs(duration / max(step, 1) - ticks) <= 0.01 * ticks
        return ticks if ticks >= 2 and ticks + 2 <= self.window and fits else 0

    def per_scale(self, value):
        return clip(value / self.s) if self.s > 0 else 0.0

    @property
    def gap(self):
        return self.ts[-1] - self.ts[-2] if self.t else 0

    def pace(self):
        return clip(math.log((self.gap + 1) / (self.spacing + 1)), 5.0)

    def inputs(self):
        t, y = self.t, self.y
        x = [math.asinh(self.per_scale(self.d(t - i))) for i in range(8)]
        x += [math.asinh(self.per_scale(0.3 * (y[t] - self.averages[0.1])))]
        x += [math.asinh(self.per_scale(0.1 * (y[t] - self.averages[0.01])))]
        for P in self.season:
            if P == 0 or t < P + 1:
                x += [0.0] * 4
            else:
                x += [math.asinh(self.per_scale(self.d(u))) for u in (t + 2 - P, t + 1 - P, t - P)]
                x += [math.asinh(self.per_scale(0.3 * (y[t] - y[t - P])))]
        next_ts = self.ts[t] + (self.ts[t] - self.ts[t - 1] if t else 0)
        day, week = (2 * math.pi * (next_ts % length) / length for length in (DAY, 7 * DAY))
        x += [math.sin(day), math.sin(week), math.cos(day), math.cos(week)]
        x += [math.log((self.fast / self.s if self.s > 0 else 0.0) + 0.05), 1 / (1 + t / 50)]
        return x

    def linear_features(self):
        t, y = self.t, self.y
        x = [self.per_scale(self.d(t - i)) for i in range(16)]
        x += [
            1.0,
            self.per_scale(0.3 * (y[t] - self.averages[0.1])),
            self.per_scale(0.1 * (y[t] - self.averages[0.01])),
        ]
        for P in self.season:
            if P == 0 or t < P + 1:
                x += [0.0] * 4
            else:
                x += [self.per_scale(self.d(u)) for u in (t + 2 - P, t + 1 - P, t - P)]
                x += [self.per_scale(0.3 * (y[t] - y[t - P]))]
        return x

    def seasonal_naive(self):
        P = self.season[0]
        return self.per_scale(self.y[self.t + 1 - P] - self.y[self.t]) if P and self.t > P else 0.0

    def ewma(self):
        return self.per_scale(self.averages[0.3] - self.y[self.t])


class PlainMix:
    """ML-Poly with the smooth prior: half on naive, the rest shared."""

    def __init__(self, experts):
        self.R, self.V, self.loss, self.outcomes = [0.0] * experts, [0.0] * experts, 0.0, 0
        self.prior = [1 / 2] + [1 / 2 / (experts - 1)] * (experts - 1)

    def learn(self, z, p, experts):
        self.outcomes += 1
        self.loss += max(0.01, 1 / self.outcomes) * (abs(z - p) - self.loss)
        for k, E in enumerate(experts):
            sign = (p > z) - (p < z)
            r = clip(sign * (p - E) / self.loss, 5.0) if self.loss > 0 else 0.0
            self.R[k] = 0.999 * self.R[k] + r
            self.V[k] = 0.999 * self.V[k] + r * r

    def weights(self):
        w = [1e-3 * q + max(R, 0) / (1 + V) for q, R, V in zip(self.prior, self.R, self.V, strict=True)]
        return [part / sum(w) for part in w]

    def blend(self, experts):
        return clip(sum(w * E for w, E in zip(self.weights(), experts, strict=True)))


class PlainLinear:
    """Robust recursive least squares in float64, feature by feature."""

    def __init__(self, k, forgetting, hub, start):
        self.theta, self.P = [0.0] * k, [[0.0] * k for _ in range(k)]
        self.forgetting, self.hub, self.start, self.size, self.outcomes = forgetting, hub, start, 0.0, 0

    def forecast(self, x):
        return sum(a * b for a, b in zip(self.theta, x, strict=True))

    def learn(self, x, z):
        K = range(len(x))
        for i in K:
            if self.P[i][i] == 0 and x[i] != 0:
                self.P[i][i] = self.start
        self.outcomes += 1
        e = z - self.forecast(x)
        self.size += max(0.01, 1 / self.outcomes) * (abs(e) - self.size)
        w = min(1.0, self.hub * self.size / abs(e)) if e else 1.0
        Px = [sum(self.P[i][j] * x[j] for j in K) for i in K]
        down = self.forgetting / w + sum(x[i] * Px[i] for i in K)
        g = [part / down for part in Px]
        self.theta = [a + b * e for a, b in zip(self.theta, g, strict=True)]
        self.P = [[(self.P[i][j] - g[i] * Px[j]) / self.forgetting for j in K] for i in K]
        mean = sum(self.P[i][i] for i in K) / len(x)
        if mean > 100:
            self.P = [[part * 100 / mean for part in row] for row in self.P]
