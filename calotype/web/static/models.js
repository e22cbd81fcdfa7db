// <ct-models>: models at hand and those that can be fetched; the owner fetches and removes them.

import { call, get, post } from "./api.js";
import { openDialog } from "./compare.js";
import { el, guarded, keepFocus, toast } from "./dom.js";
import { progressBar } from "./jobs.js";
import { _ } from "./texts.js";

const ASK_AGAIN = 700; // milliseconds

customElements.define(
  "ct-models",
  class extends HTMLElement {
    models = [];
    downloads = new Map();
    imports = [];

    connectedCallback() {
      this.onModels = () => this.read();
      document.addEventListener("ct-models", this.onModels);
      this.text = el("input", { type: "search", placeholder: _("Name or purpose"), "aria-label": _("Search models"), oninput: () => this.show() });
      this.kind = el("select", { "aria-label": _("Purpose"), onchange: () => this.show() });
      this.list = el("div", {});
      this.folders = el("section", {});
      this.replaceChildren(el("div", { class: "ct-bar" }, this.text, this.kind), this.folders, this.list);
      this.read();
    }

    disconnectedCallback() {
      clearTimeout(this.timer);
      clearTimeout(this.importTimer);
      document.removeEventListener("ct-models", this.onModels);
    }

    async read() {
      try {
        [this.me, this.models] = await Promise.all([get("/me"), get("/models")]);
        const kinds = [...new Map(this.models.map((model) => [model.kind, model.purpose]))];
        const chosen = this.kind.value;
        this.kind.replaceChildren(...[["", _("All purposes")], ...kinds].map(([value, title]) => el("option", { value }, title)));
        this.kind.value = chosen;
        if (this.me.is_admin) await Promise.all([this.readDownloads(), this.readImports()]);
        this.show();
      } catch (fault) {
        this.list.replaceChildren(el("p", { class: "ct-fault", role: "alert" }, fault.message));
      }
    }

    async readDownloads() {
      clearTimeout(this.timer);
      const found = await get("/downloads").catch(() => null);
      if (!found) return (this.timer = setTimeout(() => this.readDownloads(), ASK_AGAIN)); // the service starts again, or the network broke
      const before = this.downloads;
      this.downloads = new Map(found.map((download) => [download.name, download]));
      const isOpen = (download) => ["waiting", "running"].includes(download?.state);
      if (found.some((download) => download.state === "done" && isOpen(before.get(download.name)))) document.dispatchEvent(new CustomEvent("ct-models"));
      else this.show();
      if (found.some(isOpen)) this.timer = setTimeout(() => this.readDownloads(), ASK_AGAIN);
    }

    /** The folders of other programs that the service was started with. */
    async readImports() {
      clearTimeout(this.importTimer);
      const before = this.imports;
      const found = await get("/imports").catch(() => null);
      this.imports = found ?? before;
      const isRunning = (folders) => folders?.some((folder) => folder.state === "running");
      if (isRunning(before) && found && !isRunning(found)) document.dispatchEvent(new CustomEvent("ct-models"));
      else this.showImports();
      if (isRunning(this.imports)) this.importTimer = setTimeout(() => this.readImports(), ASK_AGAIN);
    }

    showImports() {
      const rows = this.imports.map((folder) => this.importRow(folder));
      const hint = el("p", { class: "ct-soft" }, _("Models of A1111, Forge or ComfyUI are used where they lie. Name the folder of that program when you start the service: calotype serve --import-folder FOLDER"));
      keepFocus(this.folders, () => this.folders.replaceChildren(el("details", { open: rows.length > 0 }, el("summary", {}, _("Models of another program")), ...(rows.length ? rows : [hint]))));
    }

    importRow(folder) {
      const counts = [folder.added && _("{count} added", { count: folder.added }), folder.known && _("{count} known already", { count: folder.known }), folder.failed && _("{count} skipped", { count: folder.failed })].filter(Boolean);
      const state = { running: _("looking into the files"), done: counts.length ? "" : _("there are no models in it") }[folder.state];
      const start = () =>
        guarded(async () => {
          await post(`/imports/${folder.id}`);
          await this.readImports();
        });
      return el(
        "div",
        { class: "ct-row", "data-folder": folder.id },
        el("div", {}, el("p", { class: "ct-name" }, folder.name), el("p", { class: "ct-soft", role: "status" }, [state, ...counts].filter(Boolean).join(" · ")), el("ul", { class: "ct-notes" }, folder.faults.map((fault) => el("li", { class: folder.state === "failed" ? "ct-fault" : "ct-soft" }, fault)))),
        el("div", { class: "ct-bar" }, el("button", { type: "button", "data-key": folder.id, disabled: folder.state === "running", "aria-label": _("Import from {name}", { name: folder.name }), onclick: start }, _("Import"))),
      );
    }

    show() {
      const words = this.text.value.trim().toLowerCase();
      const fits = (model) => (!this.kind.value || model.kind === this.kind.value) && `${model.name} ${model.purpose} ${model.about}`.toLowerCase().includes(words);
      const found = this.models.filter(fits);
      const part = (title, models) => (models.length ? [el("h2", {}, title), el("div", {}, models.map((model) => this.row(model)))] : []);
      const parts = [...part(_("At hand"), found.filter((model) => model.is_available)), ...part(_("Can be fetched"), found.filter((model) => !model.is_available))];
      const empty = el("p", { class: "ct-empty" }, _("No model fits the search."));
      keepFocus(this.list, () => this.list.replaceChildren(...(parts.length ? parts : [empty])));
    }

    row(model) {
      const download = this.downloads.get(model.name);
      const facts = [model.purpose, model.is_own && _("yours alone"), model.size ? this.size(model.size) : "", model.licence].filter(Boolean).join(" · ");
      const button = (label, name, onclick, isPlain) => el("button", { type: "button", class: isPlain ? "ct-plain" : "", "data-key": model.name, "aria-label": name, onclick }, label);
      const isOpen = ["waiting", "running"].includes(download?.state);
      const acts = [];
      if (this.me?.is_admin && !model.is_available && !isOpen) acts.push(button(_("Fetch"), _("Fetch {name}", { name: model.name }), () => this.fetch(model)));
      const mayRemove = model.is_own || (this.me?.is_admin && !model.is_shipped);
      if (mayRemove && model.is_available) acts.push(button(_("Remove"), _("Remove {name}", { name: model.name }), () => this.remove(model), true));
      return el(
        "div",
        { class: model.preview ? "ct-row has-preview" : "ct-row", "data-model": model.name },
        model.preview && el("img", { class: "ct-thumb", src: model.preview, alt: "", loading: "lazy" }),
        el("div", {}, el("p", { class: "ct-name" }, model.name), el("p", { class: "ct-soft" }, facts), el("p", {}, model.about), isOpen ? this.progress(download) : null, download?.state === "failed" && !model.is_available ? el("p", { class: "ct-fault", role: "alert" }, download.error) : null),
        el("div", { class: "ct-bar" }, acts),
      );
    }

    size(bytes) {
      return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.max(1, Math.round(bytes / 2 ** 20))} MiB`;
    }

    progress(download) {
      const percent = download.total ? Math.floor((100 * download.done) / download.total) : 0;
      return el("div", {}, progressBar(download.name, percent, 2), el("span", { class: "ct-soft" }, download.total ? _("{percent} %", { percent }) : _("starts")));
    }

    fetch(model) {
      guarded(async () => {
        await post(`/models/${encodeURIComponent(model.name)}/fetch`);
        await this.readDownloads();
      });
    }

    remove(model) {
      const sure = el("button", { type: "button" }, _("Remove {name}", { name: model.name }));
      sure.addEventListener("click", async () => {
        dialog.close();
        try {
          await call("DELETE", `/models/${encodeURIComponent(model.name)}`);
          document.dispatchEvent(new CustomEvent("ct-models"));
        } catch (fault) {
          toast(fault.message);
        }
      });
      const dialog = openDialog(_("Remove a model"), el("div", {}, el("p", {}, _("A file that was fetched is deleted, and can be fetched again. One that was trained here is deleted. One of your own only leaves the list.")), sure));
    }
  },
);
