// The list of series: asked for again and again while the page is seen, chosen from by mouse or keyboard.

import { $, ago, element, say, short, signed } from "./text.js";

const AGAIN_MS = 3000;
const TYPED_MS = 200; // after the last key, before a search is asked
const SETTLED = 100; // forecasts, before skill is more than chance
const SILENT_SECONDS = 60; // without a tick, before the list says so

export class SeriesList {
  /** @param choose told the row that a person chose, or the first one there is. */
  constructor(choose) {
    this.choose = choose;
    this.rows = [];
    this.chosen = null;
    this.told = null;
    this.timer = 0;
    $("text").addEventListener("input", () => this.#soon(TYPED_MS));
    $("text").addEventListener("keydown", (event) => this.#key(event));
    $("orders").addEventListener("change", () => this.#soon(0));
    $("list").addEventListener("keydown", (event) => this.#key(event));
    $("list").addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.#take(this.rows[Number(item.dataset.at)]);
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.#soon(0));
    this.#soon(0);
  }

  #soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), ms);
  }

  async #ask() {
    const order = document.querySelector("input[name=order]:checked").value;
    const text = $("text").value.trim();
    const asked = (this.asked = {}); // a later question makes this one moot
    try {
      const answer = await fetch(`series?${new URLSearchParams({ order, text })}`);
      if (!answer.ok) throw new Error(await answer.text());
      const told = await answer.json();
      if (asked !== this.asked) return;
      this.told = told;
      this.#show(told.rows, order, text);
    } catch {
      // the stream of events says what is wrong
    }
    if (asked === this.asked && !document.hidden) this.#soon(AGAIN_MS);
  }

  /** Show the rows; whoever is pointing at one of them keeps the order as it is. */
  #show(rows, order, text) {
    const question = `${order} ${text}`;
    if (question === this.question && $("list").matches(":hover")) {
      const place = new Map(this.rows.map((row, i) => [row.id, i]));
      rows.sort((a, b) => (place.get(a.id) ?? 1e9) - (place.get(b.id) ?? 1e9));
    }
    this.question = question;
    this.rows = rows;
    const streams = new Set(rows.map((row) => row.stream));
    const list = $("list");
    rows.forEach((row, i) => {
      const item = list.children[i] ?? list.appendChild(blank(i));
      fill(item, row, streams.size > 1, row.id === this.chosen);
    });
    while (list.children.length > rows.length) list.lastChild.remove();
    this.#mark();
    this.#count(text);
    if (this.chosen === null && rows.length) this.#take(rows[0]);
  }

  #count(text) {
    const { total, matches, more } = this.told;
    const shown = this.rows.length;
    if (text && !matches && more) say("count", "Nothing found in time among so many series: type more of the name.");
    else if (text && !matches) say("count", `No series is called like “${text}”.`);
    else if (text) say("count", `${more ? "over " : ""}${short(matches)} of ${short(total)} series match${shown < matches ? `, the first ${shown} shown` : ""}`);
    else say("count", shown < total ? `the first ${shown} of ${short(total)} series: search for the others` : `${total} series`);
  }

  #take(row) {
    if (!row) return;
    this.chosen = row.id;
    this.#mark();
    this.choose(row);
  }

  /** Choose by id, as an address does. */
  select(id) {
    this.chosen = id;
    this.#mark();
  }

  /** What the list knows of a series. */
  row(id) {
    return this.rows.find((row) => row.id === id);
  }

  #mark() {
    let active = "";
    [...$("list").children].forEach((item, i) => {
      const is = this.rows[i]?.id === this.chosen;
      item.setAttribute("aria-selected", is);
      if (is) active = item.id;
    });
    if (active) $("list").setAttribute("aria-activedescendant", active);
    else $("list").removeAttribute("aria-activedescendant");
  }

  #key(event) {
    const at = this.rows.findIndex((row) => row.id === this.chosen);
    const inText = event.target === $("text");
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: inText ? null : 0, End: inText ? null : this.rows.length - 1 }[event.key];
    if (event.key === "Escape" && inText) {
      $("text").value = "";
      this.#soon(0);
    }
    if (to == null || !this.rows.length) return;
    event.preventDefault();
    const next = Math.min(Math.max(to, 0), this.rows.length - 1);
    this.#take(this.rows[next]);
    $("list").children[next].scrollIntoView({ block: "nearest" });
  }
}

function blank(i) {
  const item = element("li", { role: "option", id: `series-${i}` },
    element("span", { class: "name" }), element("span", { class: "skill" }), element("span", { class: "from" }),
    element("span", { class: "dim" }), element("span", { class: "bar" }, element("i")));
  item.dataset.at = i;
  return item;
}

function fill(item, row, withStream, isChosen) {
  const [name, skill, from, silence, bar] = item.children;
  const share = row.t >= SETTLED && row.naive_mae > 0 ? 1 - row.mae / row.naive_mae : null;
  const silent = Date.now() / 1000 - row.last_ms / 1000;
  const kind = share == null ? "dim" : share > 0.005 ? "good" : share < -0.005 ? "bad" : "dim";
  set(name, row.series);
  name.title = row.series;
  set(skill, share == null ? "new" : signed(share));
  skill.className = `skill ${kind}`;
  set(from, withStream ? row.stream : "");
  set(silence, silent > SILENT_SECONDS ? `silent ${ago(silent)}` : "");
  silence.className = "from";
  bar.className = `bar ${kind}`;
  bar.firstChild.style.width = `${Math.min(Math.abs(share ?? 0), 1) * 100}%`;
  item.setAttribute("aria-selected", isChosen);
  item.setAttribute("aria-label", `${row.series}${withStream ? `, stream ${row.stream}` : ""}, skill ${share == null ? "not yet known" : signed(share)}${silent > SILENT_SECONDS ? `, silent for ${ago(silent)}` : ""}`);
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
