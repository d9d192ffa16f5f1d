// The server's API, version 1; see /docs of the server. Every failure is an Error with one sentence for people.

const ROOT = "api/v1/";
const MARK = { "X-Stunet": "1" };
const UNREACHABLE = "The server does not answer. Check that it still runs, and try again.";

export class ApiError extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** Waits until the user gives a token; set by login.js. */
let authorise = async () => false;
export const onUnauthorised = (ask) => (authorise = ask);

async function request(path, options = {}) {
  const response = await fetch(ROOT + path, { ...options, headers: { ...MARK, ...options.headers } }).catch((error) => {
    throw error.name === "AbortError" ? error : new ApiError(UNREACHABLE, 0);
  });
  if (response.status === 401 && path !== "session" && (await authorise())) return request(path, options);
  if (!response.ok) throw new ApiError(await sentenceOf(response), response.status);
  return response;
}

async function sentenceOf(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.error ?? `The server answers with error ${response.status}.`;
}

const read = async (path) => (await request(path)).json();
const bytes = async (path) => (await request(path)).arrayBuffer();
const post = (path, body) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) });

export const health = () => read("health");
export const models = () => read("models");
export const jobs = () => read("jobs");
export const job = (id) => read(`jobs/${id}`);
export const statistics = (id) => read(`jobs/${id}/statistics`);
export const record = (id) => read(`jobs/${id}/record`);
/** Scan and labels of a result; as an overview, large ones have fewer voxels. */
export const images = (id, { asOverview }) =>
  Promise.all(["scan", "labels"].map((name) => bytes(`jobs/${id}/${name}?overview=${asOverview}`)));
export const referenceImage = (id) => bytes(`jobs/${id}/reference`);
export const demoScan = async () => (await post("scans/demo")).json();
export const submit = async (order) => (await post("jobs", order)).json();
export const cancel = (id) => post(`jobs/${id}/cancel`);
export const remove = (id) => request(`jobs/${id}`, { method: "DELETE" });
export const login = (token) => post("session", { token });

/** Compare a file of reference labels with the result. */
export async function compare(id, file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return (await request(`jobs/${id}/reference`, { method: "POST", body: form })).json();
}

/** The formats in which this server gives results, as its own description lists them. */
export async function formats() {
  const { paths } = await read("openapi.json");
  const results = Object.entries(paths).find(([path]) => path.includes("/results/{"))[1];
  return results.get.parameters.flatMap(({ in: place, schema }) => (place === "path" && schema.enum) || []);
}

/** A file to save: its content and the name that the server gives it. `classes`: null for all. */
export async function result(id, format, classes) {
  const choice = classes ? `?classes=${classes.map(encodeURIComponent).join(",")}` : "";
  const response = await request(`jobs/${id}/results/${format}${choice}`);
  const name = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  return { name: name ?? `result.${format}`, content: await response.blob() };
}

/** Upload files; `files` are {file, path}. `onProgress` hears the share that is sent, 0 to 1. */
export async function uploadScan(files, onProgress, signal) {
  const form = new FormData();
  for (const { file, path } of files) form.append("file", file, path);
  const answer = await send(form, onProgress, signal);
  if (answer.status === 401 && (await authorise())) return uploadScan(files, onProgress, signal);
  if (answer.status >= 300) throw new ApiError(answer.body?.error ?? "The upload failed.", answer.status);
  return answer.body;
}

/** fetch() does not tell how much of an upload is sent, so this is an XMLHttpRequest. */
function send(form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const upload = new XMLHttpRequest();
    upload.open("POST", `${ROOT}scans`);
    upload.responseType = "json";
    upload.setRequestHeader("X-Stunet", "1");
    upload.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    upload.onload = () => resolve({ status: upload.status, body: upload.response });
    upload.onerror = () => reject(new ApiError(UNREACHABLE, 0));
    upload.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    signal.addEventListener("abort", () => upload.abort());
    upload.send(form);
  });
}

const ENDED = new Set(["done", "failed", "cancelled"]);
export const hasEnded = (job) => ENDED.has(job.state);

/** Hear every change of a job until it ends. Returns a function that stops listening. */
export function watch(id, onChange, onError) {
  const events = new EventSource(`${ROOT}jobs/${id}/events`);
  events.onmessage = (event) => {
    const job = JSON.parse(event.data);
    if (hasEnded(job)) events.close();
    onChange(job);
  };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) onError(new ApiError(UNREACHABLE, 0));
  };
  return () => events.close();
}
