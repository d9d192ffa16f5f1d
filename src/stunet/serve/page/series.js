// The series of a DICOM scan, one to choose.

import { byId, make } from "./dom.js";
import { sizes } from "./words.js";

/** Show the series of a scan, or nothing for another kind of file. */
export function showSeries(scan) {
  byId("series").hidden = scan.series.length === 0;
  byId("series-rows").replaceChildren(...scan.series.map((series) => row(series, scan.chosen)));
}

/** The number of the chosen series; null where there is none. */
export function chosenSeries() {
  const chosen = document.querySelector("input[name=series]:checked");
  return chosen ? Number(chosen.value) : null;
}

function row(series, chosen) {
  const label = `Series ${series.number}`;
  const radio = make("input", { type: "radio", name: "series", value: series.number, required: true, "aria-label": label });
  radio.disabled = !series.suitable;
  radio.checked = series.number === chosen;
  const cells = [series.modality, series.description, null, sizes(series.spacing, 2), series.remark];
  const [modality, description, , spacing, remark] = cells.map((text) => make("td", {}, text ?? ""));
  return make(
    "tr",
    { className: series.suitable ? "choosable" : "muted", onclick: () => series.suitable && radio.click() },
    make("td", {}, radio),
    make("td", {}, String(series.number)),
    modality,
    description,
    make("td", { className: "number" }, String(series.slices)),
    spacing,
    remark,
  );
}
