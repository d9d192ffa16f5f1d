// From a drop, a file or a folder to a scan on the server.

import { uploadScan } from "./api.js";
import { byId, guarded } from "./dom.js";

let running = null;

/** Listen for scans; `onScan` gets the server's description of each. */
export function takeScans(onScan) {
  const take = guarded(async (files) => onScan(await uploaded(files)));
  const of = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  for (const [button, input] of [["choose-file", "file"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", async () => {
      const files = of(byId(input));
      byId(input).value = "";
      await take(files);
    });
  }
  byId("upload-stop").addEventListener("click", () => running?.abort());
  listenForDrops(byId("drop"), guarded(async (items) => take(await filesIn(items))));
}

function listenForDrops(zone, onItems) {
  // A file that misses the zone must not replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    onItems([...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean));
  });
}

/** All files in dropped files and folders, as {file, path}. */
async function filesIn(entries) {
  const found = await Promise.all(entries.map((entry) => (entry.isFile ? fileOf(entry) : filesOf(entry))));
  return found.flat();
}

async function fileOf(entry) {
  const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
  return [{ file, path: entry.fullPath.replace(/^\//, "") }];
}

async function filesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    // A reader gives at most a hundred entries at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return filesIn(entries);
    entries.push(...some);
  }
}

async function uploaded(files) {
  if (!files.length) throw new Error("The folder is empty. Choose a folder with DICOM files.");
  running = new AbortController();
  byId("upload").hidden = false;
  showShare(0, files);
  try {
    return await uploadScan(files, (share) => showShare(share, files), running.signal);
  } finally {
    byId("upload").hidden = true;
    running = null;
  }
}

function showShare(share, files) {
  const what = files.length === 1 ? files[0].file.name : `${files.length} files`;
  byId("upload-bar").value = share;
  byId("upload-label").textContent = share < 1 ? `Uploading ${what}` : `The server reads ${what}`;
}
