// <ct-scans>: scans that hold several photos. A scan is the job that found them; its photos are the results of the jobs
// with that parent.

import { eachPage, get, gone, submit, untilAnswered } from "./api.js";
import { downloadAll } from "./archive.js";
import { el, guarded, keepFocus, listed, toast } from "./dom.js";
import { dropZone, takeFiles } from "./dropzone.js";
import { hand, takeFor } from "./hand.js";
import { FINISHED, isPicture, progressOf, smallOf, stateText, uploadOf } from "./jobs.js";
import { watch } from "./live.js";
import { clearFaults, onOrder, showFault } from "./orders.js";
import * as removals from "./removals.js";
import { _ } from "./texts.js";
import { fileOf, safeName, upload } from "./upload.js";

const PAGE = 10; // scans that are shown at first, and by each press of "older"
const newest = (jobs) => [...jobs].sort((a, b) => b.created - a.created)[0] ?? null;

/** A scan of the tab. */
class Scan {
  file = null; // until it is sent
  upload = "";
  share = 0; // of the file that is sent
  fault = "";
  plan = null; // the job that finds its photos
  notes = null; // what that job told
  cuts = new Map(); // jobs that cut the photos out

  constructor(name) {
    this.name = name;
    this.line = el("li", { class: "ct-card" });
  }

  take(job) {
    this.plan = job;
    this.upload = uploadOf(job).id;
  }

  /** As a file of an order. */
  get source() {
    return `${this.upload}/${this.name}`;
  }

  /** The latest job that cuts. */
  get cut() {
    return newest(this.cuts.values());
  }

  /** The latest one that has cut. */
  get done() {
    return newest([...this.cuts.values()].filter((job) => job.state === "done"));
  }

  get isBusy() {
    return this.cut !== null && !FINISHED.includes(this.cut.state);
  }

  get isReady() {
    return this.plan !== null && !["failed", "cancelled"].includes(this.plan.state);
  }
}

customElements.define(
  "ct-scans",
  class extends HTMLElement {
    scans = []; // the newest first
    shown = PAGE; // of them
    only = null; // the scan whose own button was pressed

    connectedCallback() {
      const texts = { lead: _("Drop scans of several photos here"), choose: _("Choose scans"), hint: _("Each photo on the glass is found, cut out, and turned straight and upright. The scan stays as it is.") };
      this.zone = dropZone(this, { ...texts, take: (transfer) => takeFiles(this, transfer) });
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.left = el("p", { class: "ct-soft", role: "status" });
      this.list = el("ul", { class: "ct-list" });
      this.more = el("button", { type: "button", hidden: true, onclick: () => this.showMore() });
      this.replaceChildren(this.zone, this.notice, this.left, this.list, el("div", { class: "ct-bar ct-foot" }, this.more));
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.scans.forEach((scan) => this.show(scan)) });
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
        this.scans = this.scans.filter((scan) => !scan.plan || ids.has(scan.plan.id));
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
      let scan = this.scans.find((other) => other.plan?.id === (isPlan ? job.id : job.parent));
      if (isPlan) {
        if (!scan && (job.state === "cancelled" || removals.isRemoved(job.id))) return null;
        scan ??= this.scans.find((other) => !other.plan && other.upload === uploadOf(job).id) ?? this.insert(new Scan(uploadOf(job).name));
        scan.take(job);
        if (job.state === "done" && !scan.notes) this.readNotes(scan);
      } else scan?.cuts.set(job.id, job);
      return scan ?? null;
    }

    insert(scan) {
      this.scans.unshift(scan);
      return scan;
    }

    /** How many photos were found, and where. */
    async readNotes(scan) {
      scan.notes = [];
      const told = await get(`/jobs/${scan.plan.id}/learning`).catch(() => ({ notes: [] }));
      scan.notes = told.notes.map((note) => note.text);
      this.show(scan);
    }

    change(job) {
      if (job.kind !== "split") return;
      const before = this.scans.length;
      const scan = this.put(job);
      if (this.scans.length !== before) this.showAll();
      else if (scan) this.show(scan);
    }

    forget(id) {
      this.scans = this.scans.filter((scan) => scan.plan?.id !== id);
      for (const scan of this.scans) scan.cuts.delete(id);
      this.showAll();
    }

    // Files

    add(files) {
      const scans = files.map((file) => Object.assign(new Scan(safeName(file.name)), { file }));
      this.scans.unshift(...scans);
      this.shown += scans.length;
      this.showAll();
      for (const scan of scans) this.send(scan);
    }

    /** Sends a scan, and has its photos found. */
    async send(scan) {
      const moves = (share) => {
        scan.share = share;
        this.show(scan);
      };
      scan.fault = "";
      try {
        scan.upload = await upload(scan.file, moves);
        const same = this.scans.find((other) => other !== scan && other.upload === scan.upload && other.plan);
        if (same) {
          this.scans = [same, ...this.scans.filter((other) => other !== scan && other !== same)];
          toast(_("{name} is here already", { name: scan.name }));
          return this.showAll();
        }
        const order = { kind: "split", task: { dry_run: true }, files: { source: scan.source }, priority: 5 };
        const job = await untilAnswered(() => submit(order));
        this.scans = this.scans.filter((other) => other === scan || other.plan?.id !== job.id);
        scan.take(job);
        scan.file = null;
      } catch (fault) {
        scan.fault = fault.message;
      }
      this.showAll();
    }

    // Cutting

    /** The scans that a press of the button is about: one, or the new ones, or else all that are not at work. */
    chosen() {
      const only = this.only;
      this.only = null;
      const idle = this.scans.filter((scan) => scan.isReady && !scan.isBusy);
      const fresh = idle.filter((scan) => !scan.done);
      return only ? [only] : fresh.length ? fresh : idle;
    }

    async order(task) {
      const chosen = this.chosen();
      if (!chosen.length) return showFault("split", { message: this.scans.length ? _("all scans are in the queue already") : _("drop a scan first") });
      for (const scan of chosen) {
        const order = { kind: "split", task, files: { source: scan.source }, parent: scan.plan.id };
        this.put(await untilAnswered(() => submit(order), (fault) => clearFaults("split") || showFault("split", fault)));
        this.show(scan);
      }
      clearFaults("split");
      toast(chosen.length === 1 ? _("1 scan is in the queue") : _("{count} scans are in the queue", { count: chosen.length }));
    }

    cutOne(scan) {
      this.only = scan;
      document.getElementById("split-go").click();
    }

    async restoreAll(job) {
      for (const result of job.results.filter(isPicture)) hand("restore", "restore", await fileOf(result));
    }

    remove(scan) {
      const at = this.scans.indexOf(scan);
      this.scans.splice(at, 1);
      if (scan.upload) removals.remove(scan.upload, [...scan.cuts.keys(), scan.plan?.id].filter(Boolean));
      this.showAll();
      toast(_("{name} is removed with its results", { name: scan.name }), {
        action: _("Undo"),
        run: () => {
          removals.forget(scan.upload);
          this.scans.splice(at, 0, scan);
          this.read();
        },
        done: () => removals.work(scan.upload),
      });
    }

    // Showing

    showMore() {
      this.shown += PAGE;
      this.showAll();
    }

    showAll() {
      const shown = this.scans.slice(0, this.shown);
      const older = this.scans.length - shown.length;
      this.zone.classList.toggle("is-small", this.scans.length > 0);
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
      const { plan } = scan;
      const box = el("div", { class: "ct-picture" });
      if (plan?.state === "done" && plan.preview) box.append(el("img", { src: plan.preview, alt: _("{name} with the outlines of its photos", { name: scan.name }) }));
      return box;
    }

    side(scan) {
      const isFailed = scan.fault || scan.plan?.state === "failed";
      const buttons = [
        isFailed && scan.file && el("button", { type: "button", onclick: () => guarded(() => this.send(scan)) }, _("Try again")),
        scan.isReady && !scan.isBusy && el("button", { type: "button", "data-key": "cut", onclick: () => this.cutOne(scan) }, scan.done ? _("Cut out again") : _("Cut out these photos")),
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
      const { plan, cut } = scan;
      if (scan.fault) return fault(scan.fault);
      if (!plan) return el("p", { class: "ct-soft" }, _("Sending · {percent} %", { percent: Math.floor(100 * scan.share) }));
      if (plan.state === "failed") return fault(plan.error.detail);
      if (scan.isBusy) return progressOf(cut);
      if (cut?.state === "failed") return fault(cut.error.detail);
      return plan.state === "done" ? [] : el("p", { class: "ct-soft" }, `${_("Looking for photos")} · ${stateText(plan)}`);
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
