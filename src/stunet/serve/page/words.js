// Numbers, times and names as people read them.

const SIDE = /(^|_)(left|right)(_|$)/;

/** "kidney_left" -> "Left kidney", "rib_right_3" -> "Right rib 3", "vertebrae_L1" -> "Vertebrae L1". */
export function readable(name) {
  const side = SIDE.exec(name)?.[2];
  const rest = side ? name.replace(SIDE, "$1$3").replace(/__/g, "_").replace(/^_|_$/g, "") : name;
  const words = [side, ...rest.split("_")].filter(Boolean).join(" ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Cubic millimetres as millilitres, with about three digits. */
export function millilitres(mm3) {
  const ml = mm3 / 1000;
  return ml.toFixed(ml < 1 ? 3 : ml < 10 ? 2 : ml < 100 ? 1 : 0);
}

/** "about 20 seconds", "about 3 minutes". */
export function duration(seconds) {
  if (seconds < 5) return "a few seconds";
  if (seconds < 90) return `about ${Math.ceil(seconds / 5) * 5} seconds`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `about ${minutes} minutes` : `about ${Math.round(minutes / 60)} hours`;
}

/** "73.9 kB", "12.0 MB". */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** A moment in the reader's own time zone. */
export function moment(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** [z, y, x] as "x × y × z", as most programs write it. */
export const sizes = (zyx, digits = 0) => [...zyx].reverse().map((value) => Number(value.toFixed(digits))).join(" × ");
