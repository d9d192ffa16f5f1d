// Keys of the result, and the table that tells them.

import { byId, make } from "./dom.js";
import { LAYOUTS } from "./toolbar.js";

const click = (id) => () => byId(id).click();
const layout = (name) => () => document.querySelector(`#layouts [data-layout="${name}"]`)?.click();

const opacity = (change) => () => {
  byId("opacity").value = Number(byId("opacity").value) + change;
  byId("opacity").oninput();
};

/** Keys beside those that move the cross: [key, what it does, action]. */
const KEYS = [
  ...LAYOUTS.map(([name, title], index) => [String(index + 1), `Layout: ${title}`, layout(name)]),
  ["o", "Outlines", click("outline")],
  ["m", "Measure: drag from one point to another", click("measure")],
  ["+", "Labels more opaque", opacity(10)],
  ["-", "Labels more transparent", opacity(-10)],
  ["a", "Show all structures", click("show-all")],
  ["h", "Hide all structures", click("hide-all")],
  ["/", "Search structures", () => byId("structure-search").focus()],
  ["?", "This table", () => openKeys()],
];

/** [key, what it does, step of the cross to the left, front and head of the patient] */
const STEPS = [
  ["ArrowLeft", "← →", "Cross to the patient’s right, left", [-1, 0, 0]],
  ["ArrowRight", null, null, [1, 0, 0]],
  ["ArrowUp", "↑ ↓", "Cross to the front, back", [0, 1, 0]],
  ["ArrowDown", null, null, [0, -1, 0]],
  ["PageUp", "Page ↑ ↓", "Cross to the head, feet", [0, 0, 1]],
  ["PageDown", null, null, [0, 0, -1]],
];

/** Listen to keys; `viewer()` is the one on screen, null where there is none. */
export function useKeys(viewer) {
  byId("keys-open").addEventListener("click", openKeys);
  byId("keys-rows").replaceChildren(...tableRows());
  // In the capture phase: a canvas of NiiVue has keys of its own, which it must not get.
  document.addEventListener("keydown", (event) => handle(event, viewer()), { capture: true });
}

function handle(event, viewer) {
  const inCanvas = event.target.tagName === "CANVAS";
  if (inCanvas) event.stopPropagation();
  if (!viewer || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const action = (inCanvas && moveOf(event.key, viewer)) || (!isTyping(event.target) && actionOf(event.key));
  if (!action) return;
  event.preventDefault();
  action();
}

const isTyping = (element) => element.matches("input:not([type=checkbox], [type=radio]), select, textarea");

const actionOf = (key) => KEYS.find(([one]) => one === key.toLowerCase())?.[2];

function moveOf(key, viewer) {
  const step = STEPS.find(([one]) => one === key)?.[3];
  return step && (() => viewer.planes.step(...step));
}

function openKeys() {
  byId("keys").showModal();
}

function tableRows() {
  const moves = STEPS.filter(([, keys]) => keys).map(([, keys, words]) => [keys, `${words} (in the picture)`]);
  const rows = [...moves, ...KEYS, ["Right drag", "Brightness and contrast"], ["Wheel", "Next slice"]];
  return rows.map(([key, words]) => make("tr", {}, make("td", {}, make("kbd", {}, key)), make("td", {}, words)));
}
