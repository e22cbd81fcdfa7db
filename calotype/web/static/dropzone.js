// The place for files of a tab: dropped anywhere in its element, or chosen.

import { el } from "./dom.js";
import { _ } from "./texts.js";
import { filesOf, leftOut } from "./upload.js";

export const PICTURES = "image/*,.heic,.tif,.tiff,.jxl,.pdf";

/**
 * A place for pictures in `host`; `take(transfer)` gets what was dropped, or the input.
 *
 * `lead` and `hint` are sentences, `choose` is the label of the button. `isMany` takes several, ZIP archives and folders.
 */
export function dropZone(host, { lead, hint, choose, take, isMany = true }) {
  const chosen = (event) => Promise.resolve(take(event.target)).finally(() => (event.target.value = ""));
  const input = (more) => el("input", { type: "file", hidden: true, multiple: isMany, onchange: chosen, ...more });
  const files = input({ accept: isMany ? `${PICTURES},.zip` : PICTURES });
  const folder = input({ webkitdirectory: true });
  const pick = (label, target) => el("button", { type: "button", onclick: () => target.click() }, label);
  const zone = el(
    "div",
    { class: "ct-drop" },
    el("p", { class: "ct-lead" }, lead),
    el("div", { class: "ct-bar" }, pick(choose, files), isMany && pick(_("Choose a folder"), folder)),
    el("p", { class: "ct-soft" }, hint),
    files,
    isMany && folder,
  );
  const over = (isOver) => (event) => {
    event.preventDefault();
    zone.classList.toggle("is-over", isOver);
  };
  host.addEventListener("dragover", over(true));
  host.addEventListener("dragleave", over(false));
  host.addEventListener("drop", (event) => {
    over(false)(event);
    take(event.dataTransfer);
  });
  return zone;
}

/** Gives a tab the pictures that were dropped or chosen; its `left` names those that are left out, its `notice` a fault. */
export async function takeFiles(tab, transfer) {
  tab.notice.textContent = tab.left.textContent = "";
  try {
    const { files, left } = await filesOf(transfer);
    tab.left.textContent = leftOut(left, files.length);
    tab.add(files);
  } catch (fault) {
    tab.notice.textContent = fault.message;
  }
}
