// <ct-queue>: jobs that run, wait, or have just ended.

import { get, post } from "./api.js";
import { el, guarded, keepFocus, toast } from "./dom.js";
import { FINISHED, isTrial, jobTitle, kindTitle, mayCancel, previewOf, progressOf, stateText } from "./jobs.js";
import { watch } from "./live.js";
import { _ } from "./texts.js";

const RECENT = 12; // ended jobs

customElements.define(
  "ct-queue",
  class extends HTMLElement {
    jobs = new Map();
    order = [];

    connectedCallback() {
      this.stop = watch({
        open: () => this.read(),
        change: (job) => {
          const isNew = this.jobs.get(job.id)?.state !== job.state;
          this.jobs.set(job.id, job);
          if (isNew && job.state === "queued") this.readOrder();
          else if (isNew) this.show();
          else this.update(job);
        },
        gone: (id) => this.jobs.delete(id) && this.show(),
        moved: () => this.show(),
      });
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
    }

    async read() {
      try {
        const [open, ended] = await Promise.all([
          get("/jobs?state=queued&state=running&state=paused&limit=200"),
          get(`/jobs?state=done&state=failed&state=cancelled&limit=${2 * RECENT}`),
        ]);
        this.jobs = new Map([...open.jobs, ...ended.jobs].map((job) => [job.id, job]));
        await this.readOrder();
      } catch (fault) {
        toast(fault.message);
      }
    }

    async readOrder() {
      this.order = (await get("/queue")).map((job) => job.id);
      this.show();
    }

    update(job) {
      const line = this.querySelector(`[data-job="${job.id}"] .ct-line-of-job`);
      if (line && !FINISHED.includes(job.state)) line.replaceChildren(progressOf(job));
      const picture = this.querySelector(`[data-job="${job.id}"] img`);
      if (picture && job.preview) picture.src = previewOf(job);
    }

    show() {
      const jobs = [...this.jobs.values()];
      const newest = (a, b) => (b.finished ?? b.created) - (a.finished ?? a.created);
      const place = (job) => (this.order.indexOf(job.id) + 1 || Infinity);
      const running = jobs.filter((job) => job.state === "running").sort(newest);
      const waiting = jobs.filter((job) => ["queued", "paused"].includes(job.state)).sort((a, b) => place(a) - place(b));
      const ended = jobs.filter((job) => FINISHED.includes(job.state) && job.kind !== "find_faces" && !isTrial(job)).sort(newest);
      const parts = [...this.part(_("At work"), running), ...this.part(_("Waiting"), waiting), ...this.part(_("Ended"), ended.slice(0, RECENT))];
      const empty = el("p", { class: "ct-empty" }, _("Nothing waits and nothing runs. Photos that you restore appear here."));
      keepFocus(this, () => this.replaceChildren(...(parts.length ? parts : [empty])));
    }

    part(title, jobs) {
      if (!jobs.length) return [];
      return [el("h2", {}, title), el("ul", { class: "ct-list" }, jobs.map((job, n) => this.row(job, jobs[n - 1], jobs[n + 2], jobs[n + 1])))];
    }

    row(job, previous, afterNext, next) {
      const act = (name, label, body = undefined) =>
        el("button", { class: "ct-plain", type: "button", "data-key": `${job.id}-${label}`, onclick: () => this.act(job, name, body) }, label);
      const isQueued = (other) => other?.state === "queued";
      const buttons = [
        isQueued(job) && isQueued(previous) && act("move", _("Earlier"), { before: previous.id }),
        isQueued(job) && isQueued(next) && act("move", _("Later"), { before: isQueued(afterNext) ? afterNext.id : null }),
        ["queued", "running"].includes(job.state) && act("pause", _("Pause")),
        job.state === "paused" && act("resume", _("Continue")),
        !FINISHED.includes(job.state) && act("cancel", _("Cancel")),
        ["failed", "cancelled"].includes(job.state) && act("retry", _("Try again")),
      ];
      const isEnded = FINISHED.includes(job.state);
      const line = isEnded ? el("span", { class: job.state === "failed" ? "ct-fault" : "ct-soft" }, stateText(job)) : progressOf(job);
      return el(
        "li",
        { class: "ct-card ct-job", "data-job": job.id },
        job.preview ? el("img", { class: "ct-thumb", src: job.preview, alt: "", loading: "lazy" }) : el("span", { class: "ct-thumb" }),
        el("div", {}, el("p", { class: "ct-name" }, jobTitle(job)), el("span", { class: "ct-soft" }, kindTitle(job.kind)), el("div", { class: "ct-line-of-job" }, line)),
        el("div", { class: "ct-bar" }, buttons),
      );
    }

    async act(job, name, body) {
      if (name === "cancel" && !mayCancel(job)) return;
      await guarded(async () => {
        const answer = await post(`/jobs/${job.id}/${name}`, body);
        if (name === "move") this.order = answer.map((moved) => moved.id);
        else this.jobs.set(job.id, answer);
        this.show();
      });
    }
  },
);
