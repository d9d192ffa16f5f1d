// The result of a job: pictures, structures, comparison, files.

import { formats, images, models, record, statistics } from "./api.js";
import { offerComparison } from "./compare.js";
import { byId, make, showError } from "./dom.js";
import { offerDownloads } from "./downloads.js";
import { listStructures } from "./structures.js";
import { firstRange, useToolbar } from "./toolbar.js";
import { readable } from "./words.js";
import { Viewer } from "./viewer.js";

const COARSE = "The planes are shown in low resolution, because the images could not be loaded in full.";

/** Show the result of a finished job. Returns its viewer once the planes are on screen. */
export async function showResult(job) {
  performance.mark("result asked for");
  byId("loading").hidden = false;
  byId("loading").textContent = "Loading the images";
  byId("detail").hidden = true;
  const [structures, offered, given, { overview_step: step }, [scan, labels]] = await Promise.all([
    statistics(job.job), models(), formats(), record(job.job), images(job.job, { asOverview: true }),
  ]);
  performance.mark("result downloaded");
  const isCt = offered.find(({ name }) => name === job.model)?.modality.startsWith("CT") ?? false;
  const viewer = new Viewer(byId("view"), (place) => showLocation(place, structures, isCt));
  await viewer.open(scan, labels, structures, firstRange(isCt));
  useToolbar(viewer, isCt);
  showWarnings(job.warnings, structures);
  listStructures(structures, isCt, (values) => viewer.show(values), (structure) => viewer.planes.jumpTo(structure));
  offerComparison(job, viewer);
  offerDownloads(job, given);
  byId("loading").hidden = true;
  performance.mark("planes drawn");
  const solid = viewer.solidOpened.catch((error) => showError(`The view in 3D failed: ${error.message}`));
  if (step > 1) solid.then(() => refine(viewer, job)).catch((error) => showError(`${COARSE} ${error.message}`));
  return viewer;
}

/** Load all voxels of a large result, of which an overview is shown. */
async function refine(viewer, job) {
  if (!viewer.isOpen) return;
  byId("detail").hidden = false;
  try {
    const whole = await images(job.job, { asOverview: false });
    if (viewer.isOpen) await viewer.refine(...whole);
  } finally {
    if (viewer.isOpen) byId("detail").hidden = true;
  }
}

function showWarnings(warnings, structures) {
  const none = structures.length ? [] : ["No structure was found. Check that the model suits the scan."];
  const sentences = [...none, ...warnings];
  byId("warnings").hidden = sentences.length === 0;
  byId("warnings").replaceChildren(...sentences.map((sentence) => make("p", {}, sentence)));
}

function showLocation({ mm: [x, y, z], value, label }, structures, isCt) {
  const place = [
    `${Math.abs(x).toFixed(1)} ${x < 0 ? "L" : "R"}`,
    `${Math.abs(y).toFixed(1)} ${y < 0 ? "P" : "A"}`,
    `${Math.abs(z).toFixed(1)} ${z < 0 ? "I" : "S"}`,
  ];
  const here = structures.find((structure) => structure.value === label);
  const parts = [`${place.join(", ")} mm`, `${Number(value?.toFixed(1))}${isCt ? " HU" : ""}`, here ? readable(here.name) : ""];
  byId("location").textContent = parts.filter(Boolean).join(" · ");
}
