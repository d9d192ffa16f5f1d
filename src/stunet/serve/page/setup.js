// Between a scan and a job: series, model, structures.

import { models, submit } from "./api.js";
import { byId, guarded } from "./dom.js";
import { showModels } from "./models.js";
import { chosenStructures, offerStructures } from "./picker.js";
import { chosenSeries, showSeries } from "./series.js";
import { size, sizes } from "./words.js";

/** Ask what to segment in a scan; `onJob` gets the job that was made. */
export async function setUp(scan, onJob) {
  byId("scan-summary").textContent = summary(scan);
  showSeries(scan);
  const offered = await models();
  if (!offered.some((model) => model.available)) {
    throw new Error("The server has no model yet. Its administrator can get one with: stunet weights get base");
  }
  let model = null;
  showModels(offered, modalityOf(scan), (chosen) => offerStructures((model = chosen)));
  byId("setup-form").onsubmit = (event) => {
    event.preventDefault();
    order(scan, model, onJob);
  };
}

const order = guarded(async (scan, model, onJob) => {
  byId("segment").disabled = true;
  try {
    const job = {
      scan: scan.scan,
      series: chosenSeries(),
      model: model.name,
      classes: chosenStructures(),
      augment_mirror: byId("mirror").checked,
    };
    onJob(await submit(job));
  } finally {
    byId("segment").disabled = false;
  }
});

function modalityOf(scan) {
  const series = scan.series.find(({ number }) => number === scan.chosen);
  return series?.modality ?? null;
}

function summary(scan) {
  if (scan.kind === "dicom") return `DICOM, ${scan.series.length} series, ${size(scan.bytes)}`;
  return `${sizes(scan.shape)} voxels of ${sizes(scan.spacing, 2)} mm, ${size(scan.bytes)}`;
}
