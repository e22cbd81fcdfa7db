// <ct-names>: the model, LoRAs and embeddings for a prompt, from the store as it is now, and earlier prompts.

import { get } from "./api.js";
import { appeared, el } from "./dom.js";
import { takeFor } from "./hand.js";
import { watch } from "./live.js";
import { _ } from "./texts.js";

const HISTORY = 50; // jobs that are looked at
const PROMPT = "#imagine-prompt textarea";
const USUAL = "emoji";

customElements.define(
  "ct-names",
  class extends HTMLElement {
    connectedCallback() {
      const pick = (title, take) => el("select", { "aria-label": title, onchange: (event) => this.pick(event.target, take) });
      this.model = el("select", { onchange: () => this.about() });
      this.note = el("p", { class: "ct-soft" });
      this.loras = pick(_("Add a LoRA"), (name) => this.add(` <lora:${name}:1>`));
      this.embeddings = pick(_("Add an embedding"), (name) => this.add(`, ${name}`));
      this.history = pick(_("Earlier prompts"), (text) => this.set(text));
      this.replaceChildren(
        el("label", { class: "ct-stack", id: "imagine-model" }, el("span", {}, _("Model")), this.model),
        this.note,
        el("div", { class: "ct-picks" }, this.history, this.loras, this.embeddings),
      );
      this.stop = watch({ open: () => this.read(), change: (job) => job.kind === "imagine" && job.state === "queued" && this.readHistory() });
      this.onModels = () => this.read();
      document.addEventListener("ct-models", this.onModels);
      takeFor("prompt", (text) => appeared(PROMPT).then(() => this.add(text)));
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      document.removeEventListener("ct-models", this.onModels);
    }

    async read() {
      try {
        this.models = (await get("/models")).filter((model) => model.is_available);
      } catch {
        return; // the page says that the service does not answer
      }
      const names = (kind) => this.models.filter((model) => model.kind === kind).map((model) => [model.name, model.name]);
      const chosen = this.value;
      this.model.replaceChildren(...names("diffusion").map(([value, title]) => el("option", { value }, title)));
      this.choose(chosen);
      this.offer(this.loras, _("Add a LoRA"), names("lora"));
      this.offer(this.embeddings, _("Add an embedding"), names("embedding"));
      await this.readHistory();
    }

    async readHistory() {
      const { jobs } = await get(`/jobs?kind=imagine&limit=${HISTORY}`).catch(() => ({ jobs: [] }));
      const prompts = [...new Set(jobs.map((job) => job.task.prompt).filter(Boolean))];
      this.offer(this.history, _("Earlier prompts"), prompts.map((text) => [text, text.length > 70 ? `${text.slice(0, 70)}…` : text]));
    }

    offer(select, title, entries) {
      select.replaceChildren(el("option", { value: "" }, title), ...entries.map(([value, text]) => el("option", { value }, text)));
      select.hidden = !entries.length;
    }

    pick(select, take) {
      if (select.value) take(select.value);
      select.value = "";
    }

    get prompt() {
      return document.querySelector(PROMPT);
    }

    add(text) {
      this.set(`${this.prompt.value}${text}`.replace(/^[, ]+/, ""));
    }

    set(text) {
      this.prompt.value = text;
      this.prompt.dispatchEvent(new Event("input", { bubbles: true }));
      this.prompt.focus();
    }

    get value() {
      return this.model.value || USUAL;
    }

    choose(name) {
      const options = [...this.model.options].map((option) => option.value);
      if (options.includes(name)) this.model.value = name;
      else if (options.includes(USUAL)) this.model.value = USUAL;
      this.about();
    }

    about() {
      this.note.textContent = this.models?.find((model) => model.name === this.model.value)?.about ?? "";
    }

    /** The option of the task. */
    get task() {
      return this.value === USUAL ? {} : { model: this.value };
    }
  },
);
