// <ct-train>: training runs with their plan, loss and samples as they go.

import { call, Fault, get, post, submit } from "./api.js";
import { el, guarded, keepFocus, listed, toast } from "./dom.js";
import "./film.js";
import { hand } from "./hand.js";
import { ALL_TRAININGS, FINISHED, isPicture, kindTitle, mayCancel, renew, statusOf, TRAININGS } from "./jobs.js";
import { watch } from "./live.js";
import { onOrder } from "./orders.js";
import { _ } from "./texts.js";

const SHOWN = 8;
const POINTS = 400;
const SVG = "http://www.w3.org/2000/svg";

/** What a training has told: notes by their text, losses by step. */
class Run {
  notes = new Map();
  losses = new Map();
  samples = [];
  last = 0;

  take(told) {
    this.last = Math.max(this.last, told.last);
    for (const { step, text } of told.notes) if (!this.notes.has(text)) this.notes.set(text, step);
    for (const [step, loss] of told.losses) this.losses.set(step, loss);
    this.samples = told.samples;
  }

  /** Notes of the plan, and those of steps. */
  texts(isPlan) {
    return [...this.notes].filter(([, step]) => (step === null) === isPlan).map(([text]) => text);
  }
}

customElements.define(
  "ct-train",
  class extends HTMLElement {
    jobs = [];
    cards = new Map(); // id: {node, status, run, film, made, bar, data, shown, opened}

    connectedCallback() {
      this.list = el("ul", { class: "ct-list" });
      this.replaceChildren(this.list);
      // what a run has told is read when its card is first about to be seen, not while another tab is
      const look = (entries) => entries.forEach(({ isIntersecting, target }) => isIntersecting && this.readRun(target.dataset.job));
      this.seen = new IntersectionObserver(look, { rootMargin: "3000px" });
      this.stop = watch({
        open: () => this.read(),
        change: (job) => this.change(job),
        gone: (id) => this.forget(id),
        learning: (told) => this.learn(told),
        moved: () => this.jobs.forEach((job) => job.state === "queued" && this.showStatus(job)),
      });
      for (const kind of TRAININGS) onOrder(kind, (task) => this.order(kind, task));
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      this.seen?.disconnect();
      this.cards.clear();
    }

    async order(kind, task) {
      const files = task.demo ? {} : { photos: await this.photos() };
      const job = await submit({ kind, task, files });
      if (!task.demo) document.querySelector("ct-photos").sent();
      this.change(job);
      this.cards.get(job.id)?.node.scrollIntoView({ block: "nearest" });
    }

    async photos() {
      const refs = await document.querySelector("ct-photos").refs();
      if (refs.length) return refs;
      document.getElementById("train-photos").scrollIntoView({ block: "nearest" });
      throw new Fault(0, _("there are no photos yet; drop some first"));
    }

    // From the service

    async read() {
      try {
        const page = await get(`/jobs?${ALL_TRAININGS}&limit=${SHOWN}`);
        this.jobs = page.jobs;
        this.showAll();
        for (const { data, node } of this.cards.values()) if (data) this.readRun(node.dataset.job, true);
      } catch (fault) {
        toast(fault.message);
      }
    }

    change(job) {
      if (!TRAININGS.includes(job.kind)) return;
      if (renew(this.jobs, job)) this.show(job);
      else this.showAll();
    }

    forget(id) {
      this.jobs = this.jobs.filter((job) => job.id !== id);
      this.showAll();
    }

    /** Reads what a run has told so far; from then on the stream tells the rest. */
    async readRun(id, isAgain = false) {
      const card = this.cards.get(id);
      if (!card || (card.data && !isAgain)) return;
      card.data ??= new Run();
      try {
        card.data.take(await get(`/jobs/${id}/learning`));
        this.showRun(card);
      } catch (fault) {
        toast(fault.message);
      }
    }

    learn(told) {
      const card = this.cards.get(told.job);
      if (!card?.data || told.last <= card.data.last) return;
      card.data.take(told);
      this.showRun(card);
    }

    // Shown

    showAll() {
      const jobs = this.jobs.slice(0, SHOWN);
      for (const id of [...this.cards.keys()].filter((known) => !jobs.some((job) => job.id === known))) {
        this.cards.get(id).node.remove();
        this.cards.delete(id);
      }
      jobs.forEach((job, number) => {
        const { node } = this.cards.get(job.id) ?? this.make(job);
        if (this.list.children[number] !== node) this.list.insertBefore(node, this.list.children[number] ?? null);
        this.show(job);
      });
    }

    make(job) {
      const part = (name) => el("div", { class: name });
      const [status, run, made, bar] = ["ct-status", "ct-run", "ct-made", "ct-bar"].map(part);
      status.setAttribute("aria-live", "polite");
      const film = el("ct-film", { hidden: true });
      const facts = [job.task.output_name && kindTitle(job.kind), job.task.dry_run && _("plan only")].filter(Boolean).join(" · ");
      const title = [el("p", { class: "ct-name" }, job.task.output_name || kindTitle(job.kind)), el("p", { class: "ct-soft" }, facts)];
      const node = el("li", { class: "ct-card", "data-job": job.id }, title, status, run, film, made, bar);
      const card = { node, status, run, film, made, bar, data: null, shown: "", opened: {} }; // opened: by a person
      film.addEventListener("ct-step", ({ detail }) => this.mark(card, detail));
      this.cards.set(job.id, card);
      this.seen.observe(node);
      return card;
    }

    /** The parts of a card that change; what is pressed or opened stays. */
    show(job) {
      const card = this.cards.get(job.id);
      if (!card) return;
      this.showStatus(job);
      const shown = JSON.stringify([job.state, job.results.map((result) => result.id)]);
      if (card.shown === shown) return;
      card.shown = shown;
      const pictures = job.results.filter(isPicture).map((result) => el("img", { src: result.url, alt: result.name, loading: "lazy" }));
      card.made.replaceChildren(...pictures);
      keepFocus(card.bar, () => card.bar.replaceChildren(...this.buttons(job)));
    }

    showStatus(job) {
      this.cards.get(job.id)?.status.replaceChildren(statusOf(job));
    }

    showRun(card) {
      const { data } = card;
      const group = (key, title, texts, isOpen) => {
        const open = card.opened[key] ?? isOpen;
        const summary = el("summary", { "data-key": `${key}-title`, onclick: () => (card.opened[key] = !summary.parentElement.open) }, title);
        return texts.length ? [el("details", { open }, summary, listed(texts))] : [];
      };
      const losses = [...data.losses].sort(([a], [b]) => a - b);
      const plan = data.texts(true);
      const isPlanOnly = !losses.length && !data.samples.length;
      const parts = group("plan", _("Plan and findings"), plan, isPlanOnly);
      if (losses.length > 1) parts.push(this.curve(losses), el("p", { class: "ct-soft" }, _("Loss {loss} after step {step}", { loss: losses.at(-1)[1].toPrecision(3), step: losses.at(-1)[0] })));
      parts.push(...group("notes", _("What happened"), data.texts(false), false));
      keepFocus(card.run, () => card.run.replaceChildren(...parts));
      card.film.notes = new Map([...data.notes].reverse().map(([text, step]) => [step, text])); // the first one of a step
      card.film.add(data.samples); // also where there are none: a note may have come for the one that is shown
    }

    curve(losses) {
      const every = Math.max(1, Math.ceil(losses.length / POINTS));
      const points = losses.filter((_point, n) => n % every === 0 || n === losses.length - 1);
      const values = points.map(([, loss]) => loss);
      const [least, most] = [Math.min(...values), Math.max(...values)];
      const [first, last] = [points[0][0], points.at(-1)[0]];
      const across = (step) => ((100 * (step - first)) / (last - first || 1)).toFixed(2);
      const at = ([step, loss]) => `${across(step)},${(95 - (90 * (loss - least)) / (most - least || 1)).toFixed(2)}`;
      const shape = (name, facts) => {
        const element = document.createElementNS(SVG, name);
        for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
        return element;
      };
      const label = _("Loss by step, from {first} to {last}", { first: values[0].toPrecision(3), last: values.at(-1).toPrecision(3) });
      const svg = shape("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", class: "ct-curve", role: "img", "aria-label": label });
      svg.append(shape("line", { y1: 0, y2: 100, x1: -9, x2: -9 }), shape("polyline", { points: points.map(at).join(" ") }));
      svg.across = across;
      return svg;
    }

    /** Marks the step of the frame that is shown on the curve. */
    mark(card, step) {
      const curve = card.run.querySelector(".ct-curve");
      for (const end of ["x1", "x2"]) curve?.querySelector("line").setAttribute(end, curve.across(step));
    }

    buttons(job) {
      const weights = job.results.filter((result) => /\.safetensors$/.test(result.name)).slice(-1);
      const others = job.results.filter((result) => !isPicture(result) && !weights.includes(result));
      const act = (key, label, run) => el("button", { type: "button", class: "ct-plain", "data-key": key, onclick: () => guarded(run) }, label);
      const use = (result) => el("button", { type: "button", "data-key": "use", onclick: () => guarded(() => this.keep(job, result)) }, job.kind === "train_lora" ? _("Use in Imagine") : _("Keep as a model"));
      const download = (result) => el("a", { class: "ct-button ct-plain", href: result.url, download: result.name }, _("Download {name}", { name: result.name }));
      const isEnded = FINISHED.includes(job.state);
      return [
        weights.map(use),
        isEnded && job.task.dry_run && el("button", { type: "button", "data-key": "start", onclick: () => guarded(() => this.start(job)) }, _("Start this training")),
        [...weights, ...others].map(download),
        ["queued", "running"].includes(job.state) && act("stop", _("Stop"), () => post(`/jobs/${job.id}/pause`)),
        job.state === "paused" && act("continue", _("Continue"), () => post(`/jobs/${job.id}/resume`)),
        ["failed", "cancelled"].includes(job.state) && act("again", _("Try again"), () => post(`/jobs/${job.id}/retry`)),
        !isEnded && act("cancel", _("Cancel"), () => mayCancel(job) && post(`/jobs/${job.id}/cancel`)),
        isEnded && act("delete", _("Delete"), () => confirm(_("Delete this training with its files?")) && call("DELETE", `/jobs/${job.id}`)),
      ]
        .flat()
        .filter(Boolean);
    }

    /** Trains what was planned. */
    async start(job) {
      const { dry_run: _plan, ...task } = job.task;
      this.change(await submit({ kind: job.kind, task, files: job.files }));
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
