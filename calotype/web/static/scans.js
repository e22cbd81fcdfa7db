// <ct-scans>: scans that hold several photos. A scan is the job that found them; its photos are the results of the jobs
// with that parent.

import { eachPage, get, gone, submit, untilAnswered } from "./api.js";
import { downloadAll } from "./archive.js";
import { el, guarded, keepFocus, listed, toast } from "./dom.js";
import { dropZone, takeFiles } from "./dropzone.js";
import { hand, takeFor } from "./hand.js";
import { isPicture, progressOf, smallOf, stateText, uploadOf } from "./jobs.js";
import { watch } from "./live.js";
import { clearFaults, onOrder, showFault } from "./orders.js";
import * as removals from "./removals.js";
import { Source, SourcesTab } from "./sources.js";
import { _ } from "./texts.js";
import { fileOf } from "./upload.js";

const PAGE = 10; // scans that are shown at first, and by each press of "older"

/** A scan of the tab: its job finds its photos, the others cut them out. */
class Scan extends Source {
  notes = null; // what its job told
  line = el("li", { class: "ct-card" });
}

customElements.define(
  "ct-scans",
  class extends SourcesTab {
    kind = "split";
    Item = Scan;
    first = { kind: "split", task: { dry_run: true, damaged_file: true } };
    shown = PAGE; // scans

    connectedCallback() {
      const texts = { lead: _("Drop scans of several photos here"), choose: _("Choose scans"), hint: _("Each photo on the glass is found, cut out, and turned straight and upright. The scan stays as it is.") };
      this.zone = dropZone(this, { ...texts, take: (transfer) => takeFiles(this, transfer) });
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.left = el("p", { class: "ct-soft", role: "status" });
      this.list = el("ul", { class: "ct-list" });
      this.more = el("button", { type: "button", hidden: true, onclick: () => this.showMore() });
      this.replaceChildren(this.zone, this.notice, this.left, this.list, el("div", { class: "ct-bar ct-foot" }, this.more));
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.sources.forEach((scan) => this.show(scan)) });
      onOrder("split", (task) => this.order(task));
      takeFor("split", (file) => this.add([file]));
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
    }

    // From the service

    async read() {
      try {
        const jobs = [];
        await eachPage("kind=split", (page) => jobs.push(...page));
        const ids = new Set(jobs.map((job) => job.id));
        this.sources = this.sources.filter((scan) => !scan.job || ids.has(scan.job.id));
        for (const job of jobs.reverse()) this.put(job);
        this.showAll();
        if (this.notice.textContent === gone().message) this.notice.textContent = "";
      } catch (fault) {
        this.notice.textContent = fault.message;
      }
    }

    /** Puts a job to its scan; a plan without one is a scan. Returns the scan. */
    put(job) {
      const isPlan = job.task.dry_run && !job.parent;
      let scan = this.sources.find((other) => other.job?.id === (isPlan ? job.id : job.parent));
      if (isPlan) {
        if (!scan && (job.state === "cancelled" || removals.isRemoved(job.id))) return null;
        scan ??= this.sources.find((other) => !other.job && other.upload === uploadOf(job).id) ?? this.insert(new Scan(uploadOf(job).name));
        scan.take(job);
        if (job.state === "done" && !scan.notes) this.readNotes(scan);
      } else scan?.results.set(job.id, job);
      return scan ?? null;
    }

    insert(scan) {
      this.sources.unshift(scan);
      return scan;
    }

    /** How many photos were found, and where. */
    async readNotes(scan) {
      scan.notes = [];
      const told = await get(`/jobs/${scan.job.id}/learning`).catch(() => ({ notes: [] }));
      scan.notes = told.notes.map((note) => note.text);
      this.show(scan);
    }

    change(job) {
      if (job.kind !== "split") return;
      const before = this.sources.length;
      const scan = this.put(job);
      if (this.sources.length !== before) this.showAll();
      else if (scan) this.show(scan);
    }

    forget(id) {
      this.sources = this.sources.filter((scan) => scan.job?.id !== id);
      for (const scan of this.sources) scan.results.delete(id);
      this.showAll();
    }

    // Cutting

    async order(task) {
      const chosen = this.chosen();
      if (!chosen.length) return showFault("split", { message: this.sources.length ? _("all scans are in the queue already") : _("drop a scan first") });
      for (const scan of chosen) {
        const order = { kind: "split", task, files: { source: scan.source }, parent: scan.job.id };
        this.put(await untilAnswered(() => submit(order), (fault) => clearFaults("split") || showFault("split", fault)));
        this.show(scan);
      }
      clearFaults("split");
      toast(chosen.length === 1 ? _("1 scan is in the queue") : _("{count} scans are in the queue", { count: chosen.length }));
    }

    async restoreAll(job) {
      for (const result of job.results.filter(isPicture)) hand("restore", "restore", await fileOf(result));
    }

    // Showing

    showMore() {
      this.shown += PAGE;
      this.showAll();
    }

    showAll() {
      const shown = this.sources.slice(0, this.shown);
      const older = this.sources.length - shown.length;
      this.zone.classList.toggle("is-small", this.sources.length > 0);
      this.more.hidden = !older;
      this.more.textContent = _("Show older scans ({count})", { count: older });
      const lines = shown.map((scan) => scan.line);
      for (const line of [...this.list.children]) if (!lines.includes(line)) line.remove();
      lines.forEach((line, n) => this.list.children[n] !== line && this.list.insertBefore(line, this.list.children[n] ?? null));
      for (const scan of shown) this.show(scan);
    }

    show(scan) {
      keepFocus(scan.line, () => scan.line.replaceChildren(el("div", { class: "ct-photo" }, this.picture(scan), this.side(scan)), this.results(scan) || ""));
    }

    picture(scan) {
      const { job } = scan;
      const box = el("div", { class: "ct-picture" });
      if (job?.state === "done" && job.preview) box.append(el("img", { src: job.preview, alt: _("{name} with the outlines of its photos", { name: scan.name }) }));
      return box;
    }

    side(scan) {
      const isFailed = scan.fault || scan.job?.state === "failed";
      const buttons = [
        isFailed && scan.file && el("button", { type: "button", onclick: () => guarded(() => this.send(scan)) }, _("Try again")),
        scan.isReady && !scan.isBusy && el("button", { type: "button", "data-key": "cut", onclick: () => this.orderOne(scan) }, scan.done ? _("Cut out again") : _("Cut out these photos")),
        scan.done && el("button", { type: "button", "data-key": "restore", onclick: () => guarded(() => this.restoreAll(scan.done)) }, _("Restore all")),
        scan.done && el("button", { type: "button", "data-key": "zip", onclick: () => guarded(() => downloadAll([scan.done])) }, _("Download as ZIP")),
        el("button", { type: "button", class: "ct-plain", "data-key": "remove", onclick: () => this.remove(scan) }, _("Remove")),
      ];
      const [found, ...places] = scan.notes ?? [];
      return el(
        "div",
        {},
        el("p", { class: "ct-name" }, scan.name),
        found && el("p", { class: "ct-soft" }, found),
        places.length > 0 && el("details", { class: "ct-measures ct-soft" }, el("summary", {}, _("Where they lie")), listed(places)),
        el("div", { class: "ct-status", "aria-live": "polite" }, this.status(scan)),
        el("div", { class: "ct-bar" }, buttons),
      );
    }

    status(scan) {
      const fault = (text) => el("p", { class: "ct-fault", role: "alert" }, text);
      const { job, result } = scan;
      if (scan.fault) return fault(scan.fault);
      if (scan.isWaiting) return fault(gone().message);
      if (!job) return el("p", { class: "ct-soft" }, _("Sending · {percent} %", { percent: Math.floor(100 * scan.share) }));
      if (job.state === "failed") return fault(job.error.detail);
      if (scan.isBusy) return progressOf(result);
      if (result?.state === "failed") return fault(result.error.detail);
      return job.state === "done" ? [] : el("p", { class: "ct-soft" }, `${_("Looking for photos")} · ${stateText(job)}`);
    }

    /** A card for each photo that was cut out. */
    results(scan) {
      const pictures = scan.done?.results.filter(isPicture) ?? [];
      const card = (result, n) =>
        el(
          "article",
          { class: "ct-card" },
          el("img", { src: smallOf(scan.done, result), alt: result.name, loading: "lazy", decoding: "async" }),
          el("div", { class: "ct-text" }, el("p", { title: result.name }, result.name), el("p", { class: "ct-soft" }, `${result.facts.width} × ${result.facts.height}`)),
          el(
            "div",
            { class: "ct-bar" },
            el("button", { type: "button", class: "ct-plain", "data-key": `restore-${n}`, onclick: () => guarded(async () => hand("restore", "restore", await fileOf(result))) }, _("Restore this")),
            el("a", { class: "ct-button ct-plain", href: result.url, download: result.name, "aria-label": _("Download {name}", { name: result.name }) }, _("Download")),
          ),
        );
      return pictures.length > 0 && el("div", { class: "ct-grid ct-cut" }, pictures.map(card));
    }
  },
);
