// The table of structures: shown or hidden, volume, mean, warnings; a name jumps to its structure.

import { byId, make } from "./dom.js";
import { grouped } from "./groups.js";
import { millilitres, readable } from "./words.js";

let rows = [];

/** Show what was found. `onShown` hears the values that are shown, `onJump` the structure to jump to. */
export function listStructures(structures, isCt, onShown, onJump) {
  const table = document.querySelector("table.structures");
  table.querySelectorAll("tbody").forEach((body) => body.remove());
  byId("mean-head").textContent = isCt ? "Mean (HU)" : "Mean";
  rows = [];
  const change = () => {
    table.querySelectorAll("tbody").forEach(updateGroup);
    onShown(shownStructures().map(({ value }) => value));
  };
  table.append(...grouped(structures).map(([name, some]) => group(name, some, change, onJump)));
  const all = (shown) => () => {
    rows.forEach(({ box }) => (box.checked = shown));
    change();
  };
  byId("show-all").onclick = all(true);
  byId("hide-all").onclick = all(false);
  byId("structure-search").value = "";
  byId("structure-search").oninput = () => filter(table, byId("structure-search").value);
}

/** The structures that are shown now. */
export const shownStructures = () => rows.filter(({ box }) => box.checked).map(({ structure }) => structure);

function group(name, some, change, onJump) {
  const toggleAll = ({ target }) => {
    body.querySelectorAll("tr.structure input").forEach((box) => (box.checked = target.checked));
    change();
  };
  const box = make("input", { type: "checkbox", checked: true, onchange: toggleAll, "aria-label": `Show ${name}` });
  const head = make(
    "tr",
    { className: "group" },
    make("td", {}, box),
    make("th", { scope: "rowgroup", colSpan: 3 }, name, " ", make("span", { className: "hint" }, String(some.length))),
  );
  const body = make("tbody", {}, head, ...some.flatMap((structure) => rowsOf(structure, change, onJump)));
  return body;
}

/** The row of a structure, and one below it where there are warnings. */
function rowsOf(structure, change, onJump) {
  const name = readable(structure.name);
  const box = make("input", { type: "checkbox", checked: true, onchange: change, "aria-label": `Show ${name}` });
  const swatch = make("span", { className: "swatch" });
  swatch.style.backgroundColor = structure.color;
  const jump = make("button", { type: "button", className: "jump", onclick: () => onJump(structure) }, swatch, name);
  const row = make(
    "tr",
    { className: "structure", "data-name": structure.name },
    make("td", {}, box),
    make("td", {}, jump),
    make("td", { className: "number" }, millilitres(structure.volume_mm3)),
    make("td", { className: "number" }, structure.mean.toFixed(Math.abs(structure.mean) < 10 ? 1 : 0)),
  );
  const remarks = structure.warnings.length ? remarkRow(structure.warnings) : null;
  rows.push({ structure, box, row, remarks });
  return remarks ? [row, remarks] : [row];
}

function remarkRow(warnings) {
  const sentences = warnings.map((text) => make("p", {}, text));
  return make("tr", { className: "remarks" }, make("td"), make("td", { colSpan: 3 }, ...sentences));
}

/** The box of a group tells whether all, some or none of it are shown. */
function updateGroup(body) {
  const boxes = [...body.querySelectorAll("tr.structure input")];
  const shown = boxes.filter((box) => box.checked).length;
  const box = body.querySelector("tr.group input");
  box.checked = shown > 0;
  box.indeterminate = shown > 0 && shown < boxes.length;
}

function filter(table, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { structure, row, remarks } of rows) {
    const name = readable(structure.name).toLowerCase();
    row.hidden = !words.every((word) => name.includes(word));
    if (remarks) remarks.hidden = row.hidden;
  }
  for (const body of table.tBodies) body.hidden = !body.querySelector("tr.structure:not([hidden])");
}
