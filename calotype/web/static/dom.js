// Elements without templates: texts of files and errors never become HTML.

/** An element: el("button", {class: "x", onclick: f, "aria-label": "y"}, "text", child). */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element that a selector finds, as soon as it is in the page. */
export function appeared(selector) {
  return new Promise((resolve) => {
    const look = () => {
      const found = document.querySelector(selector);
      if (!found) return false;
      watcher.disconnect();
      resolve(found);
      return true;
    };
    const watcher = new MutationObserver(look);
    if (!look()) watcher.observe(document.body, { childList: true, subtree: true });
  });
}

/** A list of sentences. */
export const listed = (sentences, more = "") => el("ul", { class: `ct-notes ${more}`.trim() }, sentences.map((sentence) => el("li", {}, sentence)));

/** Writes a text into a field of Gradio, as if it were typed. */
export function write(field, text) {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** A message at the foot of the page, with an action such as undo; the action's absence after `seconds` calls `done`. */
export function toast(text, { action = "", run = null, done = null, seconds = 8 } = {}) {
  const host = document.getElementById("ct-toasts") ?? el("div", { id: "ct-toasts", role: "status", "aria-live": "polite" });
  const dialogs = document.querySelectorAll("dialog[open]"); // what is outside of an open dialog cannot be pressed
  const place = [...dialogs].at(-1) ?? document.body;
  if (host.parentElement !== place) place.append(host);
  let isOpen = true;
  const close = (call) => {
    if (!isOpen) return;
    isOpen = false;
    removeEventListener("pagehide", leave);
    item.remove();
    call?.();
  };
  const leave = () => close(done);
  const button = action && el("button", { onclick: () => close(run) }, action);
  const item = el("div", { class: "ct-toast" }, el("span", {}, text), button || null);
  host.append(item);
  addEventListener("pagehide", leave);
  let timer = 0;
  const count = () => {
    clearTimeout(timer);
    timer = setTimeout(() => close(done), seconds * 1000);
  };
  for (const name of ["mouseenter", "focusin"]) item.addEventListener(name, () => clearTimeout(timer)); // it is being read
  for (const name of ["mouseleave", "focusout"]) item.addEventListener(name, count);
  count();
}

/**
 * Changes what is in a place, or replaces it by the place that `change` returns, and keeps the focus by `data-key`; of a
 * text field also what is selected in it.
 */
export function keepFocus(place, change) {
  const focused = place?.contains(document.activeElement) ? document.activeElement : null;
  const { key = "" } = focused?.dataset ?? {};
  const job = focused?.closest("[data-job]")?.dataset.job; // its rows have the same keys
  const selected = focused && "selectionStart" in focused ? [focused.selectionStart, focused.selectionEnd] : null;
  const changed = change() ?? place;
  if (!key || changed.contains(document.activeElement)) return;
  const row = job === undefined || changed.dataset.job === job ? changed : changed.querySelector(`[data-job="${CSS.escape(job)}"]`);
  const again = row?.querySelector(`[data-key="${CSS.escape(key)}"]`);
  again?.focus({ preventScroll: true });
  if (selected && selected[0] !== null) again?.setSelectionRange?.(...selected);
}

const acting = new WeakSet(); // buttons whose act is not done yet

/**
 * Runs an act of a person: a fault is shown; a dialog is closed unless the act returns false. A second press of the button
 * meanwhile does nothing.
 */
export async function guarded(run, dialog = null) {
  const button = (globalThis.event?.target ?? document.activeElement)?.closest?.("button");
  if (button && acting.has(button)) return;
  if (button) acting.add(button);
  try {
    if ((await run()) !== false) dialog?.close();
  } catch (fault) {
    toast(fault.message);
  } finally {
    acting.delete(button);
  }
}
