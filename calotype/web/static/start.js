// <ct-start>: the picture that img2img begins with; its mask, by brush or from a file; margins to be added.

import { Fault } from "./api.js";
import { el } from "./dom.js";
import { takeFor } from "./hand.js";
import { _ } from "./texts.js";
import { safeName, upload } from "./upload.js";

const MAX_SIDE = 2048; // of a picture with a painted mask: it is drawn anew at the size of the model anyway
const STRENGTH = 0.75;

customElements.define(
  "ct-start",
  class extends HTMLElement {
    init = null; // File
    maskFile = null;
    strokes = [];
    redone = 0;

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
      try {
        this.bitmap = await createImageBitmap(file);
      } catch {
        this.bitmap = null; // such as HEIC: the service reads more formats than the browser
      }
      this.build();
    }

    clear() {
      this.bitmap?.close();
      [this.init, this.maskFile, this.bitmap, this.strokes, this.margins] = [null, null, null, [], null];
      this.work.replaceChildren();
      this.work.hidden = true;
      this.zone.hidden = false;
    }

    build() {
      const range = (id, title, min, max, step, value) => {
        const shown = el("output", {}, String(value));
        const input = el("input", { type: "range", min: String(min), max: String(max), step: String(step), value: String(value), oninput: () => (shown.textContent = input.value) });
        return [input, el("label", { class: "ct-stack", id }, el("span", { class: "ct-between" }, title, shown), input)];
      };
      const button = (text, onclick) => el("button", { type: "button", class: "ct-plain", onclick }, text);
      let strength, size;
      [this.strength, strength] = range("imagine-strength", _("How much is redrawn"), 0, 1, 0.05, STRENGTH);
      [this.brush, size] = range("imagine-brush", _("Brush size"), 2, 30, 1, 10);
      this.margins = el("input", { type: "text", inputMode: "numeric", placeholder: "64", "aria-label": _("Pixels to add around the picture") });
      this.maskNote = el("p", { class: "ct-soft", id: "imagine-mask" });
      const parts = [];
      if (this.bitmap) {
        const { width, height } = this.bitmap;
        const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
        this.canvas = el("canvas", { width: Math.round(width * scale), height: Math.round(height * scale), role: "img", "aria-label": _("Picture; paint over what is to be redrawn") });
        for (const name of ["pointerdown", "pointermove"]) this.canvas.addEventListener(name, (event) => this.paint(event));
        this.draw();
        parts.push(el("div", { class: "ct-paint" }, this.canvas), size);
      } else {
        parts.push(el("p", {}, this.init.name), el("p", { class: "ct-soft" }, _("The browser cannot show this format; a mask can be given as a file.")));
      }
      const bar = el(
        "div",
        { class: "ct-bar" },
        this.bitmap ? [button(_("Undo"), () => this.undo()), button(_("Clear mask"), () => this.undo(true))] : null,
        button(_("Mask from a file"), () => this.maskInput.click()),
        el("span", { class: "ct-rest" }, button(_("Remove picture"), () => this.clear())),
      );
      this.work.replaceChildren(
        ...parts,
        bar,
        this.maskNote,
        strength,
        el("label", { class: "ct-stack", id: "imagine-outpaint" }, el("span", {}, _("Add pixels around it")), this.margins),
      );
      this.say();
    }

    say() {
      const texts = [_("Paint over what is to be redrawn. Without paint, all of it is."), _("What is painted is redrawn."), _("Mask: {name}", { name: this.maskFile?.name ?? "" })];
      this.maskNote.textContent = this.maskFile ? texts[2] : this.strokes.length ? texts[1] : this.bitmap ? texts[0] : "";
    }

    takeMask(file) {
      if (!file) return;
      this.maskFile = file;
      this.strokes = [];
      this.maskInput.value = "";
      this.draw();
      this.say();
    }

    undo(all = false) {
      this.strokes = all ? [] : this.strokes.slice(0, -1);
      if (all) this.maskFile = null;
      this.draw();
      this.say();
    }

    paint(event) {
      if (event.type === "pointermove" && !event.buttons) return;
      event.preventDefault();
      const box = this.canvas.getBoundingClientRect();
      const at = [((event.clientX - box.left) / box.width) * this.canvas.width, ((event.clientY - box.top) / box.height) * this.canvas.height];
      if (event.type === "pointerdown") {
        this.canvas.setPointerCapture(event.pointerId);
        this.maskFile = null;
        this.strokes.push({ size: (Number(this.brush.value) / 100) * Math.min(this.canvas.width, this.canvas.height), points: [] });
        this.say();
      }
      this.strokes.at(-1)?.points.push(at);
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.draw());
    }

    draw() {
      if (!this.bitmap) return;
      const context = this.canvas.getContext("2d");
      context.drawImage(this.bitmap, 0, 0, this.canvas.width, this.canvas.height);
      const veil = this.masked("rgb(217 60 40)", null);
      context.globalAlpha = 0.5;
      context.drawImage(veil, 0, 0);
      context.globalAlpha = 1;
    }

    /** The strokes in a colour on a ground. */
    masked(colour, ground) {
      const canvas = el("canvas", { width: this.canvas.width, height: this.canvas.height });
      const context = canvas.getContext("2d");
      if (ground) {
        context.fillStyle = ground;
        context.fillRect(0, 0, canvas.width, canvas.height);
      }
      Object.assign(context, { strokeStyle: colour, lineCap: "round", lineJoin: "round" });
      for (const { size, points } of this.strokes) {
        context.lineWidth = size;
        context.beginPath();
        context.moveTo(...points[0]);
        for (const point of points.length > 1 ? points : [points[0], points[0]]) context.lineTo(...point);
        context.stroke();
      }
      return canvas;
    }

    /** The options and uploads of the task. */
    async order() {
      if (!this.init) return { task: {}, files: {} };
      const task = {};
      if (Number(this.strength.value) !== STRENGTH) task.strength = Number(this.strength.value);
      if (this.margins.value.trim()) task.outpaint = this.margins.value.trim();
      if (this.strokes.length && task.outpaint) throw new Fault(0, _("paint a mask or add pixels, one after the other"), "outpaint");
      const [init, mask] = await this.pictures();
      const files = {};
      for (const [name, file] of [["init", init], ["mask", mask]]) if (file) files[name] = `${await upload(file)}/${safeName(file.name)}`;
      return { task, files };
    }

    /** The picture and its mask, which have one size. */
    async pictures() {
      if (this.maskFile || !this.strokes.length) return [this.init, this.maskFile];
      const file = async (canvas, name) => new File([await new Promise((resolve) => canvas.toBlob(resolve, "image/png"))], name);
      const mask = await file(this.masked("#fff", "#000"), "mask.png");
      if (this.canvas.width === this.bitmap.width) return [this.init, mask];
      const small = el("canvas", { width: this.canvas.width, height: this.canvas.height });
      small.getContext("2d").drawImage(this.bitmap, 0, 0, small.width, small.height);
      return [await file(small, "picture.png"), mask];
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
