// Two charts on one time axis: the series with its forecasts and intervals; mean errors, ours and naive.

import { $, axisTimes, number } from "./text.js";

/* global uPlot */

const TOKENS = ["ink", "quiet", "edge", "ours", "band", "naive", "odd", "surface"];
const colours = {};

/** Read the theme's colours; the canvas cannot. */
export function readColours() {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  for (const token of TOKENS) {
    probe.style.color = `var(--${token})`;
    colours[token] = getComputedStyle(probe).color;
  }
  probe.remove();
}

const font = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

function axes(decimals) {
  const common = { stroke: () => colours.quiet, font, ticks: { show: false } };
  const grid = { stroke: () => colours.edge, width: 1 };
  return [
    { ...common, grid: { show: false }, space: 90, size: 26, gap: 4, values: (_, splits, __, ___, step) => axisTimes(splits, step) },
    { ...common, grid, size: 64, gap: 6, space: 36, values: (_, splits, __, ___, step) => splits.map((v) => (v == null ? "" : number(v, Math.min(decimals(), Math.max(0, Math.ceil(-Math.log10(step)))))) ) },
  ];
}

/** The range of what matters: actuals, forecasts and the narrower intervals whole, the widest as far as there is room. */
function rangeOf(plot, low, high) {
  const inner = plot.innerRange?.() ?? [low, high];
  const [a, b] = [Math.min(...inner), Math.max(...inner)];
  if (!Number.isFinite(a) || !Number.isFinite(b)) return [0, 1];
  const room = Math.max((b - a) * 0.6, Math.abs(b) * 1e-6, 1e-12);
  const bottom = Math.max(low ?? a, a - room);
  const top = Math.min(high ?? b, b + room);
  const pad = Math.max((top - bottom) * 0.06, Math.abs(top) * 1e-6, 1e-9);
  return [bottom - pad, top + pad];
}

function fit(plot, holder) {
  const observer = new ResizeObserver(() => {
    const { clientWidth: width, clientHeight: height } = holder;
    if (width && height && (width !== plot.width || height !== plot.height)) plot.setSize({ width, height });
  });
  observer.observe(holder);
  return observer;
}

export class Charts {
  /** @param onPoint told the position under the cursor, or null. */
  constructor(onPoint) {
    this.onPoint = onPoint;
    this.levels = null;
    this.decimals = 3;
  }

  /** Draw these columns, which `Points.view` made. */
  draw(columns, decimals) {
    const levels = Object.keys(columns.bounds);
    this.decimals = decimals;
    if (!this.main || levels.join() !== [...this.levels].reverse().join()) this.#build(levels);
    const pairs = this.levels.flatMap((level) => [columns.bounds[level][1], columns.bounds[level][0]]);
    this.inner = [columns.y, columns.forecast, ...(levels.length > 1 ? pairs.slice(2) : pairs)];
    this.main.setData([columns.x, ...pairs, columns.y, columns.forecast, columns.odd, columns.next]);
    this.small.setData([columns.x, columns.naive, columns.error]);
  }

  redraw() {
    readColours();
    this.main?.redraw(false, true);
    this.small?.redraw(false, true);
  }

  #build(levels) {
    this.destroy();
    readColours();
    this.levels = [...levels].reverse(); // the widest lies below
    const sync = { key: "time", setSeries: false };
    const cursor = { sync, y: false, points: { size: 7, width: 2 }, drag: { x: false, y: false } };
    const bound = { stroke: "transparent", width: 0, points: { show: false } };
    const line = { points: { show: false } };
    const mark = (token, size, width) => ({ paths: () => null, points: { show: true, size, width, stroke: () => colours[token], fill: () => colours.surface } });
    const common = { legend: { show: false }, cursor, padding: [8, 20, 0, 0] };
    this.main = new uPlot({
      ...common,
      width: $("chart").clientWidth || 600,
      height: $("chart").clientHeight || 300,
      scales: { y: { range: (plot, low, high) => rangeOf(plot, low, high) } },
      axes: axes(() => this.decimals),
      series: [
        {},
        ...this.levels.flatMap(() => [{ ...bound }, { ...bound }]),
        { ...line, stroke: () => colours.ink, width: 1.6 },
        { ...line, stroke: () => colours.ours, width: 1.6, dash: [5, 3] },
        mark("odd", 10, 2.2),
        mark("ours", 8, 2.2),
      ],
      bands: this.levels.map((_, i) => ({ series: [1 + 2 * i, 2 + 2 * i], fill: () => colours.band })),
      hooks: { setCursor: [(plot) => this.onPoint(plot.cursor.idx ?? null)] },
    }, undefined, $("chart"));
    this.main.innerRange = () => this.#inner();
    this.small = new uPlot({
      ...common,
      width: $("errors").clientWidth || 300,
      height: $("errors").clientHeight || 130,
      scales: { y: { range: (_, low, high) => [0, (high || 1) * 1.12] } },
      axes: axes(() => this.decimals + 1),
      series: [
        {},
        { ...line, stroke: () => colours.naive, width: 1.5, dash: [3, 3] },
        { ...line, stroke: () => colours.ours, width: 1.8, fill: () => colours.band },
      ],
    }, undefined, $("errors"));
    this.observers = [fit(this.main, $("chart")), fit(this.small, $("errors"))];
  }

  #inner() {
    let low = Infinity;
    let high = -Infinity;
    for (const column of this.inner ?? []) {
      for (const value of column) {
        if (value == null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    return [low, high];
  }

  destroy() {
    this.observers?.forEach((observer) => observer.disconnect());
    this.main?.destroy();
    this.small?.destroy();
    this.main = this.small = null;
  }
}
