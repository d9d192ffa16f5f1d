// Which structures of a model are wanted: all, a group, or one by one.

import { byId, make } from "./dom.js";
import { grouped } from "./groups.js";
import { readable } from "./words.js";

let boxes = [];

/** Offer the structures of a model, all of them chosen. */
export function offerStructures(model) {
  const groups = grouped(model.classes);
  boxes = model.classes.map((structure) => box(structure));
  const boxOf = new Map(boxes.map((one) => [one.value, one]));
  const boxesIn = (structures) => structures.map((structure) => boxOf.get(structure.name));
  byId("picker-list").replaceChildren(...groups.map(([name, some]) => groupList(name, boxesIn(some))));
  byId("picker-shortcuts").replaceChildren(
    shortcut("All", boxes),
    ...(groups.length > 1 ? groups.map(([name, some]) => shortcut(name, boxesIn(some))) : []),
  );
  byId("picker-search").value = "";
  byId("picker-search").oninput = () => filter(byId("picker-search").value);
  byId("picker").onchange = countChosen;
  countChosen();
}

/** Names of the chosen structures; null for all. */
export function chosenStructures() {
  const chosen = boxes.filter((one) => one.checked).map((one) => one.value);
  return chosen.length === boxes.length ? null : chosen;
}

function box({ name }) {
  return make("input", { type: "checkbox", value: name, checked: true });
}

function groupList(name, some) {
  const labels = some.map((one) => make("label", { className: "check" }, one, readable(one.value)));
  return make("fieldset", { className: "plain" }, make("legend", {}, name), make("div", { className: "names" }, ...labels));
}

/** A button that chooses these structures and no others. */
function shortcut(name, some) {
  const choose = () => {
    boxes.forEach((one) => (one.checked = some.includes(one)));
    countChosen();
  };
  return make("button", { type: "button", className: "chip", onclick: choose }, name);
}

function countChosen() {
  const chosen = boxes.filter((one) => one.checked).length;
  byId("picker-count").textContent = `${chosen} of ${boxes.length} structures`;
  byId("segment").disabled = chosen === 0;
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const list of byId("picker-list").children) {
    const labels = [...list.querySelectorAll("label")];
    labels.forEach((label) => (label.hidden = !words.every((word) => label.textContent.toLowerCase().includes(word))));
    list.hidden = labels.every((label) => label.hidden);
  }
}
