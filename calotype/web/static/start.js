// <ct-start>: the picture that img2img begins with; its mask, by brush or from a file; margins to be added.

import { Fault } from "./api.js";
import { el } from "./dom.js";
import { takeFor } from "./hand.js";
import { bitmapOf, Painter, pngOf, sizeWithin, slider } from "./painter.js";
import { _ } from "./texts.js";
import { safeName, upload } from "./upload.js";

const MAX_SIDE = 2048; // of a picture with a painted mask: it is drawn anew at the size of the model anyway
const BRUSH = 24; // CSS pixels
const STRENGTH = 0.75;

customElements.define(
  "ct-start",
  class extends HTMLElement {
    init = null; // File
    maskFile = null;
    painter = null; // where the browser shows the picture

    connectedCallback() {
      this.input = el("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.take(this.input.files[0]) });
      this.maskInput = el("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.takeMask(this.maskInput.files[0]) });
      this.zone = el(
        "div",
        { class: "ct-drop is-small", id: "imagine-init" },
        el("div", { class: "ct-bar" }, el("span", {}, _("Start from a picture: drop it here, or")), el("button", { type: "button", onclick: () => this.input.click() }, _("Choose"))),
      );
      this.work = el("div", { hidden: true });
      this.replaceChildren(this.zone, this.work, this.input, this.maskInput);
      this.addEventListener("dragover", (event) => event.preventDefault());
      this.addEventListener("drop", (event) => {
        event.preventDefault();
        event.stopPropagation();
        const file = event.dataTransfer.files[0];
        if (file) this.take(file);
      });
      takeFor("start", (file) => this.take(file));
    }

    async take(file) {
      this.clear();
      this.init = file;
      this.zone.hidden = true;
      this.work.hidden = false;
      this.input.value = "";
      this.bitmap = await bitmapOf(file);
      this.build();
    }

    clear() {
      this.bitmap?.close();
      [this.init, this.maskFile, this.bitmap, this.painter, this.margins] = [null, null, null, null, null];
      this.work.replaceChildren();
      this.work.hidden = true;
      this.zone.hidden = false;
    }

    build() {
      const button = (text, onclick) => el("button", { type: "button", class: "ct-plain", onclick }, text);
      const [strength, strengthLabel] = slider("imagine-strength", _("How much is redrawn"), { min: 0, max: 1, step: 0.05, value: STRENGTH });
      this.strength = strength;
      this.margins = el("input", { type: "text", inputMode: "numeric", placeholder: "64", "aria-label": _("Pixels to add around the picture") });
      this.maskNote = el("p", { class: "ct-soft", id: "imagine-mask" });
      const parts = [];
      if (this.bitmap) {
        this.painter = new Painter(this.bitmap, {
          label: _("Picture; paint over what is to be redrawn"),
          opacity: 0.5,
          tint: "rgb(217 60 40)",
          size: BRUSH,
          changed: () => this.painted(),
        });
        parts.push(this.painter.element);
      } else {
        parts.push(el("p", {}, this.init.name), el("p", { class: "ct-soft" }, _("The browser cannot show this format; a mask can be given as a file.")));
      }
      const bar = el(
        "div",
        { class: "ct-bar" },
        button(_("Mask from a file"), () => this.maskInput.click()),
        el("span", { class: "ct-rest" }, button(_("Remove picture"), () => this.clear())),
      );
      this.work.replaceChildren(
        ...parts,
        bar,
        this.maskNote,
        strengthLabel,
        el("label", { class: "ct-stack", id: "imagine-outpaint" }, el("span", {}, _("Add pixels around it")), this.margins),
      );
      this.say();
    }

    say() {
      const texts = [_("Paint over what is to be redrawn. Without paint, all of it is."), _("What is painted is redrawn."), _("Mask: {name}", { name: this.maskFile?.name ?? "" })];
      this.maskNote.textContent = this.maskFile ? texts[2] : this.painter && !this.painter.isEmpty ? texts[1] : this.bitmap ? texts[0] : "";
    }

    takeMask(file) {
      if (!file) return;
      this.maskInput.value = "";
      this.painter?.clear();
      this.maskFile = file;
      this.say();
    }

    /** What is painted takes the place of a file. */
    painted() {
      this.maskFile = null;
      this.say();
    }

    /** The options and uploads of the task. */
    async order() {
      if (!this.init) return { task: {}, files: {} };
      const task = {};
      if (Number(this.strength.value) !== STRENGTH) task.strength = Number(this.strength.value);
      if (this.margins.value.trim()) task.outpaint = this.margins.value.trim();
      if (this.painter && !this.painter.isEmpty && task.outpaint) throw new Fault(0, _("paint a mask or add pixels, one after the other"), "outpaint");
      const [init, mask] = await this.pictures();
      const files = {};
      for (const [name, file] of [["init", init], ["mask", mask]]) if (file) files[name] = `${await upload(file)}/${safeName(file.name)}`;
      return { task, files };
    }

    /** The picture and its mask, which have one size. */
    async pictures() {
      if (this.maskFile || !this.painter || this.painter.isEmpty) return [this.init, this.maskFile];
      const [width, height] = sizeWithin(MAX_SIDE, this.bitmap);
      const mask = await pngOf(this.painter.layer(width, height, { colour: "#fff", ground: "#000" }), "mask.png");
      if (width === this.bitmap.width) return [this.init, mask];
      const small = el("canvas", { width, height });
      small.getContext("2d").drawImage(this.bitmap, 0, 0, width, height);
      return [await pngOf(small, "picture.png"), mask];
    }

    /** Shows the picture, mask and options of an earlier job. */
    async restore(job) {
      const fetched = async (name) => {
        if (!job.files[name]) return null;
        const [id, title = "picture"] = String(job.files[name]).split("/");
        const answer = await fetch(`/uploads/${id}`);
        return answer.ok ? new File([await answer.blob()], title) : null;
      };
      const init = await fetched("init");
      if (!init) return this.clear();
      await this.take(init);
      const mask = await fetched("mask");
      if (mask) this.takeMask(mask);
      this.set(job.task);
    }

    set(task) {
      if (!this.init) return;
      this.strength.value = String(task.strength ?? STRENGTH);
      this.strength.dispatchEvent(new Event("input"));
      this.margins.value = task.outpaint ?? "";
    }
  },
);
