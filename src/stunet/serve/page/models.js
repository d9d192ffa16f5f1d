// The models that the server has, one to choose.

import { byId, make } from "./dom.js";

/** Show the models; `onChoose` hears the chosen one, first of all the first that suits the scan. */
export function showModels(models, modality, onChoose) {
  const suggestion = suggested(models, modality);
  byId("models").replaceChildren(...models.map((model) => choice(model, model === suggestion, onChoose)));
  if (suggestion) onChoose(suggestion);
}

function suggested(models, modality) {
  const here = models.filter((model) => model.available);
  return here.find((model) => modality && model.modality.startsWith(modality)) ?? here[0];
}

function choice(model, checked, onChoose) {
  const radio = make("input", { type: "radio", name: "model", value: model.name, checked, disabled: !model.available });
  radio.addEventListener("change", () => onChoose(model));
  return make(
    "label",
    { className: "choice" },
    radio,
    make("span", {}, make("strong", {}, model.name), make("span", { className: "badge" }, model.modality)),
    make("span", { className: "hint" }, model.summary),
    ...remarks(model).map((text) => make("span", { className: "hint" }, text)),
  );
}

function remarks({ available, channels }) {
  if (!available) return ["Not on this server"];
  return channels.length > 1 ? [`Needs ${channels.length} images: ${channels.join(", ")}`] : [];
}
