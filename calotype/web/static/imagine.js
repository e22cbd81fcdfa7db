// <ct-imagine>: pictures that were generated from prompts, the newest first, with what can be done with each.

import { get, post, submit } from "./api.js";
import { openDialog } from "./compare.js";
import { deleteWithUndo, isDeleted, picturesOf, watchDeletions } from "./deletion.js";
import { el, guarded, keepFocus, toast } from "./dom.js";
import { asMany, FINISHED, isPicture, jobTitle, joined, previewOf, progressOf, renew } from "./jobs.js";
import { watch } from "./live.js";
import { fill, onOrder, showFault } from "./orders.js";
import { _ } from "./texts.js";
import { fileOf, upload } from "./upload.js";

const PAGE = 12;
const VARIATION = 0.25;
const VARIATIONS = 4;
const NOT_REUSED = ["place", "x", "y", "matrix", "grid", "interpolate", "batch"]; // of one picture of a job
const AFTER = ["restore", "upscale"]; // kinds of jobs that continue with a picture
const INFOTEXT = /(^|\n)\s*Steps: \d+,/;

customElements.define(
  "ct-imagine",
  class extends HTMLElement {
    jobs = [];
    after = new Map(); // jobs that continue with a picture, by id
    next = null;

    connectedCallback() {
      this.list = el("ul", { class: "ct-list" });
      this.notice = el("p", { class: "ct-soft", role: "status" });
      this.empty = el("p", { class: "ct-empty", hidden: true }, _("Describe a picture and press Imagine. What is drawn appears here."));
      this.more = el("button", { type: "button", hidden: true, onclick: () => guarded(() => this.readMore()) }, _("Show older pictures"));
      this.replaceChildren(this.notice, this.empty, this.list, el("div", { class: "ct-bar ct-foot" }, this.more));
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.showWaiting() });
      onOrder("imagine", (task) => this.order(task));
      onOrder("imagine_filled", (filled) => this.filled(filled));
      this.stopDeletions = watchDeletions(() => this.showAll());
      this.tab = document.getElementById("tab-imagine");
      this.onPaste = (event) => this.paste(event);
      this.onDrop = (event) => this.drop(event);
      this.onOver = (event) => event.preventDefault();
      document.addEventListener("paste", this.onPaste);
      this.tab?.addEventListener("drop", this.onDrop);
      this.tab?.addEventListener("dragover", this.onOver);
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      this.stopDeletions?.();
      document.removeEventListener("paste", this.onPaste);
      this.tab?.removeEventListener("drop", this.onDrop);
      this.tab?.removeEventListener("dragover", this.onOver);
    }

    get names() {
      return document.querySelector("ct-names");
    }

    get start() {
      return document.querySelector("ct-start");
    }

    // From the service

    async read() {
      try {
        const [page, after] = await Promise.all([get(`/jobs?kind=imagine&limit=${asMany(this.jobs, PAGE)}`), get("/jobs?kind=restore&kind=upscale&limit=100")]);
        [this.jobs, this.next] = [page.jobs, page.next];
        for (const job of after.jobs) this.after.set(job.id, job);
        this.showAll();
      } catch (fault) {
        toast(fault.message);
      }
    }

    async readMore() {
      const page = await get(`/jobs?kind=imagine&limit=${PAGE}&after=${this.next}`);
      this.jobs = joined(this.jobs, page.jobs);
      this.next = page.next;
      this.showAll();
    }

    change(job) {
      if (AFTER.includes(job.kind) && job.parent) {
        this.after.set(job.id, job);
        const parent = this.jobs.find((other) => other.id === job.parent);
        if (parent) this.show(parent);
      }
      if (job.kind !== "imagine") return;
      if (renew(this.jobs, job)) this.show(job);
      else this.showAll();
    }

    forget(id) {
      this.after.delete(id);
      this.jobs = this.jobs.filter((job) => job.id !== id);
      this.showAll();
    }

    // Shown

    showAll() {
      const shown = this.jobs.filter((job) => !isDeleted(job.id) && !(job.results.some(isPicture) && !picturesOf(job).length));
      keepFocus(this.list, () => this.list.replaceChildren(...shown.map((job) => this.card(job))));
      this.empty.hidden = shown.length > 0;
      this.more.hidden = !this.next;
    }

    /** How long waiting jobs wait. */
    showWaiting() {
      for (const job of this.jobs.filter(({ state }) => state === "queued")) this.list.querySelector(`[data-job="${job.id}"] .ct-status`)?.replaceChildren(progressOf(job));
    }

    show(job) {
      const card = this.list.querySelector(`[data-job="${job.id}"]`);
      if (card && job.state === "running" && card.dataset.state === "running") {
        card.querySelector(".ct-status")?.replaceChildren(progressOf(job));
        this.preview(card.querySelector(".ct-made"), job);
        return;
      }
      const fresh = this.card(job);
      keepFocus(card, () => {
        card?.replaceWith(fresh);
        return fresh;
      });
    }

    preview(place, job) {
      if (!job.preview || job.state === "done") return;
      const url = previewOf(job);
      const shown = place.querySelector("img.ct-preview");
      if (shown) shown.src = url;
      else place.append(el("img", { class: "ct-preview", src: url, alt: _("Preview") }));
    }

    card(job) {
      const pictures = picturesOf(job);
      const made = el("div", { class: pictures.length === 1 ? "ct-made is-single" : "ct-made" });
      made.append(...pictures.map((result) => this.thumb(job, result)));
      this.preview(made, job);
      const children = [...this.after.values()].filter((other) => other.parent === job.id && !isDeleted(other.id)).sort((a, b) => a.created - b.created);
      made.append(...children.map((child) => this.child(child)).filter(Boolean));
      const button = (key, label, onclick) => el("button", { type: "button", class: "ct-plain", "data-key": key, onclick }, label);
      const isEnded = FINISHED.includes(job.state);
      return el(
        "li",
        { class: "ct-card", "data-job": job.id, "data-state": job.state },
        el("p", { class: "ct-name ct-prompt" }, job.task.prompt || _("Without a prompt")),
        el("p", { class: "ct-soft" }, [job.task.model, pictures[0]?.facts.width && `${pictures[0].facts.width} × ${pictures[0].facts.height}`, pictures[0]?.facts.seed !== undefined && _("seed {seed}", { seed: pictures[0].facts.seed })].filter(Boolean).join(" · ")),
        made,
        el("div", { class: "ct-status", "aria-live": "polite" }, job.state === "failed" ? el("p", { class: "ct-fault" }, job.error.detail) : isEnded ? (job.state === "cancelled" ? el("span", { class: "ct-soft" }, _("cancelled")) : null) : progressOf(job)),
        el(
          "div",
          { class: "ct-bar ct-tight" },
          button("reuse", _("Use these settings"), () => this.reuse(job, pictures[0])),
          isEnded ? button("again", _("Again"), () => guarded(() => this.vary(job, pictures[0], 0))) : button("cancel", _("Cancel"), () => guarded(() => post(`/jobs/${job.id}/cancel`))),
          isEnded && button("delete", _("Delete"), () => deleteWithUndo(job.id, `/jobs/${job.id}`, jobTitle(job))),
        ),
      );
    }

    thumb(job, result) {
      const label = job.task.prompt || result.name;
      return el("button", { type: "button", class: "ct-open", "data-key": result.id, "aria-label": _("Open {name}", { name: label }), onclick: () => this.open(job, result) }, el("img", { src: result.url, alt: label, loading: "lazy", decoding: "async" }));
    }

    child(job) {
      if (job.state === "failed") return el("p", { class: "ct-fault" }, job.error.detail);
      if (job.state === "cancelled") return null;
      const [picture] = picturesOf(job);
      if (!picture && job.state === "done") return null;
      return picture ? this.thumb(job, picture) : el("div", { class: "ct-waits" }, progressOf(job));
    }

    open(job, result) {
      const act = (label, run) => el("button", { type: "button", onclick: () => guarded(run, dialog) }, label);
      const isDrawn = job.kind === "imagine";
      const content = el(
        "div",
        {},
        el("img", { class: "ct-large", src: result.url, alt: job.task.prompt || result.name }),
        el(
          "div",
          { class: "ct-bar" },
          isDrawn && act(_("Use these settings"), () => this.reuse(job, result)),
          isDrawn && act(_("Vary"), () => this.vary(job, result, VARIATION)),
          act(_("Enlarge"), () => this.go("upscale", job, result)),
          act(_("Restore faces"), () => this.go("restore", job, result)),
          act(_("Change a part"), () => this.inpaint(result)),
          el("a", { class: "ct-button", href: result.url, download: result.name }, _("Download")),
          act(_("Delete"), () => deleteWithUndo(result.id, result.url, jobTitle(job))),
        ),
        el("p", { class: "ct-soft" }, job.task.prompt ?? ""),
      );
      const dialog = openDialog(_("Picture"), content);
    }

    // Acts

    async order(task) {
      const start = await this.start.order();
      await submit({ kind: "imagine", task: { ...task, ...this.names.task, ...start.task }, files: start.files });
    }

    async filled({ fault, rest, notes }) {
      if (fault) return showFault("imagine", { message: fault, option: "prompt" });
      if (rest.model || !this.keepsModel) this.names.choose(rest.model ?? "");
      this.start.set(rest);
      this.notice.textContent = notes.join(" ");
    }

    async reuse(job, result) {
      const seed = result?.facts.seed;
      this.keepsModel = false;
      await this.start.restore(job);
      fill("imagine", { task: seed === undefined ? job.task : { ...job.task, seed } });
      document.getElementById("imagine-prompt")?.scrollIntoView({ block: "nearest" });
    }

    async vary(job, result, variation) {
      const task = Object.fromEntries(Object.entries(job.task).filter(([name]) => !NOT_REUSED.includes(name)));
      if (variation && result) Object.assign(task, { seed: result.facts.seed, variation, variation_seed: -1, count: VARIATIONS });
      else task.seed = -1;
      await submit({ kind: "imagine", task: variation ? task : { ...job.task, seed: -1 }, files: job.files, parent: job.id });
    }

    async go(kind, job, result) {
      const file = await fileOf(result);
      const id = await upload(file);
      const parent = job.kind === "imagine" ? job.id : job.parent;
      const task = kind === "restore" ? { scale: 1 } : {};
      await submit({ kind, task, files: { source: `${id}/${file.name}` }, parent });
    }

    async inpaint(result) {
      await this.start.take(await fileOf(result));
      document.getElementById("imagine-init")?.parentElement.scrollIntoView({ block: "center" });
    }

    // Parameters of other programs

    paste(event) {
      if (!event.target.closest?.("#imagine-prompt")) return;
      const text = event.clipboardData.getData("text/plain");
      if (!INFOTEXT.test(text)) return;
      event.preventDefault();
      this.keepsModel = true;
      fill("imagine", { text });
    }

    async drop(event) {
      const file = event.dataTransfer.files[0];
      if (!file) return;
      event.preventDefault();
      guarded(() => this.readPicture(file));
    }

    /** Fills the form with the parameters in a picture; one that has none becomes the picture to begin with. */
    async readPicture(file) {
      const { text, parameters } = await get(`/uploads/${await upload(file)}/parameters`);
      this.keepsModel = true;
      if (text) fill("imagine", { text });
      else if (Object.keys(parameters).length) fill("imagine", { fields: parameters });
      else await this.start.take(file);
    }
  },
);
