// <ct-queue>: jobs that run, wait, or have just ended.

import { get, post } from "./api.js";
import { el, guarded, keepFocus, toast } from "./dom.js";
import { FINISHED, isPicture, isPlan, isTrial, jobTitle, kindTitle, mayCancel, previewOf, progressOf, statusOf } from "./jobs.js";
import { places, watch } from "./live.js";
import { _ } from "./texts.js";

const RECENT = 12; // ended jobs
const SHOWN = 40; // waiting jobs, until all are asked for

customElements.define(
  "ct-queue",
  class extends HTMLElement {
    jobs = new Map();
    order = []; // ids of waiting jobs, the next one first
    isWhole = false;

    connectedCallback() {
      this.stop = watch({
        open: () => this.read(),
        change: (job) => {
          const isNew = this.jobs.get(job.id)?.state !== job.state;
          this.jobs.set(job.id, job);
          if (isNew) this.showSoon();
          else this.update(job);
        },
        gone: (id) => this.jobs.delete(id) && this.showSoon(),
        moved: () => this.move([...places.keys()]),
      });
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
    }

    async read() {
      try {
        const [open, waiting, ended] = await Promise.all([
          get("/jobs?state=running&state=paused&limit=200"),
          get("/queue"),
          get(`/jobs?state=done&state=failed&state=cancelled&limit=${2 * RECENT}`),
        ]);
        this.jobs = new Map([...open.jobs, ...waiting, ...ended.jobs].map((job) => [job.id, job]));
        this.order = waiting.map((job) => job.id);
        this.show();
      } catch (fault) {
        toast(fault.message);
      }
    }

    /** Shows another order, or only how long each waits now. */
    move(order) {
      const isSame = order.length === this.order.length && order.every((id, n) => id === this.order[n]);
      this.order = order;
      if (!isSame) return this.show();
      for (const id of order) if (this.jobs.has(id)) this.update(this.jobs.get(id));
    }

    /** Of many jobs that change at once, one list is made. */
    showSoon() {
      this.timer ??= setTimeout(() => this.show(), 50);
    }

    update(job) {
      const row = this.querySelector(`[data-job="${job.id}"]`);
      if (!row || FINISHED.includes(job.state)) return;
      row.querySelector(".ct-line-of-job").replaceChildren(progressOf(job));
      if (job.preview) row.querySelector(".ct-thumb").replaceWith(this.thumb(job));
    }

    show() {
      clearTimeout(this.timer);
      this.timer = null;
      const jobs = [...this.jobs.values()];
      const newest = (a, b) => (b.finished ?? b.created) - (a.finished ?? a.created);
      const at = new Map(this.order.map((id, n) => [id, n]));
      const place = (job) => at.get(job.id) ?? Infinity;
      const running = jobs.filter((job) => job.state === "running").sort(newest);
      const waiting = jobs.filter((job) => ["queued", "paused"].includes(job.state)).sort((a, b) => place(a) - place(b) || a.created - b.created);
      const ended = jobs.filter((job) => FINISHED.includes(job.state) && job.kind !== "find_faces" && !isTrial(job) && !isPlan(job)).sort(newest);
      const parts = [...this.part(_("At work"), running), ...this.part(_("Waiting"), waiting, this.isWhole ? Infinity : SHOWN), this.cancelAll(waiting), ...this.part(_("Ended"), ended.slice(0, RECENT))].filter(Boolean);
      const empty = el("p", { class: "ct-empty" }, _("Nothing waits and nothing runs. Photos that you restore appear here."));
      keepFocus(this, () => this.replaceChildren(...(parts.length ? parts : [empty])));
    }

    part(title, jobs, limit = Infinity) {
      if (!jobs.length) return [];
      const rows = jobs.slice(0, limit).map((job, n) => this.row(job, jobs[n - 1], jobs[n + 2], jobs[n + 1], n > 1 ? jobs[0] : null));
      const all = () => {
        this.isWhole = true;
        this.show();
      };
      const more = jobs.length > limit && el("button", { type: "button", class: "ct-plain", onclick: all }, _("Show all {count}", { count: jobs.length }));
      return [el("h2", {}, title), el("ul", { class: "ct-list" }, rows), more].filter(Boolean);
    }

    /** A button for all that wait in the queue: jobs that were paused, and may have begun, stay. */
    cancelAll(waiting) {
      const queued = waiting.filter((job) => job.state === "queued");
      if (queued.length < 2) return null;
      const label = _("Cancel all {count} that wait", { count: queued.length });
      const cancel = async () => {
        if (!confirm(_("Cancel all {count} jobs that wait?", { count: queued.length }))) return;
        for (const { id } of queued) if (this.jobs.get(id)?.state === "queued") await post(`/jobs/${id}/cancel`);
      };
      return el("div", { class: "ct-bar" }, el("button", { type: "button", class: "ct-plain", "data-key": "cancel-all", onclick: () => guarded(cancel) }, label));
    }

    row(job, previous, afterNext, next, first) {
      const act = (name, label, body = undefined) =>
        el("button", { class: "ct-plain", type: "button", "data-key": `${job.id}-${label}`, onclick: () => this.act(job, name, body) }, label);
      const isQueued = (other) => other?.state === "queued";
      const buttons = [
        isQueued(job) && isQueued(first) && act("move", _("First"), { before: first.id }),
        isQueued(job) && isQueued(previous) && act("move", _("Earlier"), { before: previous.id }),
        isQueued(job) && isQueued(next) && act("move", _("Later"), { before: isQueued(afterNext) ? afterNext.id : null }),
        ["queued", "running"].includes(job.state) && act("pause", _("Pause")),
        job.state === "paused" && act("resume", _("Continue")),
        !FINISHED.includes(job.state) && act("cancel", _("Cancel")),
        ["failed", "cancelled"].includes(job.state) && act("retry", _("Try again")),
      ];
      return el(
        "li",
        { class: "ct-card ct-job", "data-job": job.id },
        this.thumb(job),
        el("div", {}, el("p", { class: "ct-name" }, jobTitle(job)), el("span", { class: "ct-soft" }, kindTitle(job.kind)), el("div", { class: "ct-line-of-job" }, statusOf(job))),
        el("div", { class: "ct-bar" }, buttons),
      );
    }

    /** The picture as it is, or the first result. */
    thumb(job) {
      const url = job.preview ? previewOf(job) : job.results.find(isPicture)?.url;
      return url ? el("img", { class: "ct-thumb", src: url, alt: "", loading: "lazy", decoding: "async" }) : el("span", { class: "ct-thumb", "aria-hidden": "true" }, kindTitle(job.kind).slice(0, 1));
    }

    async act(job, name, body) {
      if (name === "cancel" && !mayCancel(job)) return;
      await guarded(async () => {
        const answer = await post(`/jobs/${job.id}/${name}`, body);
        if (name === "move") return this.move(answer.map((moved) => moved.id));
        this.jobs.set(job.id, answer);
        this.show();
      });
    }
  },
);
