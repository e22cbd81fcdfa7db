// <ct-names>: the model, LoRAs and embeddings for a prompt, from the store as it is now, and earlier prompts.

import { get, pause } from "./api.js";
import { openDialog } from "./compare.js";
import { appeared, el, write } from "./dom.js";
import { takeFor } from "./hand.js";
import { watch } from "./live.js";
import { _ } from "./texts.js";

const HISTORY = 50; // jobs that are looked at
const PROMPT = "#imagine-prompt textarea";
const LOOKS = 8;
const LOOK_AGAIN = 120; // milliseconds
const USUAL = "emoji";

customElements.define(
  "ct-names",
  class extends HTMLElement {
    connectedCallback() {
      const button = (title, onclick) => el("button", { type: "button", class: "ct-plain", hidden: true, onclick }, title);
      this.model = el("select", { onchange: () => this.about() });
      this.note = el("p", { class: "ct-soft" });
      this.picture = el("img", { class: "ct-thumb", alt: "", hidden: true });
      this.models = [];
      this.byPicture = button(_("Choose a model by its picture"), () => this.pick(_("Model"), "diffusion", (name) => this.choose(name)));
      this.loras = button(_("Add a LoRA"), () => this.pick(_("Add a LoRA"), "lora", (name) => this.add(` <lora:${name}:1>`)));
      this.embeddings = button(_("Add an embedding"), () => this.pick(_("Add an embedding"), "embedding", (name) => this.add(`, ${name}`)));
      this.history = el("select", { "aria-label": _("Earlier prompts"), onchange: () => this.takeEarlier() });
      this.replaceChildren(
        el("label", { class: "ct-stack", id: "imagine-model" }, el("span", {}, _("Model")), this.model),
        el("div", { class: "ct-chosen" }, this.picture, this.note),
        el("div", { class: "ct-picks" }, this.history, this.byPicture, this.loras, this.embeddings),
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
      const chosen = this.value;
      this.model.replaceChildren(...this.of("diffusion").map(({ name }) => el("option", { value: name }, name)));
      this.choose(chosen);
      this.byPicture.hidden = !this.of("diffusion").some((model) => model.preview);
      this.loras.hidden = !this.of("lora").length;
      this.embeddings.hidden = !this.of("embedding").length;
      await this.readHistory();
    }

    of(kind) {
      return this.models.filter((model) => model.kind === kind);
    }

    /** The models of a kind with their pictures, in a dialog. */
    pick(title, kind, take) {
      const card = (model) =>
        el(
          "button",
          { type: "button", class: "ct-choice", "data-name": model.name, onclick: () => [dialog.close(), take(model.name)] },
          model.preview ? el("img", { src: model.preview, alt: "", loading: "lazy", decoding: "async" }) : el("span", { class: "ct-letter", "aria-hidden": "true" }, model.name[0].toUpperCase()),
          el("span", {}, model.name),
        );
      const grid = el("div", { class: "ct-choices" }, this.of(kind).map(card));
      const narrow = () => {
        for (const choice of grid.children) choice.hidden = !choice.dataset.name.toLowerCase().includes(text.value.trim().toLowerCase());
      };
      const text = el("input", { type: "search", placeholder: _("Name"), "aria-label": _("Search models"), oninput: narrow });
      const dialog = openDialog(title, el("div", {}, this.of(kind).length > 6 ? el("div", { class: "ct-bar" }, text) : null, grid));
    }

    async readHistory() {
      const { jobs } = await get(`/jobs?kind=imagine&limit=${HISTORY}`).catch(() => ({ jobs: [] }));
      const prompts = [...new Set(jobs.map((job) => job.task.prompt).filter(Boolean))];
      const option = (text) => el("option", { value: text }, text.length > 70 ? `${text.slice(0, 70)}…` : text);
      this.history.replaceChildren(el("option", { value: "" }, _("Earlier prompts")), ...prompts.map(option));
      this.history.hidden = !prompts.length;
    }

    takeEarlier() {
      if (this.history.value) this.set(this.history.value);
      this.history.value = "";
    }

    get prompt() {
      return document.querySelector(PROMPT);
    }

    add(text) {
      this.set(`${this.prompt.value}${text}`.replace(/^[, ]+/, ""));
    }

    async set(text) {
      const before = this.prompt.value;
      this.prompt.focus();
      // a field that has just appeared is emptied once more by Gradio
      for (let look = 0; look < LOOKS; look++) {
        if (this.prompt.value === before && text !== before) {
          write(this.prompt, text);
        }
        await pause(LOOK_AGAIN);
      }
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
      const model = this.models.find(({ name }) => name === this.model.value);
      this.note.textContent = model?.about ?? "";
      this.picture.hidden = !model?.preview;
      if (model?.preview) this.picture.src = model.preview;
    }

    /** The option of the task. */
    get task() {
      return this.value === USUAL ? {} : { model: this.value };
    }
  },
);
