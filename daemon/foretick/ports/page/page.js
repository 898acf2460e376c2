// The live page: one stream of events from the daemon, one series shown. docs/page.md tells what it promises.

import { Charts } from "./chart.js";
import { SeriesList } from "./list.js";
import { Points } from "./points.js";
import { $, ago, decimalsOf, element, levelName, milliseconds, moment, number, percent, say, share, short, signed } from "./text.js";

const SAID_EVERY_MS = 30_000; // a word to screen readers, at most
const HIDDEN_MS = 30_000; // a page that nobody sees takes nobody's place for longer
const SLOW_DRAW_MS = 1000; // where motion is not wanted
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const points = new Points();
const state = { row: null, source: null, paused: false, span: 200, drawAt: 0, saidAt: 0, heardAt: 0, full: false, trouble: "", mix: {}, cursor: null, view: null };
const charts = new Charts((at) => { state.cursor = at; legend(); });
const list = new SeriesList(choose);

// ---- the stream ----

function open() {
  state.source?.close();
  clearTimeout(state.retry);
  const query = state.row ? `?series=${state.row.id}` : "";
  const source = (state.source = new EventSource(`events${query}`));
  const on = (name, take) => source.addEventListener(name, (event) => source === state.source && take(JSON.parse(event.data)));
  on("hello", (told) => { state.full = false; linked("live"); banner(""); named(told); });
  on("past", (told) => { points.clear(); state.trouble = told.trouble; points.add(told); draw(true); });
  on("points", (told) => { points.add(told); draw(false); });
  on("mix", (told) => { state.mix = told.weights; mix(); });
  on("vitals", (told) => { state.heardAt = Date.now(); vitals(told); draw(false); });
  on("full", (told) => {
    state.full = true;
    linked("lost");
    banner(`${told.viewers} people are looking already, which is all this page serves at once. It tries again every 15 seconds.`);
  });
  source.onerror = () => source === state.source && lost();
}

/** The browser asks again by itself unless it was turned away; then we do. */
function lost() {
  linked("lost");
  if (state.full && state.source.readyState !== EventSource.CLOSED) return; // it was told why, and when it asks again
  const since = state.heardAt ? ` What you see is of ${moment(state.heardAt)}.` : "";
  banner(`No connection to the daemon. Does it run, and is its port reachable? Trying again …${since}`);
  if (state.source.readyState === EventSource.CLOSED) {
    clearTimeout(state.retry);
    state.retry = setTimeout(open, 3000);
  }
}

function linked(to) {
  if ($("link").dataset.state === to) return;
  const before = $("link").dataset.state;
  $("link").dataset.state = to;
  say("link", { live: "live", lost: "reconnecting", paused: "paused" }[to] ?? to);
  if (before === "lost" && to === "live") announce("Connected again.");
}

function banner(text) {
  $("banner").hidden = !text;
  say("banner", text);
}

// ---- choosing ----

function choose(row) {
  if (state.row?.id === row.id && state.source) return;
  state.row = row;
  state.mix = {};
  state.saidAt = 0;
  history.replaceState(null, "", `#${row.id}`);
  points.clear();
  named(row);
  draw(true);
  open();
}

function named(row) {
  if (!row.series) return;
  if (state.row?.id === row.id) state.row = { ...state.row, ...row };
  say("series-name", row.series);
  say("stream-name", row.stream);
  document.title = `${row.series} · foretick`;
  $("watched").hidden = false;
  $("nothing").hidden = true;
}

/** What to do where there is no series at all. */
function empty(told) {
  if (state.row || list.told === null || list.told.total > 0) return;
  $("nothing").hidden = false;
  if ($("nothing").childElementCount) return;
  $("nothing").replaceChildren(
    element("h2", {}, "No series yet"),
    element("p", {}, "A series appears here with its first tick. This makes one:"),
    element("code", {}, "redis-cli XADD ticks '*' series boiler-7 value 71.3"),
    element("p", {}, "or push what this computer's sensors tell: "),
    element("code", {}, "foretick produce --sensors"),
    element("p", {}, Object.keys(told.failing).length ? "The daemon is not ready yet; what it waits for stands above." : "The daemon is ready and waits. Where several daemons share the work, the series may be another one's."),
  );
}

// ---- the numbers ----

function vitals(told) {
  say("v-rate", short(told.ticks_per_second));
  say("v-latency", told.latency_p50_ms == null ? "–" : `${milliseconds(told.latency_p50_ms)} · ${milliseconds(told.latency_p99_ms)}`);
  say("v-lag", told.lag_ticks ? `${short(told.lag_ticks)} ticks${told.lag_seconds >= 1 ? `, ${ago(told.lag_seconds)}` : ""}` : "none");
  say("v-series", short(told.series));
  say("v-skill", signed(told.skill));
  $("v-skill").className = kind(told.skill);
  const levels = Object.keys(told.coverage).sort();
  say("v-levels", levels.length ? ` ${levels.map((level) => `${+(level * 100).toFixed(4)}%`).join(" · ")}` : "");
  say("v-coverage", levels.length ? levels.map((level) => percent(told.coverage[level])).join(" · ") : "–");
  say("v-dead", short(told.dead));
  const failing = Object.entries(told.failing).map(([name, why]) => (why ? `${name} (${why})` : name));
  banner(failing.length ? `The daemon is not ready: ${failing.join("; ")}. The runbook, docs/runbook.md, says what to do.` : "");
  empty(told);
}

const kind = (skill) => (skill == null || Math.abs(skill) < 0.005 ? "" : skill > 0 ? "good" : "bad");

function figures() {
  const decimals = decimalsOf(points.y.slice(-200));
  const end = points.length - 1;
  if (end < 0) {
    for (const id of ["f-actual", "f-next", "f-skill", "f-coverage", "f-anomalies"]) say(id, "…");
    say("f-when", state.trouble ? `its past cannot be read: ${state.trouble}` : "waiting for its next tick");
    for (const id of ["f-interval", "f-errors", "f-promise", "f-last-anomaly"]) say(id, "");
    return;
  }
  const sum = points.summary(state.span);
  say("f-actual", number(points.y[end], decimals));
  say("f-when", moment(points.ts[end]));
  say("f-next", number(points.yhat[end], decimals));
  const levels = points.levels.filter((level) => points.bounds[level][0][end] != null);
  const level = levels[0];
  say("f-interval", level ? `${levelName(level)}: ${number(points.bounds[level][0][end], decimals)} to ${number(points.bounds[level][1][end], decimals)}` : points.warm[end] ? "" : "naive: too few ticks yet");
  const skill = sum.naive > 0 ? 1 - sum.error / sum.naive : null;
  say("f-skill", signed(skill));
  $("f-skill").className = kind(skill);
  say("f-errors", sum.count ? `${number(sum.error / sum.count, decimals + 1)} against ${number(sum.naive / sum.count, decimals + 1)}` : "");
  const covered = Object.entries(sum.coverage).sort(([a], [b]) => share(a) - share(b));
  say("f-coverage", covered.length ? covered.map(([, { held, of }]) => percent(held / of)).join(" · ") : "–");
  say("f-promise", covered.length ? `promised ${covered.map(([name]) => levelName(name)).join(" · ")}` : "no intervals yet");
  say("f-anomalies", String(sum.anomalies));
  say("f-last-anomaly", sum.lastAnomaly == null ? `in ${sum.count} ticks` : `last ${moment(points.ts[sum.lastAnomaly])}`);
  announceNow(decimals, skill, level);
}

/** The numbers under the cursor, or the newest. */
function legend() {
  const view = state.view;
  if (!view || !view.x.length) return;
  const at = state.cursor ?? view.x.length - 2;
  const decimals = charts.decimals;
  const value = (column, more = 0) => (column[at] == null ? "–" : number(column[at], decimals + more));
  say("l-y", value(view.y));
  say("l-yhat", value(view.forecast));
  say("l-error", value(view.error, 1));
  say("l-naive", value(view.naive, 1));
  say("l-anomaly", view.score[at] == null ? "" : `score ${number(view.score[at], 2)}`);
  say("l-when", at === view.x.length - 1 ? "the next tick" : moment(view.x[at] * 1000));
  for (const level of points.levels) {
    const node = $(`l-band-${level}`);
    const [lower, upper] = view.bounds[level] ?? [[], []];
    if (node) node.textContent = lower[at] == null ? "–" : `${number(lower[at], decimals)} … ${number(upper[at], decimals)}`;
  }
}

function bands() {
  const levels = points.levels;
  if ($("l-bands").dataset.levels === levels.join()) return;
  $("l-bands").dataset.levels = levels.join();
  $("l-bands").replaceChildren(...levels.map((level) => element("span", { class: "level" }, element("i", { class: "mark band" }), `${levelName(level)} `, element("b", { id: `l-band-${level}` }), " ")));
}

/** Few numbers more than nothing: the experts, the heaviest first. */
function mix() {
  const all = Object.entries(state.mix).sort(([, a], [, b]) => b - a);
  const rows = all.filter(([, weight], i) => i < 6 && weight >= 0.0005);
  const others = all.slice(rows.length);
  if (others.length) rows.push([others.length > 1 ? `${others.length} others` : others[0][0], others.reduce((sum, [, weight]) => sum + weight, 0)]);
  if (!rows.length) {
    $("mix").replaceChildren(element("li", { class: "dim" }, "known with its next tick"));
    return;
  }
  $("mix").replaceChildren(...rows.map(([name, weight]) => {
    const bar = element("i");
    bar.style.width = `${weight * 100}%`;
    return element("li", name === "naive" ? { class: "plain" } : {}, element("span", {}, name.replaceAll("_", " ")), element("span", { class: "track", "aria-hidden": "true" }, bar), element("span", { class: "share" }, `${(weight * 100).toFixed(weight < 0.0995 ? 1 : 0)}%`));
  }));
}

function table(decimals) {
  if (!document.querySelector("details").open) return;
  const level = points.levels.at(-1);
  const rows = [];
  for (let i = points.length - 1; i >= Math.max(0, points.length - 12); i--) {
    const known = i > 0 && !points.gap[i];
    const bounds = known && level && points.bounds[level][0][i - 1] != null ? points.bounds[level].map((column) => number(column[i - 1], decimals)).join(" to ") : "–";
    const cells = [moment(points.ts[i]), number(points.y[i], decimals), known ? number(points.yhat[i - 1], decimals) : "–", known ? number(points.y[i] - points.yhat[i - 1], decimals + 1) : "–", bounds, points.anomaly[i] == null ? "–" : number(points.anomaly[i], 2)];
    rows.push(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  }
  $("rows").replaceChildren(...rows);
}

function draw(now) {
  if (state.paused || document.hidden || $("watched").hidden) return;
  const time = performance.now();
  if (!now && calm.matches && time - state.drawAt < SLOW_DRAW_MS) return;
  state.drawAt = time;
  const decimals = decimalsOf(points.y.slice(-200));
  state.view = points.view(state.span);
  if (points.length) charts.draw(state.view, decimals);
  else charts.destroy();
  bands();
  figures();
  legend();
  table(decimals);
}

// ---- for whoever listens ----

function announce(text) {
  say("said", text);
}

function announceNow(decimals, skill, level) {
  if (Date.now() - state.saidAt < SAID_EVERY_MS || points.length < 2) return;
  state.saidAt = Date.now();
  const end = points.length - 1;
  const interval = level ? `, with ${levelName(level)} between ${number(points.bounds[level][0][end], decimals)} and ${number(points.bounds[level][1][end], decimals)}` : "";
  announce(`${state.row.series}: actual ${number(points.y[end], decimals)}, next forecast ${number(points.yhat[end], decimals)}${interval}, skill ${signed(skill)}.`);
}

// ---- the reader's hands ----

function pause(to) {
  state.paused = to;
  $("pause").setAttribute("aria-pressed", to);
  say("pause", to ? "Go on" : "Pause");
  draw(true);
}

function theme(to) {
  const order = ["", "light", "dark"];
  const next = to ?? order[(order.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  $("theme").setAttribute("aria-label", `Colours: ${next || "as the system"}`);
  $("theme").title = `Colours: ${next || "as the system"}`;
  try { localStorage.setItem("foretick-theme", next); } catch { /* private windows have none */ }
  charts.redraw();
}

$("theme").addEventListener("click", () => theme());
$("pause").addEventListener("click", () => pause(!state.paused));
$("spans").addEventListener("change", (event) => { state.span = Number(event.target.value); draw(true); });
document.querySelector("details").addEventListener("toggle", () => table(charts.decimals));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.redraw());
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=search]");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (event.key === "/") { event.preventDefault(); $("text").focus(); }
  if (event.key === "p") pause(!state.paused);
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(state.hiding);
  if (document.hidden) state.hiding = setTimeout(() => { state.source?.close(); state.source = null; }, HIDDEN_MS);
  else if (!state.source) open();
  else draw(true);
});
window.addEventListener("hashchange", fromAddress);

function fromAddress() {
  const id = location.hash.slice(1);
  if (!id || id === state.row?.id) return false;
  list.select(id);
  choose({ id });
  return true;
}

let kept = "";
try { kept = localStorage.getItem("foretick-theme") ?? ""; } catch { /* likewise */ }
theme(kept);
if (!fromAddress()) open(); // how the daemon fares, also where there is no series yet
