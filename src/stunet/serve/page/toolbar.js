// How the scan is drawn: layout, window, opacity, outlines, measuring.

import { byId, make } from "./dom.js";

export const LAYOUTS = [["all", "All"], ["axial", "Axial"], ["coronal", "Coronal"], ["sagittal", "Sagittal"], ["3d", "3D"]];

/** Windows of CT: name, and the range in Hounsfield units; null for what suits the scan. */
const WINDOWS = [
  ["Soft tissue", [-160, 240]],
  ["Lung", [-1350, 150]],
  ["Bone", [-500, 1300]],
  ["Brain", [0, 80]],
  ["Automatic", null],
];

/** The range of values with which a scan is opened. */
export const firstRange = (isCt) => (isCt ? WINDOWS[0][1] : null);

/** Connect the controls with a viewer. */
export function useToolbar(viewer, isCt) {
  const layouts = LAYOUTS.map(([name, title]) => layoutButton(viewer, name, title));
  byId("layouts").replaceChildren(...layouts);
  press(layouts[0]);
  offerWindows(viewer, isCt);
  byId("opacity").value = viewer.opacity * 100;
  byId("opacity").oninput = () => viewer.setOpacity(Number(byId("opacity").value) / 100);
  toggle(byId("outline"), (on) => viewer.setOutlines(on));
  toggle(byId("measure"), (on) => viewer.planes.setMeasuring(on));
}

function layoutButton(viewer, name, title) {
  const choose = ({ currentTarget }) => {
    press(currentTarget);
    viewer.setLayout(name);
  };
  return make("button", { type: "button", "aria-pressed": "false", "data-layout": name, onclick: choose }, title);
}

function press(button) {
  for (const one of button.parentElement.children) one.setAttribute("aria-pressed", String(one === button));
}

/** Other scans than CT have no values that mean the same everywhere. */
function offerWindows(viewer, isCt) {
  const select = byId("window");
  byId("window-label").hidden = !isCt;
  select.replaceChildren(...WINDOWS.map(([name]) => new Option(name)));
  select.onchange = () => viewer.planes.setWindow(WINDOWS[select.selectedIndex][1]);
}

function toggle(button, onChange) {
  button.setAttribute("aria-pressed", "false");
  button.onclick = () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    onChange(on);
  };
}
