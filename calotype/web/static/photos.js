// <ct-photos>: photos for a training, each with its caption beside it. What was typed and not sent is there again after a
// reload, else what was trained with last.

import { get } from "./api.js";
import { el } from "./dom.js";
import { keepDraft, readDraft } from "./drafts.js";
import { ALL_TRAININGS } from "./jobs.js";
import { _ } from "./texts.js";
import { filesOf, isPictureName, leftOut, safeName, upload } from "./upload.js";

const TEXT = /\.txt$/i;
const DRAFT = "captions"; // [{name, id, caption}], until they are sent
const stem = (name) => name.replace(/\.[^.]*$/, "");

customElements.define(
  "ct-photos",
  class extends HTMLElement {
    photos = []; // {name, id, url, caption, row}, by their names
    missing = []; // of the draft: photos that could not be read now

    connectedCallback() {
      this.input = el("input", { type: "file", multiple: true, hidden: true, accept: "image/*,.txt,.zip", onchange: () => this.add(this.input) });
      this.zone = el(
        "div",
        { class: "ct-drop", id: "train-photos" },
        el("p", { class: "ct-lead" }, _("Drop photos to learn from")),
        el("div", { class: "ct-bar" }, el("button", { type: "button", onclick: () => this.input.click() }, _("Choose photos"))),
        el("p", { class: "ct-soft" }, _("Ten to thirty photos are enough for a LoRA. Files with captions (.txt) of the same names may be among them.")),
        this.input,
      );
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.list = el("div", {});
      this.replaceChildren(this.zone, this.notice, this.list);
      this.addEventListener("dragover", (event) => event.preventDefault());
      this.addEventListener("drop", (event) => {
        event.preventDefault();
        this.add(event.dataTransfer);
      });
      this.read();
    }

    /** The photos and captions that were not sent, or those of the latest training. */
    async read() {
      const draft = readDraft(DRAFT) ?? [];
      if (draft.length) {
        for (const photo of draft) await this.fetch(photo).catch(() => this.missing.push(photo));
        return this.show();
      }
      const { jobs } = await get(`/jobs?${ALL_TRAININGS}&limit=1`).catch(() => ({ jobs: [] }));
      const refs = [jobs[0]?.files.photos ?? []].flat().map((ref) => ref.split("/"));
      if (!refs.length || this.photos.length) return;
      const texts = new Map(refs.filter(([, name]) => TEXT.test(name ?? "")).map(([id, name]) => [stem(name), id]));
      for (const [id, name = "photo"] of refs.filter(([, name]) => !TEXT.test(name ?? ""))) {
        const caption = texts.has(stem(name)) ? await fetch(`/uploads/${texts.get(stem(name))}`).then((answer) => (answer.ok ? answer.text() : "")) : "";
        await this.fetch({ name, id, caption }).catch(() => {});
      }
      this.show();
    }

    /** Adds a photo that is in the service, if it still is. */
    async fetch({ name, id, caption }) {
      const answer = await fetch(`/uploads/${id}`);
      if (answer.ok && !this.photos.some((photo) => photo.id === id)) this.photos.push({ name, id, caption, url: URL.createObjectURL(await answer.blob()) });
    }

    /** Keeps the captions in this browser. */
    keep() {
      keepDraft(DRAFT, [...this.missing, ...this.photos].map(({ name, id, caption }) => ({ name, id, caption })));
    }

    /** What was sent needs no draft: the training has it. */
    sent() {
      keepDraft(DRAFT, null);
    }

    async add(transfer) {
      this.notice.textContent = "";
      try {
        const { files, left } = await filesOf(transfer, (name) => TEXT.test(name) || isPictureName(name));
        this.notice.textContent = leftOut(left, files.length);
        this.input.value = "";
        const captions = new Map(await Promise.all(files.filter((file) => TEXT.test(file.name)).map(async (file) => [stem(safeName(file.name)), (await file.text()).trim()])));
        for (const photo of this.photos) {
          if (captions.has(stem(photo.name))) photo.caption = captions.get(stem(photo.name));
          if (photo.row) photo.row.querySelector("textarea").value = photo.caption;
        }
        const fresh = files.filter((file) => !TEXT.test(file.name));
        this.show();
        await Promise.all(
          fresh.map(async (file) => {
            const id = await upload(file);
            if (this.photos.some((photo) => photo.id === id)) return;
            const name = this.free(safeName(file.name));
            this.photos.push({ name, id, caption: captions.get(stem(name)) ?? "", url: URL.createObjectURL(file) });
            this.show();
            this.keep();
          }),
        );
        this.keep();
      } catch (fault) {
        this.notice.textContent = fault.message;
      }
    }

    /** Two photos of different folders may have one name; their captions must not. */
    free(name) {
      const isTaken = (text) => this.photos.some((photo) => stem(photo.name) === stem(text));
      for (let number = 1; isTaken(name); number++) name = name.replace(/(-\d+)?(\.[^.]*)?$/, (_whole, _number, suffix) => `-${number}${suffix ?? ""}`);
      return name;
    }

    show() {
      this.zone.classList.toggle("is-small", this.photos.length > 0);
      this.photos.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
      const rows = this.photos.map((photo) => (photo.row ??= this.row(photo)));
      for (const row of [...this.list.children]) if (!rows.includes(row)) row.remove();
      rows.forEach((row, n) => this.list.children[n] !== row && this.list.insertBefore(row, this.list.children[n] ?? null)); // one that is typed in stays
    }

    row(photo) {
      const text = el("textarea", { rows: 2, "aria-label": _("Caption of {name}", { name: photo.name }), placeholder: _("Caption: what is in the photo"), oninput: () => this.write(photo, text.value) });
      text.value = photo.caption;
      const remove = () => {
        this.photos = this.photos.filter((other) => other !== photo);
        URL.revokeObjectURL(photo.url);
        this.show();
        this.keep();
      };
      return el(
        "div",
        { class: "ct-caption" },
        el("img", { class: "ct-thumb", src: photo.url, alt: photo.name }),
        text,
        el("button", { type: "button", class: "ct-plain", "aria-label": _("Remove {name}", { name: photo.name }), onclick: remove }, "✕"),
      );
    }

    write(photo, caption) {
      photo.caption = caption;
      this.keep();
    }

    /** The uploads of the photos, and those of their captions. */
    async refs() {
      const captions = this.photos.filter((photo) => photo.caption.trim());
      const texts = captions.map(async (photo) => {
        const name = `${stem(photo.name)}.txt`;
        return `${await upload(new File([photo.caption.trim()], name, { type: "text/plain" }))}/${name}`;
      });
      return [...this.photos.map((photo) => `${photo.id}/${photo.name}`), ...(await Promise.all(texts))];
    }
  },
);
