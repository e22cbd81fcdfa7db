// Options of a form: Gradio puts a <ct-order> into the page when its button is pressed, and the tab takes it from here.

import { get, gone, pause } from "./api.js";
import { el, write } from "./dom.js";
import { isGone, watch } from "./live.js";

const PATIENCE = 3000; // milliseconds in which a press brings an order, if the session is still valid
const takers = new Map();
const held = new Map(); // by kind: the button that was pressed while the service was gone
const awaited = new Map(); // by kind: the timer of a press that has brought no order yet

/** Calls `take(task)` whenever the button of this kind's form is pressed. */
export function onOrder(kind, take) {
  takers.set(kind, take);
}

customElements.define(
  "ct-order",
  class extends HTMLElement {
    connectedCallback() {
      const kind = this.getAttribute("kind");
      const task = JSON.parse(this.getAttribute("task"));
      this.remove();
      clearTimeout(awaited.get(kind));
      clearFaults(kind);
      Promise.resolve(takers.get(kind)?.(task)).catch((fault) => showFault(kind, fault));
    }
  },
);

// Gradio sends nothing any more once one of its requests was lost: a press waits here until the service is back.
document.addEventListener("click", press, { capture: true });
watch({ open: pressHeld });

function press(event) {
  const button = event.target.closest?.("button");
  const [, kind] = button?.id.match(/^(.+)-(?:go|plan)$/) ?? [];
  if (!takers.has(kind)) return;
  clearTimeout(awaited.get(kind));
  if (!isGone()) return awaited.set(kind, setTimeout(() => askWhy(kind), PATIENCE));
  event.stopImmediatePropagation();
  held.set(kind, button);
  clearFaults(kind);
  showFault(kind, gone());
}

function pressHeld() {
  const buttons = new Map(held);
  held.clear();
  for (const [kind, button] of buttons) {
    clearFaults(kind);
    button.click();
  }
}

/** A session that has ended leads to the log-in; what else refuses is said beside the button. */
const askWhy = (kind) => get("/me").catch((fault) => showFault(kind, fault));

/** The block of a field, opened if it lies in a closed group. */
function fieldOf(kind, option) {
  const id = `${kind}-${option.split(".")[0]}`;
  if (!document.getElementById(id)) document.querySelector(`#${kind}-more > button[aria-expanded="false"]`)?.click();
  return document.getElementById(id);
}

export function clearFaults(kind) {
  for (const text of document.querySelectorAll(`.ct-fault[data-kind="${kind}"]`)) text.remove();
  for (const input of document.querySelectorAll(`[id^="${kind}-"] [aria-invalid]`)) input.removeAttribute("aria-invalid");
}

/** Puts an error beside the field that it is about, or beside the button. */
export async function showFault(kind, fault) {
  let field = fault.option ? fieldOf(kind, fault.option) : null;
  if (fault.option && !field) {
    await pause(150); // the group opens
    field = fieldOf(kind, fault.option);
  }
  const id = `${kind}-fault`;
  const place = field ?? document.getElementById(`${kind}-go`);
  const text = el("p", { class: "ct-fault", role: "alert", id, "data-kind": kind }, fault.message);
  place.after(text);
  const input = field?.querySelector("input, textarea, select");
  input?.setAttribute("aria-invalid", "true");
  input?.setAttribute("aria-describedby", id);
  input?.focus();
  text.scrollIntoView({ block: "nearest" });
}

/** Fills a form that has a filler: {task}, {text} of generation parameters, or {fields} of them. */
export function fill(kind, data) {
  const field = document.querySelector(`#ct-fill-${kind} textarea, #ct-fill-${kind} input`);
  write(field, JSON.stringify({ ...data, number: Date.now() })); // twice the same is a change, too
}
