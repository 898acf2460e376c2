// The forecasts of one series as they came, and the columns that are drawn of them.

const KEPT = 2000; // ticks: more than a screen has columns for
const AVERAGED = 20; // ticks of the mean error

export class Points {
  constructor() {
    this.clear();
  }

  clear() {
    this.ts = [];
    this.y = [];
    this.yhat = [];
    this.warm = [];
    this.anomaly = [];
    this.gap = []; // whether ticks before this one are not known
    this.bounds = {}; // by level: lower and upper
  }

  get length() {
    return this.ts.length;
  }

  get levels() {
    return Object.keys(this.bounds).sort((a, b) => Number(`0.${a}`) - Number(`0.${b}`));
  }

  /** Take in what an event tells. */
  add(told) {
    const before = this.length;
    for (const name of ["ts", "y", "yhat", "warm", "anomaly"]) this[name].push(...told[name]);
    told.ts.forEach((_, i) => this.gap.push(i === 0 && (before === 0 || Boolean(told.gap))));
    const unknown = (n) => new Array(n).fill(null);
    for (const level of new Set([...Object.keys(this.bounds), ...Object.keys(told.bounds)])) {
      const known = (this.bounds[level] ??= [unknown(before), unknown(before)]);
      const more = told.bounds[level] ?? [unknown(told.ts.length), unknown(told.ts.length)];
      known.forEach((column, side) => column.push(...more[side]));
    }
    const over = this.length - KEPT;
    if (over > 0) {
      const columns = [this.ts, this.y, this.yhat, this.warm, this.anomaly, this.gap, ...Object.values(this.bounds).flat()];
      for (const column of columns) column.splice(0, over);
      this.gap[0] = true;
    }
  }

  /** Usual milliseconds from one tick to the next. */
  get step() {
    const gaps = [];
    for (let i = Math.max(1, this.length - 50); i < this.length; i++) gaps.push(this.ts[i] - this.ts[i - 1]);
    gaps.sort((a, b) => a - b);
    return Math.max(gaps[gaps.length >> 1] ?? 1000, 1);
  }

  /**
   * The last n ticks and one step ahead, as columns to draw: time in seconds, actual, forecast for that tick, mean
   * errors, and bounds for it by level. A forecast stands beside the tick that it was made for.
   */
  view(n) {
    const start = Math.max(0, this.length - n);
    const columns = { x: [], y: [], forecast: [], odd: [], next: [], error: [], naive: [], score: [], bounds: {} };
    for (const level of this.levels) columns.bounds[level] = [[], []];
    const errors = this.#errors(start);
    let last = -Infinity;
    const put = (x, i, made) => {
      last = Math.max(x, last + 0.0001); // ticks of one millisecond stand beside each other
      columns.x.push(last);
      columns.y.push(i == null ? null : this.y[i]);
      columns.score.push(i == null ? null : this.anomaly[i]);
      columns.odd.push(i != null && this.anomaly[i] > 1 ? this.y[i] : null);
      columns.next.push(null);
      columns.error.push(i == null ? null : errors.ours[i - start]);
      columns.naive.push(i == null ? null : errors.naive[i - start]);
      columns.forecast.push(made == null ? null : this.yhat[made]);
      for (const level of this.levels) {
        for (const side of [0, 1]) {
          columns.bounds[level][side].push(made == null ? null : this.bounds[level][side][made]);
        }
      }
    };
    for (let i = start; i < this.length; i++) {
      const x = this.ts[i] / 1000;
      if (this.gap[i] && i > start) put(x, null, null);
      put(x, i, i > 0 && !this.gap[i] ? i - 1 : null);
    }
    if (this.length) {
      const end = this.length - 1;
      put((this.ts[end] + this.step) / 1000, null, end);
      columns.next[columns.next.length - 1] = this.yhat[end];
    }
    return columns;
  }

  /** Mean errors of ours and of the naive forecast over the latest ticks, from one position on. */
  #errors(start) {
    const found = { ours: [], naive: [] };
    for (let i = start; i < this.length; i++) {
      let ours = 0;
      let naive = 0;
      let count = 0;
      for (let j = i; j > 0 && j > i - AVERAGED && !this.gap[j]; j--) {
        ours += Math.abs(this.y[j] - this.yhat[j - 1]);
        naive += Math.abs(this.y[j] - this.y[j - 1]);
        count++;
      }
      found.ours.push(count ? ours / count : null);
      found.naive.push(count ? naive / count : null);
    }
    return found;
  }

  /** What the last n ticks come to: errors, coverage by level, anomalies. */
  summary(n) {
    const sum = { count: 0, error: 0, naive: 0, anomalies: 0, lastAnomaly: null, coverage: {} };
    const start = Math.max(0, this.length - n);
    for (let i = start; i < this.length; i++) {
      if (this.anomaly[i] > 1) {
        sum.anomalies++;
        sum.lastAnomaly = i;
      }
      if (i === 0 || this.gap[i]) continue;
      sum.count++;
      sum.error += Math.abs(this.y[i] - this.yhat[i - 1]);
      sum.naive += Math.abs(this.y[i] - this.y[i - 1]);
      for (const level of this.levels) {
        const [lower, upper] = this.bounds[level];
        if (lower[i - 1] == null) continue;
        const held = (sum.coverage[level] ??= { held: 0, of: 0 });
        held.of++;
        held.held += this.y[i] >= lower[i - 1] && this.y[i] <= upper[i - 1] ? 1 : 0;
      }
    }
    return sum;
  }
}
