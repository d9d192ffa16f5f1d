// A job from the queue to its end.

import { cancel, hasEnded, watch } from "./api.js";
import { byId, guarded, make } from "./dom.js";
import { duration } from "./words.js";

const STAGES = [
  ["queued", "Waiting"],
  ["reading", "Reading the scan"],
  ["loading model", "Loading the model"],
  ["preprocessing", "Preparing the scan"],
  ["windows", "Running the network"],
  ["labelling", "Labelling"],
  ["writing", "Writing the result"],
];

let stop = () => {};

/** Show a job until it ends; `onEnd` gets its last state, `onError` hears that the server is gone. */
export function follow(job, onEnd, onError) {
  stopFollowing();
  show(job);
  byId("cancel").disabled = false;
  byId("cancel").onclick = guarded(async () => {
    byId("cancel").disabled = true;
    await cancel(job.job);
  });
  const change = (latest) => {
    show(latest);
    if (hasEnded(latest)) onEnd(latest);
  };
  stop = watch(job.job, change, onError);
}

/** Listen no longer, for another part of the page is shown. */
export function stopFollowing() {
  stop();
  stop = () => {};
}

function show(job) {
  const current = STAGES.findIndex(([stage]) => stage === job.stage);
  setText(byId("stage"), STAGES[current]?.[1] ?? "Done");
  setText(byId("stage-detail"), detail(job));
  byId("progress-bar").value = job.progress;
  byId("stages").replaceChildren(...STAGES.map(([, name], index) => step(name, index, current)));
}

/** Only a change is spoken by screen readers. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function detail(job) {
  if (job.state === "queued") return queued(job.ahead);
  const parts = [`${Math.round(job.progress * 100)}%`];
  if (job.stage === "windows" && job.windows) parts.push(`window ${job.window} of ${job.windows}`);
  if (job.seconds_left !== null) parts.push(`${duration(job.seconds_left)} left`);
  return parts.join(", ");
}

function queued(ahead) {
  if (ahead === 0) return "Next in the queue";
  return ahead === 1 ? "Queued behind 1 other job" : `Queued behind ${ahead} other jobs`;
}

function step(name, index, current) {
  const done = current < 0 || index < current;
  const element = make("li", { className: done ? "done" : index === current ? "current" : "" }, name);
  if (index === current) element.setAttribute("aria-current", "step");
  return element;
}
