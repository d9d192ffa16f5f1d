// The scans that this browser has segmented, as long as the server keeps them.

import { cancel, hasEnded, jobs, remove } from "./api.js";
import { byId, guarded, make } from "./dom.js";
import { moment } from "./words.js";

const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };

/** Show the list, newest first; nothing where it is empty. */
export async function showJobs() {
  const own = (await jobs()).sort((one, other) => other.created.localeCompare(one.created));
  byId("jobs").hidden = own.length === 0;
  byId("jobs-rows").replaceChildren(...own.map(row));
}

function row(job) {
  const when = moment(job.created);
  return make(
    "tr",
    {},
    make("td", {}, when),
    make("td", {}, job.model),
    make("td", {}, make("span", { className: `badge ${job.state}` }, STATES[job.state]), job.error ? ` ${job.error}` : ""),
    make("td", { className: "wide" }, moment(job.erased_at)),
    make("td", { className: "actions" }, open(job, when), erase(job, when)),
  );
}

function open(job, when) {
  if (job.state === "failed" || job.state === "cancelled") return null;
  return make("a", { className: "button", href: `#job/${job.job}`, "aria-label": `Open ${job.model}, ${when}` }, "Open");
}

function erase(job, when) {
  const word = hasEnded(job) ? "Delete" : "Cancel";
  const act = guarded(async () => {
    await (hasEnded(job) ? remove(job.job) : cancel(job.job));
    await showJobs();
  });
  return make("button", { type: "button", onclick: act, "aria-label": `${word} ${job.model}, ${when}` }, word);
}
