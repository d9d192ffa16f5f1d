// How well the result agrees with reference labels.

import { compare, referenceImage } from "./api.js";
import { byId, guarded, make } from "./dom.js";
import { readable } from "./words.js";

const HINTS = { both: "The result is filled, the reference is an outline.", result: "", reference: "" };

/** Take reference labels of a job and show them in a viewer. */
export function offerComparison(job, viewer) {
  byId("comparison").hidden = true;
  byId("compare-status").textContent = "";
  byId("choose-reference").onclick = () => byId("reference").click();
  byId("reference").onchange = guarded(async () => {
    const [file] = byId("reference").files;
    byId("reference").value = "";
    if (file) await use(file, job, viewer);
  });
  for (const radio of document.querySelectorAll("input[name=shown]")) radio.onchange = () => show(radio.value, viewer);
}

async function use(file, job, viewer) {
  byId("compare-status").textContent = `Comparing with ${file.name}`;
  try {
    const { classes } = await compare(job.job, file);
    await viewer.openReference(await referenceImage(job.job));
    byId("comparison-rows").replaceChildren(...classes.map(row), mean(classes));
    document.querySelector("input[name=shown][value=both]").checked = true;
    show("both", viewer);
    byId("comparison").hidden = false;
    byId("compare-status").textContent = `Compared with ${file.name}`;
  } catch (error) {
    byId("compare-status").textContent = "";
    throw error;
  }
}

function show(which, viewer) {
  byId("compare-hint").textContent = HINTS[which];
  viewer.compare(which);
}

function row({ name, dsc, hd95_mm }) {
  return make("tr", {}, make("td", {}, readable(name)), number(dsc, 3), number(hd95_mm, 1));
}

function mean(classes) {
  const of = (key) => {
    const values = classes.map((one) => one[key]).filter((value) => value !== null);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  };
  return make("tr", { className: "total" }, make("td", {}, "Mean"), number(of("dsc"), 3), number(of("hd95_mm"), 1));
}

const number = (value, digits) => make("td", { className: "number" }, value === null ? "–" : value.toFixed(digits));
