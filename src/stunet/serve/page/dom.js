// Elements of the page. Text is always set as text, never as markup: names and descriptions come from files.

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** A new element with properties, attributes (`aria-…`, `data-…`, `role`), listeners (`onclick`) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (/^(aria-|data-|role$|scope$|for$)/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Show a sentence on what went wrong at the top of the page; an empty one hides it. */
export function showError(sentence) {
  byId("error").textContent = sentence;
  byId("error").hidden = !sentence;
  if (sentence) byId("error").scrollIntoView({ block: "nearest" });
}

/** Run what a click starts, and show what goes wrong. */
export function guarded(action) {
  return async (...details) => {
    showError("");
    try {
      await action(...details);
    } catch (error) {
      if (error.name !== "AbortError") showError(error.message);
    }
  };
}
