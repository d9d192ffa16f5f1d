// A server that others can reach asks for a token once; the browser then holds a cookie.

import { login, onUnauthorised } from "./api.js";
import { byId } from "./dom.js";

let waiting = null;

/** Ask for the token whenever the server wants one. */
export function askWhenNeeded() {
  onUnauthorised(() => (waiting ??= ask().finally(() => (waiting = null))));
}

/** Resolves true once the server accepts a token, false where the user closes the question. */
function ask() {
  const dialog = byId("login");
  const failed = byId("login-error");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "in");
    byId("login-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await login(byId("token").value);
        byId("token").value = "";
        failed.hidden = true;
        dialog.close("in");
      } catch (error) {
        failed.textContent = error.message;
        failed.hidden = false;
      }
    };
  });
}
