// What was measured on a photo, before and after it was repaired.

import { el } from "./dom.js";
import { _ } from "./texts.js";

/** A list to open: figures, thresholds and decisions, those beyond their threshold first; nothing where none is known. */
export function measured(measures) {
  if (!measures?.length) return null;
  const beyond = measures.filter((measure) => measure.is_beyond).length;
  const first = [...measures].sort((a, b) => b.is_beyond - a.is_beyond);
  const lines = first.map(({ title, value, threshold, decision, is_beyond: isBeyond }) => {
    const figures = _("{title}: {value}, threshold {threshold}", { title, value, threshold });
    return el("li", { class: isBeyond ? "is-beyond" : "" }, el("span", {}, figures), el("br"), decision);
  });
  const summary = _("Measured: {beyond} of {count} beyond their threshold", { beyond, count: measures.length });
  return el("details", { class: "ct-measures ct-soft" }, el("summary", {}, summary), el("ul", { class: "ct-figures", tabindex: "0" }, lines));
}
