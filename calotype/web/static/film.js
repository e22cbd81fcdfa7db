// <ct-film>: what a training drew on its way, a frame a step; it grows while it is shown, and can be played.

import { el } from "./dom.js";
import { _ } from "./texts.js";

const FRAME = 250; // milliseconds of a frame that is played

customElements.define(
  "ct-film",
  class extends HTMLElement {
    frames = []; // {step, url}, by their step
    notes = new Map(); // step: text
    timer = 0;

    connectedCallback() {
      if (this.picture) return;
      this.picture = el("img", { class: "ct-frame-of-film", alt: "", decoding: "async" });
      this.range = el("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": _("Step of the samples"), oninput: () => this.look(Number(this.range.value)) });
      this.button = el("button", { type: "button", class: "ct-plain", onclick: () => (this.timer ? this.pause() : this.play()) }, _("Play"));
      this.caption = el("p", { class: "ct-soft" });
      this.bar = el("div", { class: "ct-film-bar" }, this.button, this.range);
      this.replaceChildren(this.picture, this.bar, this.caption);
      this.show();
    }

    disconnectedCallback() {
      this.pause();
    }

    /** Adds frames; who looks at the newest one sees the next. */
    add(frames) {
      const isAtEnd = this.at === undefined || this.at >= this.frames.length - 1;
      const all = new Map([...this.frames, ...frames].map((frame) => [frame.step, frame]));
      const step = this.frames[this.at]?.step;
      this.frames = [...all.values()].sort((a, b) => a.step - b.step);
      this.at = isAtEnd && !this.timer ? this.frames.length - 1 : this.frames.findIndex((frame) => frame.step === step);
      this.show();
    }

    look(at) {
      this.pause();
      this.at = at;
      this.show();
    }

    play() {
      this.at = this.at >= this.frames.length - 1 ? 0 : this.at;
      this.timer = setInterval(() => {
        if (this.at >= this.frames.length - 1) return this.pause();
        this.at += 1;
        this.show();
      }, FRAME);
      this.show();
    }

    pause() {
      clearInterval(this.timer);
      this.timer = 0;
      if (this.picture) this.show();
    }

    show() {
      this.hidden = !this.frames.length;
      if (this.hidden || !this.picture) return;
      const { step, url } = this.frames[this.at];
      const text = _("Samples after step {step}", { step });
      this.picture.alt = text;
      if (this.picture.getAttribute("src") !== url) this.picture.src = url;
      this.range.max = String(this.frames.length - 1);
      this.range.value = String(this.at);
      this.range.setAttribute("aria-valuetext", text);
      this.bar.hidden = this.frames.length < 2;
      this.button.textContent = this.timer ? _("Pause") : _("Play");
      this.caption.textContent = [text, this.notes.get(step)].filter(Boolean).join(" · ");
      this.dispatchEvent(new CustomEvent("ct-step", { detail: step }));
    }
  },
);
