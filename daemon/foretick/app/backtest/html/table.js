"use strict";
// Sorts the table of series by the column whose head is pressed, and hides the rows that do not match the search.
const body = document.querySelector("#series tbody");
const heads = [...document.querySelectorAll("#series thead th")];
const key = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent;
  const number = Number(text);
  return text === "" || Number.isNaN(number) ? text : number;
};
const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
  const isDescending = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  const rows = [...body.rows].map((row) => [key(row, column), row]);
  rows.sort((a, b) => (a[0] === "" || b[0] === "" ? (a[0] === "") - (b[0] === "") : isDescending ? compare(b[0], a[0]) : compare(a[0], b[0])));
  body.append(...rows.map((pair) => pair[1]));
}));
document.querySelector("#find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
});
