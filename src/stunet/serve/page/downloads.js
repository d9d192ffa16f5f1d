// Files to take away.

import { result } from "./api.js";
import { byId, guarded, make } from "./dom.js";
import { shownStructures } from "./structures.js";
import { moment } from "./words.js";

const NEEDS_DICOM = "The scan is not DICOM, so there is no series that this file could refer to.";

/** [title, [[format, name, what it is for, whether it needs DICOM]]] */
const FORMATS = [
  ["Labels", [
    ["nifti", "NIfTI", "for most research software"],
    ["nrrd", "NRRD", "for ITK and 3D Slicer"],
    ["seg.nrrd", "Slicer segmentation", "with names and colours"],
  ]],
  ["For a PACS or a planning system", [
    ["dicom-seg", "DICOM SEG", "a label map", true],
    ["dicom-seg-binary", "DICOM SEG, binary", "for older viewers", true],
    ["rtstruct", "DICOM RTSTRUCT", "contours", true],
  ]],
  ["Surfaces", [
    ["stl", "STL", "for 3D printing"],
    ["glb", "GLB", "with colours"],
  ]],
  ["Numbers and reports", [
    ["csv", "Table (CSV)", "volumes and means"],
    ["html", "Report (HTML)", "pictures and numbers"],
    ["pdf", "Report (PDF)", "the same, to print"],
  ]],
];

/** Offer the result of a job in the formats that the server gives. */
export function offerDownloads(job, given) {
  const isDicom = job.series !== null;
  const sections = FORMATS.map(([title, formats]) => [title, formats.filter(([format]) => given.includes(format))]);
  byId("downloads").replaceChildren(...sections.map(([title, formats]) => section(title, formats, job, isDicom)));
  byId("save-status").textContent = "";
  const until = moment(job.erased_at);
  byId("erased").textContent = until ? `The server erases this scan and its result on ${until}.` : "";
}

function section(title, formats, job, isDicom) {
  const usable = formats.filter(([, , , needsDicom]) => isDicom || !needsDicom);
  const hint = usable.length < formats.length ? make("p", { className: "hint" }, NEEDS_DICOM) : null;
  const buttons = formats.map((format) => button(format, job, usable.includes(format)));
  return make("section", {}, make("h2", {}, title), hint, make("div", { className: "files" }, ...buttons));
}

function button([format, name, purpose], job, usable) {
  const click = guarded(() => save(job, format, name));
  const element = make("button", { type: "button", className: "file", disabled: !usable, onclick: click });
  element.dataset.format = format;
  element.append(make("strong", {}, name), make("span", { className: "hint" }, purpose));
  return element;
}

async function save(job, format, name) {
  const onlyShown = document.querySelector("input[name=scope]:checked").value === "shown";
  const classes = onlyShown ? shownStructures().map((structure) => structure.name) : null;
  if (classes?.length === 0) throw new Error("No structure is shown. Show at least one, or save all.");
  byId("save-status").textContent = `Preparing ${name}`;
  try {
    const file = await result(job.job, format, classes);
    download(file);
    byId("save-status").textContent = `Saved ${file.name}`;
  } catch (error) {
    byId("save-status").textContent = "";
    throw error;
  }
}

function download({ name, content }) {
  const address = URL.createObjectURL(content);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
