// Numbers, times and elements as people read them. Nothing here writes HTML: every name is set as text.

export const $ = (id) => document.getElementById(id);

/** Make an element with attributes and children; strings become text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Set text only where it changes, so that selections and screen readers are left in peace. */
export function say(id, text) {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
}

/** Decimals that a series deserves, by the size of its usual moves. */
export function decimalsOf(values) {
  let moves = 0;
  let count = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i] != null && values[i - 1] != null && values[i] !== values[i - 1]) {
      moves += Math.abs(values[i] - values[i - 1]);
      count++;
    }
  }
  if (!count) return Math.min(String(values.at(-1) ?? "").split(".")[1]?.length ?? 0, 6); // as it came
  return Math.min(Math.max(Math.ceil(-Math.log10(moves / count)) + 2, 0), 9);
}

/** A value of a series, with so many decimals; very large and very small ones with an exponent. */
export function number(value, decimals = 3) {
  if (value == null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9 || (size > 0 && size < 10 ** -decimals / 2)) return value.toExponential(3).replace("-", "−");
  return value.toLocaleString("en-GB", { minimumFractionDigits: Math.min(decimals, 4), maximumFractionDigits: decimals }).replace("-", "−");
}

/** A count or rate in few characters: 940, 12.4k, 3.1M. */
export function short(value) {
  if (value == null) return "…";
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) return (value / (letter === "k" ? 1e3 : size)).toPrecision(3) + letter;
  }
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);
}

export function milliseconds(value) {
  if (value == null) return "–";
  return value >= 1000 ? `${(value / 1000).toPrecision(2)} s` : `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} ms`;
}

/** A share with its sign: +12.3%. */
export function signed(share) {
  if (share == null || !Number.isFinite(share)) return "–";
  const percent = share * 100;
  return `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(Math.abs(percent) < 99.95 ? 1 : 0)}%`;
}

export const percent = (share) => (share == null || Number.isNaN(share) ? "–" : `${(share * 100).toFixed(1)}%`);

/** A level's digits as a share: 80 is 0.8, 995 is 0.995. */
export const share = (digits) => Number(`0.${digits}`);
export const levelName = (digits) => `${+(share(digits) * 100).toFixed(6)}%`;

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** A moment in the reader's own time; with its day where that is not today. */
export function moment(ms, withDay = new Date(ms).toDateString() !== new Date().toDateString()) {
  const time = CLOCK.format(ms);
  return withDay ? `${DAY.format(ms)} ${time}` : time;
}

/** How long ago: 12 s, 3 min, 5 h, 2 d. */
export function ago(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(Math.floor(seconds), 0)} s`;
}

/** Labels of a time axis, as fine as its steps are. */
export function axisTimes(splits, step) {
  let day = "";
  return splits.map((seconds) => {
    if (seconds == null) return "";
    const at = new Date(seconds * 1000);
    const today = DAY.format(at);
    const isNewDay = day !== "" && today !== day;
    day = today;
    if (step >= 86400 || isNewDay) return today.replace(/ \d{4}$/, "");
    const time = CLOCK.format(at);
    if (step < 1) return `${time}.${String(at.getMilliseconds()).padStart(3, "0").slice(0, step < 0.1 ? 3 : 1)}`;
    return step < 60 ? time : time.slice(0, 5);
  });
}
