// The page: which part is shown when.

import { demoScan, hasEnded, health, job as getJob } from "./api.js";
import { byId, guarded, showError } from "./dom.js";
import { showJobs } from "./jobs.js";
import { useKeys } from "./keyboard.js";
import { askWhenNeeded } from "./login.js";
import { follow, stopFollowing } from "./progress.js";
import { showResult } from "./result.js";
import { setUp } from "./setup.js";
import { useTabs } from "./tabs.js";
import { takeScans } from "./upload.js";

const PARTS = ["start", "setup", "progress", "result"];

let viewer = null;

/** Show one part of the page, and put the focus on its title, where screen readers begin. */
function show(part) {
  for (const one of PARTS) byId(one).hidden = one !== part;
  document.body.dataset.part = part;
  if (part !== "result") viewer = null;
  if (part !== "progress") stopFollowing();
  byId(`${part}-title`).focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

const onScan = guarded(async (scan) => {
  await setUp(scan, (job) => (location.hash = `job/${job.job}`));
  show("setup");
});

const onJob = guarded(async (job) => {
  if (!hasEnded(job)) {
    show("progress");
    return follow(job, onJob, ({ message }) => showError(message));
  }
  if (job.state !== "done") {
    await showStart();
    throw new Error(job.state === "failed" ? job.error : "The job was cancelled.");
  }
  show("result");
  const opened = await showResult(job);
  viewer = byId("result").hidden ? null : opened;
});

async function showStart() {
  show("start");
  await showJobs();
}

/** The part after # says what to show: a job, or the start. */
const route = guarded(async () => {
  const [kind, id] = location.hash.slice(1).split("/");
  if (kind === "job" && id) return onJob(await getJob(id));
  await showStart();
  if (kind === "scans") byId("jobs").hidden ? showError("You have no scans here yet.") : byId("jobs-title").focus();
});

askWhenNeeded();
useTabs(document.querySelector("[role=tablist]"));
useKeys(() => viewer);
takeScans(onScan);
byId("demo").addEventListener("click", guarded(async () => onScan(await demoScan())));
window.addEventListener("hashchange", route);
for (const link of document.querySelectorAll('a[href="#"]')) link.addEventListener("click", () => location.hash || route());
health().then(({ version }) => (byId("version").textContent = `stunet ${version}`)).catch(() => {});
route();
