// <ct-gallery>: pictures that were made, the newest first.

import { call, get, post, submit } from "./api.js";
import { openDialog, openInvented } from "./compare.js";
import { correctDamage } from "./damage.js";
import { deleteWithUndo, isDeleted, picturesOf, watchDeletions } from "./deletion.js";
import { el, guarded, keepFocus, listed, toast } from "./dom.js";
import { hand } from "./hand.js";
import { asMany, foundOf, inventedOf, isExplaining, isPicture, isTrial, jobTitle, joined, kindTitle, openTab, smallOf } from "./jobs.js";
import { watch } from "./live.js";
import { measured } from "./measures.js";
import { SHOWN_BY_BROWSER } from "./photo.js";
import { _, duration } from "./texts.js";
import { fileOf, upload } from "./upload.js";

const KINDS = ["restore", "upscale", "split", "colour", "imagine"];
const PAGE = 24;

const dayOf = (seconds) => new Date(seconds * 1000).toLocaleDateString(document.documentElement.lang);

const known = new Map(); // kind of task: titles and defaults of its options, in the language of the page

async function optionsOf(kind) {
  if (!known.has(kind)) {
    const task = await get(`/tasks/${kind}`).catch(() => null);
    if (!task) return {};
    known.set(kind, task.options.properties);
  }
  return known.get(kind);
}

const sizeOf = (bytes) => (bytes < 2 ** 20 ? `${Math.max(1, Math.round(bytes / 2 ** 10))} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`);

/** What is known of a picture: pairs of a title and a text. */
function recordOf(job, result, options) {
  const { width, height, seconds, faces, seed, notes, measures } = result.facts;
  const task = { ...("model" in options ? { model: options.model.default } : {}), ...job.task, ...(seed === undefined ? {} : { seed }) };
  const written = (value) => (typeof value === "boolean" ? (value ? _("switched on") : _("switched off")) : typeof value === "object" ? JSON.stringify(value) : String(value));
  return [
    [_("Kind"), kindTitle(job.kind)],
    [_("Made"), new Date((job.finished ?? job.created) * 1000).toLocaleString(document.documentElement.lang)],
    width && [_("Width and height"), `${width} × ${height}`],
    faces !== undefined && [_("Faces found"), String(faces)],
    ...Object.entries(task).map(([name, value]) => [options[name]?.title ?? name.replaceAll("_", " "), written(value)]),
    seconds && [_("Took"), duration(seconds)],
    notes && [_("Notes"), listed(notes)],
    measures?.length && [_("Measures"), measured(measures)],
    [_("File"), `${result.name} · ${sizeOf(result.size)}`],
  ].filter(Boolean);
}

customElements.define(
  "ct-gallery",
  class extends HTMLElement {
    jobs = [];
    next = null;

    connectedCallback() {
      this.build();
      this.stop = watch({
        open: () => this.read(asMany(this.jobs, PAGE)),
        change: (job) => this.change(job),
        gone: (id) => {
          this.jobs = this.jobs.filter((job) => job.id !== id);
          this.show();
        },
      });
      this.stopDeletions = watchDeletions(() => this.show());
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      this.stopDeletions?.();
    }

    build() {
      let timer = 0;
      const soon = () => {
        clearTimeout(timer);
        timer = setTimeout(() => this.read(), 300);
      };
      const option = ([value, title]) => el("option", { value }, title);
      this.text = el("input", { type: "search", placeholder: _("Prompt, model or file"), "aria-label": _("Search"), oninput: soon });
      this.kind = el("select", { "aria-label": _("Kind"), onchange: soon }, [["", _("All kinds")], ...KINDS.map((kind) => [kind, kindTitle(kind)])].map(option));
      this.which = el("select", { "aria-label": _("Which"), onchange: soon }, [["", _("All")], ["favourite", _("Favourites")], ["shared", _("Shared")]].map(option));
      this.since = el("input", { type: "date", "aria-label": _("From day"), onchange: soon });
      this.until = el("input", { type: "date", "aria-label": _("To day"), onchange: soon });
      this.grid = el("div", { class: "ct-grid" });
      this.more = el("button", { type: "button", hidden: true, onclick: () => guarded(() => this.readMore()) }, _("Show older pictures"));
      this.empty = el("p", { class: "ct-empty", hidden: true });
      this.replaceChildren(el("div", { class: "ct-bar" }, this.text, this.kind, this.which, el("label", {}, _("from"), this.since), el("label", {}, _("to"), this.until)), this.empty, this.grid, el("div", { class: "ct-bar ct-foot" }, this.more));
    }

    query(limit = PAGE, after = null) {
      const day = (input, add) => new Date(`${input.value}T00:00`).getTime() / 1000 + add;
      const query = new URLSearchParams([["state", "done"], ["limit", String(limit)]]);
      for (const kind of this.kind.value ? [this.kind.value] : KINDS) query.append("kind", kind);
      if (this.text.value.trim()) query.set("text", this.text.value.trim());
      if (this.which.value === "favourite") query.set("favourite", "true");
      if (this.since.value) query.set("since", String(day(this.since, 0)));
      if (this.until.value) query.set("until", String(day(this.until, 86400)));
      if (after) query.set("after", after);
      return query;
    }

    async read(limit = PAGE) {
      try {
        if (this.which.value === "shared") await this.readLinks();
        else {
          this.links = null;
          const page = await get(`/jobs?${this.query(limit)}`);
          [this.jobs, this.next] = [page.jobs, page.next];
        }
        this.show();
      } catch (fault) {
        toast(fault.message);
      }
    }

    /** One's own public links, with the jobs that they are of. */
    async readLinks() {
      const links = await get("/links");
      const ids = [...new Set(links.map((link) => link.job))];
      const jobs = new Map((await Promise.all(ids.map((id) => get(`/jobs/${id}`).catch(() => null)))).filter(Boolean).map((job) => [job.id, job]));
      [this.links, this.next] = [links.map((link) => ({ ...link, job: jobs.get(link.job) ?? null })), null];
    }

    change(job) {
      if (job.state !== "done" || !KINDS.includes(job.kind)) return;
      const at = this.jobs.findIndex((other) => other.id === job.id);
      if (at < 0) return this.read(asMany(this.jobs, PAGE));
      this.jobs[at] = job;
      this.show();
    }

    async readMore() {
      const page = await get(`/jobs?${this.query(PAGE, this.next)}`);
      this.jobs = joined(this.jobs, page.jobs);
      this.next = page.next;
      this.show();
    }

    isSearch() {
      return Boolean(this.text.value.trim() || this.kind.value || this.which.value || this.since.value || this.until.value);
    }

    show() {
      const shown = this.jobs.filter((job) => !isDeleted(job.id) && !isTrial(job));
      const cards = this.links ? this.links.map((link) => this.linkCard(link)) : shown.flatMap((job) => picturesOf(job).map((result) => this.card(job, result)));
      keepFocus(this.grid, () => this.grid.replaceChildren(...cards));
      const none = this.isSearch() ? _("Nothing fits what you look for.") : _("No pictures yet. What you restore or draw appears here.");
      this.empty.textContent = this.links ? _("Nothing of yours is public. Open a picture and share it by a link.") : none;
      this.empty.hidden = cards.length > 0;
      this.more.hidden = !this.next;
    }

    card(job, result) {
      const title = jobTitle(job);
      const star = el("button", { type: "button", class: "ct-plain", "aria-pressed": String(job.is_favourite), "aria-label": _("Favourite"), title: _("Favourite"), "data-key": "favourite", onclick: () => this.mark(job) }, job.is_favourite ? "★" : "☆");
      return el(
        "article",
        { class: "ct-card", "data-job": result.id },
        el("button", { type: "button", class: "ct-open", "data-key": "open", "aria-label": title, onclick: () => guarded(() => this.open(job, result)) }, el("img", { src: smallOf(job, result), alt: "", loading: "lazy", decoding: "async" })),
        el("div", { class: "ct-text" }, el("p", { title }, title), el("p", { class: "ct-soft" }, dayOf(job.created))),
        el("div", { class: "ct-bar" }, star, el("a", { class: "ct-button ct-plain", href: result.url, download: result.name, "aria-label": _("Download {name}", { name: result.name }) }, _("Download")), el("button", { type: "button", class: "ct-plain", "data-key": "delete", "aria-label": _("Delete {name}", { name: title }), onclick: () => deleteWithUndo(result.id, this.addressOf(job, result), title) }, _("Delete"))),
      );
    }

    /** What is deleted with a picture: its job, where what is left would only explain it. */
    addressOf(job, result) {
      return job.results.some(isExplaining) && job.results.filter(isPicture).length === 1 ? `/jobs/${job.id}` : result.url;
    }

    /** A public link: its picture is a copy, which stays when the one it is of is deleted. */
    linkCard(link) {
      const title = link.job ? jobTitle(link.job) : _("The picture was deleted; its public copy is still there");
      return el(
        "article",
        { class: "ct-card", "data-link": link.id },
        el("img", { src: `/links/${link.id}`, alt: title, loading: "lazy", decoding: "async" }),
        el("div", { class: "ct-text" }, el("p", { title }, title), el("p", { class: "ct-soft" }, _("public since {day}", { day: dayOf(link.created) }))),
        el("div", { class: "ct-bar" }, el("button", { type: "button", class: "ct-plain", "aria-label": _("Take back the link to {name}", { name: title }), onclick: () => this.takeBack(link) }, _("Take back"))),
      );
    }

    takeBack(link) {
      guarded(async () => {
        await call("DELETE", `/links/${link.id}`);
        if (this.links) await this.read();
        toast(_("The link leads nowhere now"));
      });
    }

    mark(job) {
      guarded(async () => {
        Object.assign(job, await call(job.is_favourite ? "DELETE" : "PUT", `/jobs/${job.id}/favourite`));
        this.show();
      });
    }

    async open(job, result) {
      const options = await optionsOf(job.kind);
      const act = (label, run) => el("button", { type: "button", onclick: () => guarded(run, dialog) }, label);
      const content = el(
        "div",
        {},
        el("img", { src: SHOWN_BY_BROWSER.test(result.name) ? result.url : smallOf(job, result), alt: jobTitle(job), style: "max-width:100%;max-height:64vh;display:block;margin:0 auto 16px" }),
        el("div", { class: "ct-bar" }, act(_("Restore it"), () => this.send("restore", "restore", result)), act(_("Enlarge it"), () => this.enlarge(result)), act(_("Use in Imagine"), () => this.send("imagine", "start", result)), act(_("Share by a link"), () => this.share(job, result)), inventedOf(job) && act(_("What was invented"), () => openInvented(jobTitle(job), inventedOf(job)) && false), foundOf(job) && act(_("Correct the damage found"), () => correctDamage(job).then(() => false)), el("a", { class: "ct-button", href: result.url, download: result.name }, _("Download"))),
        el("dl", {}, recordOf(job, result, options).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
      );
      const dialog = openDialog(jobTitle(job), content);
    }

    async send(tab, place, result) {
      hand(tab, place, await fileOf(result));
    }

    async enlarge(result) {
      const file = await fileOf(result);
      const id = await upload(file);
      await submit({ kind: "upscale", files: { source: `${id}/${file.name}` } });
      openTab("queue");
    }

    async share(job, result) {
      const link = await post("/links", { job: job.id, result: result.id });
      const url = new URL(link.url, location.href).href;
      const isCopied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
      toast(isCopied ? _("Copied: {url}", { url }) : url, { action: _("Take back"), run: () => this.takeBack(link), seconds: 20 });
      if (this.links) await this.read();
      return false;
    }
  },
);
