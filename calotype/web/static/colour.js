// <ct-colour>: a black and white photo, the strokes of colour painted over it, a photo in colour, and the result. What is
// painted and not sent is there again after a reload.

import { Fault, get, submit } from "./api.js";
import { openDialog } from "./compare.js";
import { el, guarded, toast } from "./dom.js";
import { keepDraft, readDraft } from "./drafts.js";
import { dropZone, PICTURES } from "./dropzone.js";
import { hand, takeFor } from "./hand.js";
import { FINISHED, isPicture, progressOf, uploadOf } from "./jobs.js";
import { watch } from "./live.js";
import { clearFaults, onOrder, showFault } from "./orders.js";
import { bitmapOf, Painter, pngOf } from "./painter.js";
import { SHOWN_BY_BROWSER } from "./photo.js";
import { _ } from "./texts.js";
import { contentOf, fileOf, safeName, upload } from "./upload.js";

const BRUSH = 16; // CSS pixels
const DRAFT = "strokes"; // {source, strokes}, until they are sent

/** Colours that old photos need, with their names. */
const palette = () => [
  ["#e0ac86", _("Skin")],
  ["#c4615f", _("Lips")],
  ["#5b3a24", _("Brown")],
  ["#b3312c", _("Red")],
  ["#d9b44a", _("Yellow")],
  ["#5e7f3d", _("Leaf green")],
  ["#6f9fc8", _("Sky blue")],
  ["#2f4470", _("Navy")],
  ["#808080", _("Grey: stays without colour")],
];

customElements.define(
  "ct-colour",
  class extends HTMLElement {
    job = null; // the latest that coloured this photo

    connectedCallback() {
      const texts = { lead: _("Drop a black and white photo here"), choose: _("Choose a photo"), hint: _("You choose the colours: by strokes, or by a photo in colour. How light each place is stays as it is.") };
      this.zone = dropZone(this, { ...texts, isMany: false, take: (transfer) => transfer.files[0] && this.take(transfer.files[0]) });
      this.zone.id = "colour-source";
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.work = el("div", { class: "ct-card", hidden: true });
      this.replaceChildren(this.zone, this.notice, this.work);
      onOrder("colour", (task) => this.order(task));
      takeFor("colour", (file) => this.take(file));
      this.stop = watch({ change: (job) => this.change(job), gone: (id) => this.job?.id === id && this.showResult(null), moved: () => this.showStatus() });
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
    }

    /** The photo that was painted on and not sent, or the one of the latest job, with its strokes and reference. */
    async read() {
      const draft = readDraft(DRAFT);
      const { jobs } = await get("/jobs?kind=colour&limit=1").catch(() => ({ jobs: [] }));
      const source = draft?.source ?? jobs[0]?.files.source;
      const file = source && (await this.fetched(source));
      if (!file || this.file) return;
      await this.take(file, draft?.strokes);
      const [job] = jobs.filter((latest) => latest.files.source === this.source);
      if (!job) return;
      const [hints, reference] = [await this.fetched(job.files.hints), await this.fetched(job.files.reference)];
      if (hints && !draft) await this.takeHints(hints);
      if (reference) this.takeReference(reference);
      this.showResult(job);
    }

    /** The file of an upload, if it is still there. */
    async fetched(ref) {
      if (!ref) return null;
      const [id, name = "photo"] = String(ref).split("/");
      const content = await contentOf(`/uploads/${id}`).catch(() => null);
      return content && new File([content], name);
    }

    async take(file, strokes = null) {
      this.clear();
      this.file = file;
      this.bitmap = await bitmapOf(file);
      this.build();
      if (this.painter && Array.isArray(strokes)) {
        this.painter.strokes = strokes;
        this.painter.show();
      }
      this.say();
      try {
        const id = await upload(file, (share) => (this.note.textContent = _("Sending · {percent} %", { percent: Math.floor(100 * share) })));
        if (this.file === file) this.source = `${id}/${safeName(file.name)}`;
      } catch (fault) {
        this.notice.textContent = fault.message;
      }
      this.say();
    }

    clear() {
      this.bitmap?.close();
      Object.assign(this, { file: null, source: "", bitmap: null, painter: null, hints: null, reference: null, job: null });
      this.notice.textContent = "";
      clearFaults("colour");
      this.zone.hidden = false;
      this.work.hidden = true;
      this.work.replaceChildren();
    }

    build() {
      const button = (text, onclick, more = {}) => el("button", { type: "button", class: "ct-plain", onclick, ...more }, text);
      const picker = (take) => el("input", { type: "file", accept: PICTURES, hidden: true, onchange: (event) => event.target.files[0] && take(event.target.files[0]).finally(() => (event.target.value = "")) });
      const hints = picker(async (file) => this.takeHints(file));
      const reference = picker(async (file) => this.takeReference(file));
      this.note = el("p", { class: "ct-soft", role: "status" });
      this.shown = el("div", { class: "ct-chosen", hidden: true });
      this.result = el("div", { class: "ct-coloured" });
      const remove = button(_("Remove photo"), () => {
        keepDraft(DRAFT, null);
        this.clear();
      });
      const paint = this.bitmap ? this.paintBlock() : [el("p", { class: "ct-soft" }, _("The browser cannot show this format; strokes can be given as a file."))];
      const bar = el("div", { class: "ct-bar ct-tight" }, button(_("Strokes from a file"), () => hints.click()));
      const strokes = el("div", { id: "colour-hints" }, el("h3", {}, _("Strokes of colour")), paint, bar, this.note, hints);
      const other = el(
        "div",
        { id: "colour-reference" },
        el("h3", {}, _("Photo in colour")),
        el("p", { class: "ct-soft" }, _("Places that look alike get its colours, faces first. Strokes count more.")),
        this.shown,
        el("div", { class: "ct-bar" }, button(_("Choose a photo in colour"), () => reference.click(), { class: "" })),
        reference,
      );
      this.work.replaceChildren(
        el("div", { class: "ct-bar ct-head-of-card" }, el("p", { class: "ct-name" }, this.file.name), el("span", { class: "ct-rest" }, remove)),
        el("div", { class: "ct-photo ct-even" }, el("div", {}, strokes, other), this.result),
      );
      this.zone.hidden = true;
      this.work.hidden = false;
      this.showResult(null);
    }

    /** The photo to paint on, with brush and colours. */
    paintBlock() {
      const colour = el("input", { type: "color", value: palette()[0][0], "aria-label": _("Colour of the brush"), oninput: () => press() });
      const swatches = palette().map(([value, name]) => {
        const swatch = el("button", { type: "button", class: "ct-swatch", title: name, "aria-label": name, onclick: () => press((colour.value = value)) });
        swatch.style.background = value;
        return [value, swatch];
      });
      const press = () => swatches.forEach(([value, swatch]) => swatch.setAttribute("aria-pressed", String(value === colour.value)));
      press();
      this.painter = new Painter(this.bitmap, {
        label: _("Photo; paint a stroke of colour over each thing"),
        opacity: 0.9,
        size: BRUSH,
        colour: () => colour.value,
        changed: () => this.painted(),
      });
      return [el("div", { class: "ct-swatches", role: "group", "aria-label": _("Colours") }, colour, swatches.map(([, swatch]) => swatch)), this.painter.element];
    }

    say() {
      if (!this.note) return;
      const isPainted = this.painter && !this.painter.isEmpty;
      const texts = [_("Paint a short stroke over each thing: skin, hair, dress, grass. Its colour spreads up to the edges."), _("Strokes: {name}", { name: this.hints?.name ?? "" })];
      this.note.textContent = this.hints ? texts[1] : this.painter && !isPainted ? texts[0] : "";
    }

    /** What is painted takes the place of a file, and is kept in this browser. */
    painted() {
      this.hints = null;
      clearFaults("colour");
      this.say();
      const { strokes } = this.painter;
      keepDraft(DRAFT, this.source && strokes.length ? { source: this.source, strokes } : null);
    }

    async takeHints(file) {
      this.painter?.clear();
      this.hints = file;
      const strokes = await bitmapOf(file);
      const fits = strokes && strokes.width === this.bitmap?.width && strokes.height === this.bitmap?.height;
      if (fits) this.painter.take(strokes);
      clearFaults("colour");
      this.say();
    }

    takeReference(file) {
      this.reference = file;
      const remove = () => {
        this.reference = null;
        this.shown.hidden = true;
      };
      const url = SHOWN_BY_BROWSER.test(file.name) && URL.createObjectURL(file);
      this.shown.replaceChildren(url ? el("img", { class: "ct-thumb", src: url, alt: "", onload: () => URL.revokeObjectURL(url) }) : "", el("p", {}, file.name), el("button", { type: "button", class: "ct-plain", "aria-label": _("Remove {name}", { name: file.name }), onclick: remove }, "✕"));
      this.shown.hidden = false;
      clearFaults("colour");
    }

    // Colouring

    async order(task) {
      if (!this.file) throw new Fault(0, _("drop a photo first"), "source");
      const files = { source: this.source };
      if (!this.source) files.source = `${await upload(this.file)}/${safeName(this.file.name)}`;
      const given = { hints: await this.strokes(), reference: this.reference };
      for (const [name, file] of Object.entries(given)) if (file) files[name] = `${await upload(file)}/${safeName(file.name)}`;
      this.showResult(await submit({ kind: "colour", task, files }));
      keepDraft(DRAFT, null);
      toast(_("1 photo is in the queue"));
    }

    /** The strokes as a picture of the photo's size. */
    async strokes() {
      if (this.hints || !this.painter || this.painter.isEmpty) return this.hints;
      const strokes = await pngOf(this.painter.layer(this.bitmap.width, this.bitmap.height), "strokes.png");
      if (!strokes) throw new Fault(0, _("the photo is too large for the brush of this browser; give the strokes as a file"), "hints");
      return strokes;
    }

    change(job) {
      if (job.id === this.job?.id) this.showResult(job);
    }

    showResult(job) {
      const wasOpen = this.job?.id === job?.id && !FINISHED.includes(this.job?.state);
      this.job = job;
      if (!this.result) return;
      this.result.replaceChildren(el("h3", {}, _("Result")), el("div", { class: "ct-status", "aria-live": "polite" }), ...this.coloured());
      this.showStatus();
      const { error } = job?.state === "failed" ? job : {};
      if (error?.option && wasOpen) showFault("colour", { message: error.detail, option: error.option });
    }

    showStatus() {
      const place = this.result?.querySelector(".ct-status");
      const { job } = this;
      if (!place) return;
      const states = { failed: () => el("p", { class: "ct-fault", role: "alert" }, job.error.detail), done: () => "", cancelled: () => el("p", { class: "ct-soft" }, _("cancelled")) };
      if (!job) place.replaceChildren(el("p", { class: "ct-soft" }, _("The coloured photo appears here.")));
      else place.replaceChildren(job.state === "failed" && job.error.option ? "" : (states[job.state] ?? (() => progressOf(job)))());
    }

    /** The result, with what can be done with it. */
    coloured() {
      const result = this.job?.results.find(isPicture);
      if (!result) return [];
      const picture = el("img", { class: "ct-large", src: this.job.preview ?? result.url, alt: result.name });
      return [
        picture,
        el(
          "div",
          { class: "ct-bar" },
          this.bitmap && el("button", { type: "button", onclick: () => guarded(() => this.openFull(result)) }, _("Before and after")),
          el("button", { type: "button", onclick: () => guarded(async () => hand("restore", "restore", await fileOf(result))) }, _("Restore it")),
          el("a", { class: "ct-button", href: result.url, download: result.name }, _("Download")),
        ),
      ];
    }

    async openFull(result) {
      const before = URL.createObjectURL(this.file);
      const after = SHOWN_BY_BROWSER.test(result.name) ? result.url : this.job.preview;
      openDialog(uploadOf(this.job).name, el("ct-compare", { before, after, sizes: "" }), () => URL.revokeObjectURL(before));
    }
  },
);
