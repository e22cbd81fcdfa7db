// Before and after: one picture over the other, with a slider for mouse, touch and keys.

import { el } from "./dom.js";
import { _ } from "./texts.js";

/** <ct-compare before="url" after="url">; with `is-full` it scrolls at full size. */
customElements.define(
  "ct-compare",
  class extends HTMLElement {
    connectedCallback() {
      if (this.firstChild) return;
      const before = el("img", { src: this.getAttribute("before"), alt: _("before"), loading: "lazy", draggable: false });
      const after = el("img", { src: this.getAttribute("after"), alt: _("after"), loading: "lazy", draggable: false });
      after.className = "ct-after";
      const line = el("span", { class: "ct-line" });
      const range = el("input", { type: "range", min: "0", max: "100", step: "1", "aria-label": _("Before and after") });
      const inner = el("div", {}, before, after, line);
      const host = el("div", { class: "ct-slides", tabIndex: -1 }, inner);
      const show = () => {
        after.style.clipPath = `inset(0 0 0 ${range.value}%)`;
        line.style.left = `${range.value}%`;
      };
      const drag = (event) => {
        if (event.type === "pointermove" && !event.buttons) return;
        const box = inner.getBoundingClientRect();
        range.value = String((100 * (event.clientX - box.left)) / box.width);
        show();
      };
      range.value = "50";
      range.addEventListener("input", show);
      inner.addEventListener("pointerdown", drag);
      inner.addEventListener("pointermove", drag);
      after.addEventListener("load", () => {
        before.style.aspectRatio = `${after.naturalWidth} / ${after.naturalHeight}`;
        after.style.height = "100%";
        inner.style.maxWidth = this.hasAttribute("sizes") ? `${(70 * after.naturalWidth) / after.naturalHeight}vh` : "";
      });
      const toggle = this.hasAttribute("sizes") && el("button", { type: "button", "aria-pressed": "false" }, _("Full size"));
      if (toggle) {
        toggle.addEventListener("click", () => {
          this.isFull = !this.isFull;
          toggle.setAttribute("aria-pressed", String(this.isFull));
          inner.style.width = this.isFull ? `${after.naturalWidth}px` : "";
          inner.style.maxWidth = this.isFull ? "none" : `${(70 * after.naturalWidth) / after.naturalHeight}vh`;
        });
      }
      this.append(host, range, toggle || "");
      show();
    }
  },
);

/** Shows the picture of what was invented in a result. */
export function openInvented(name, result) {
  const legend = _("Coloured is what comes out differently when the photo is moved or noisier by a little: the lighter, the more of it is invented. What is dim grey is mostly in the photo.");
  const picture = el("img", { class: "ct-large", src: result.url, alt: _("What was invented") });
  return openDialog(`${name}: ${_("What was invented")}`, el("div", {}, picture, el("p", { class: "ct-soft" }, legend)));
}

/** A dialog with a title, closed by its button, Escape, or a click beside it. */
export function openDialog(title, content, onClose = null) {
  const close = el("button", { type: "button", onclick: () => dialog.close() }, _("Close"));
  const head = el("div", { class: "ct-bar" }, el("strong", {}, title), el("span", { class: "ct-rest" }, close));
  const dialog = el("dialog", { class: "ct-dialog", "aria-label": title }, el("div", {}, head, content));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    const toasts = dialog.querySelector("#ct-toasts");
    if (toasts) document.body.append(toasts);
    dialog.remove();
    onClose?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
