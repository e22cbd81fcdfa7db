// <ct-train>: training runs with their plan, loss and samples as they go.

import { call, Fault, get, post, submit } from "./api.js";
import { el, guarded, toast } from "./dom.js";
import { hand } from "./hand.js";
import { FINISHED, isPicture, kindTitle, mayCancel, previewOf, progressOf, stateText, TRAININGS } from "./jobs.js";
import { watch } from "./live.js";
import { onOrder } from "./orders.js";
import { _ } from "./texts.js";

const SHOWN = 8;
const FOLLOWED = 3; // of the newest runs, whose events are read
const POINTS = 300;
const SVG = "http://www.w3.org/2000/svg";

/** The events of a job from its first on, until it ends; a broken stream goes on after the last event. */
async function follow(id, take, signal) {
  let last = 0;
  while (!signal.aborted) {
    try {
      const answer = await fetch(`/jobs/${id}/events`, { headers: { "Last-Event-ID": String(last), "Accept-Language": document.documentElement.lang }, signal });
      if (answer.status !== 200) return;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          last = Number(part.match(/^id: (\d+)/m)?.[1] ?? last);
          const data = part.match(/^data: (.*)$/m)?.[1];
          if (data) take(JSON.parse(data));
        }
      }
    } catch {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

customElements.define(
  "ct-train",
  class extends HTMLElement {
    jobs = [];
    runs = new Map(); // id: {notes, losses, stop}

    connectedCallback() {
      this.list = el("ul", { class: "ct-list" });
      this.replaceChildren(this.list);
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.showAll() });
      for (const kind of TRAININGS) onOrder(kind, (task) => this.order(kind, task));
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      for (const run of this.runs.values()) run.stop.abort();
      this.runs.clear();
    }

    async order(kind, task) {
      const photos = document.querySelector("ct-photos");
      const refs = await photos.refs();
      if (!refs.length) {
        document.getElementById("train-photos").scrollIntoView({ block: "nearest" });
        throw new Fault(0, _("there are no photos yet; drop some first"));
      }
      await submit({ kind, task, files: { photos: refs } });
    }

    async read() {
      try {
        const page = await get(`/jobs?${TRAININGS.map((kind) => `kind=${kind}`).join("&")}&limit=${SHOWN}`);
        this.jobs = page.jobs;
        this.showAll();
      } catch (fault) {
        toast(fault.message);
      }
    }

    change(job) {
      if (!TRAININGS.includes(job.kind)) return;
      const at = this.jobs.findIndex((other) => other.id === job.id);
      const before = this.jobs[at]?.state;
      if (at >= 0) this.jobs[at] = job;
      else this.jobs.unshift(job);
      if (at >= 0 && before === job.state) this.update(job);
      else this.showAll();
    }

    forget(id) {
      this.jobs = this.jobs.filter((job) => job.id !== id);
      this.showAll();
    }

    runOf(job) {
      let run = this.runs.get(job.id);
      if (!run) {
        run = { notes: [], losses: [], stop: new AbortController() };
        this.runs.set(job.id, run);
        follow(job.id, (event) => this.take(job.id, run, event), run.stop.signal);
      }
      return run;
    }

    take(id, run, event) {
      if (event.event === "said" && !run.notes.includes(event.text)) run.notes.push(event.text);
      if (typeof event.loss === "number") run.losses.push(event.loss);
      clearTimeout(run.timer);
      run.timer = setTimeout(() => this.showRun(id, run), 100);
    }

    showRun(id, run) {
      const place = this.list.querySelector(`[data-job="${id}"] .ct-run`);
      place?.replaceChildren(...this.parts(run));
    }

    parts(run) {
      const parts = [];
      if (run.notes.length) parts.push(el("details", { open: run.losses.length === 0 }, el("summary", {}, _("Plan and findings")), el("ul", { class: "ct-notes" }, run.notes.map((note) => el("li", {}, note)))));
      if (run.losses.length > 1) parts.push(this.curve(run.losses), el("p", { class: "ct-soft" }, _("Loss {loss}", { loss: run.losses.at(-1).toPrecision(3) })));
      return parts;
    }

    curve(losses) {
      const step = Math.max(1, Math.ceil(losses.length / POINTS));
      const points = losses.filter((_value, n) => n % step === 0 || n === losses.length - 1);
      const [least, most] = [Math.min(...points), Math.max(...points)];
      const at = (value, n) => `${((100 * n) / (points.length - 1)).toFixed(2)},${(95 - (90 * (value - least)) / (most - least || 1)).toFixed(2)}`;
      const svg = document.createElementNS(SVG, "svg");
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("points", points.map(at).join(" "));
      for (const [name, value] of Object.entries({ viewBox: "0 0 100 100", preserveAspectRatio: "none", class: "ct-curve", role: "img", "aria-label": _("Loss by step, from {first} to {last}", { first: points[0].toPrecision(3), last: points.at(-1).toPrecision(3) }) })) svg.setAttribute(name, value);
      svg.append(line);
      return svg;
    }

    update(job) {
      const card = this.list.querySelector(`[data-job="${job.id}"]`);
      if (!card || FINISHED.includes(job.state)) return;
      card.querySelector(".ct-status")?.replaceChildren(progressOf(job));
      const made = card.querySelector(".ct-made");
      if (made && !job.results.length) made.replaceChildren(...this.preview(job));
    }

    preview(job) {
      return job.preview ? [el("img", { src: previewOf(job), alt: _("Samples") })] : [];
    }

    showAll() {
      this.list.replaceChildren(...this.jobs.slice(0, SHOWN).map((job, n) => this.card(job, n)));
    }

    card(job, number) {
      const run = number < FOLLOWED || this.runs.has(job.id) ? this.runOf(job) : null;
      const weights = job.results.filter((result) => /\.safetensors$/.test(result.name));
      const pictures = job.results.filter(isPicture).map((result) => el("img", { src: result.url, alt: _("Samples"), loading: "lazy" }));
      const act = (label, run) => el("button", { type: "button", class: "ct-plain", onclick: () => guarded(run) }, label);
      const use = (result) => el("button", { type: "button", onclick: () => guarded(() => this.keep(job, result)) }, job.kind === "train_lora" ? _("Use in Imagine") : _("Keep as a model"));
      const isEnded = FINISHED.includes(job.state);
      const isDry = job.task.dry_run === true;
      return el(
        "li",
        { class: "ct-card", "data-job": job.id },
        el("p", { class: "ct-name" }, job.task.output_name || kindTitle(job.kind)),
        el("p", { class: "ct-soft" }, [kindTitle(job.kind), isDry && _("plan only")].filter(Boolean).join(" · ")),
        el("div", { class: "ct-status", "aria-live": "polite" }, isEnded ? el("span", { class: job.state === "failed" ? "ct-fault" : "ct-soft" }, stateText(job)) : progressOf(job)),
        el("div", { class: "ct-run" }, run ? this.parts(run) : []),
        el("div", { class: "ct-made" }, pictures.length ? pictures : this.preview(job)),
        el(
          "div",
          { class: "ct-bar" },
          weights.slice(-1).map(use),
          weights.slice(-1).map((result) => el("a", { class: "ct-button ct-plain", href: result.url, download: result.name }, _("Download"))),
          ["queued", "running"].includes(job.state) && act(_("Stop"), () => post(`/jobs/${job.id}/pause`)),
          job.state === "paused" && act(_("Continue"), () => post(`/jobs/${job.id}/resume`)),
          ["failed", "cancelled"].includes(job.state) && act(_("Try again"), () => post(`/jobs/${job.id}/retry`)),
          !isEnded && act(_("Cancel"), () => mayCancel(job) && post(`/jobs/${job.id}/cancel`)),
          isEnded && act(_("Delete"), () => confirm(_("Delete this training with its files?")) && call("DELETE", `/jobs/${job.id}`)),
        ),
      );
    }

    /** Puts the trained file into the store; a LoRA also goes into the prompt. */
    async keep(job, result) {
      const model = await post("/models/trained", { job: job.id, result: result.id });
      document.dispatchEvent(new CustomEvent("ct-models"));
      toast(model.is_own ? _("{name} is a model now, for you alone", { name: model.name }) : _("{name} is a model now", { name: model.name }));
      if (model.kind !== "lora") return;
      hand("imagine", "prompt", ` <lora:${model.name}:1>`);
    }
  },
);
