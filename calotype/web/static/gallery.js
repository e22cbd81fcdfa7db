// <ct-gallery>: pictures that were made, the newest first.

import { call, get, post, submit } from "./api.js";
import { openDialog } from "./compare.js";
import { el, guarded, toast } from "./dom.js";
import { hand } from "./hand.js";
import { isPicture, isTrial, jobTitle, kindTitle, openTab } from "./jobs.js";
import { watch } from "./live.js";
import { _ } from "./texts.js";
import { fileOf, upload } from "./upload.js";

const KINDS = ["restore", "upscale", "imagine"];
const PAGE = 24;

customElements.define(
  "ct-gallery",
  class extends HTMLElement {
    jobs = [];
    next = null;
    removed = new Set();

    connectedCallback() {
      this.build();
      this.stop = watch({
        open: () => this.read(),
        change: (job) => job.state === "done" && KINDS.includes(job.kind) && !this.jobs.some((other) => other.id === job.id) && this.read(),
      });
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
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
      this.more = el("button", { type: "button", hidden: true, onclick: () => this.readMore() }, _("Show older pictures"));
      this.empty = el("p", { class: "ct-empty", hidden: true }, _("No pictures yet. What you restore or draw appears here."));
      this.replaceChildren(el("div", { class: "ct-bar" }, this.text, this.kind, this.which, el("label", {}, _("from"), this.since), el("label", {}, _("to"), this.until)), this.empty, this.grid, el("div", { class: "ct-bar ct-foot" }, this.more));
    }

    query(after = null) {
      const day = (input, add) => new Date(`${input.value}T00:00`).getTime() / 1000 + add;
      const query = new URLSearchParams([["state", "done"], ["limit", String(PAGE)]]);
      for (const kind of this.kind.value ? [this.kind.value] : KINDS) query.append("kind", kind);
      if (this.text.value.trim()) query.set("text", this.text.value.trim());
      if (this.which.value === "favourite") query.set("favourite", "true");
      if (this.since.value) query.set("since", String(day(this.since, 0)));
      if (this.until.value) query.set("until", String(day(this.until, 86400)));
      if (after) query.set("after", after);
      return query;
    }

    async read() {
      try {
        if (this.which.value === "shared") await this.readShared();
        else {
          const page = await get(`/jobs?${this.query()}`);
          [this.jobs, this.next] = [page.jobs, page.next];
        }
        this.show();
      } catch (fault) {
        toast(fault.message);
      }
    }

    async readShared() {
      const ids = [...new Set((await get("/links")).map((link) => link.job))];
      const found = await Promise.all(ids.map((id) => get(`/jobs/${id}`).catch(() => null)));
      [this.jobs, this.next] = [found.filter(Boolean).sort((a, b) => b.created - a.created), null];
    }

    async readMore() {
      const page = await get(`/jobs?${this.query(this.next)}`);
      this.jobs.push(...page.jobs);
      this.next = page.next;
      this.show();
    }

    show() {
      const shown = this.jobs.filter((job) => !this.removed.has(job.id) && !isTrial(job));
      const cards = shown.flatMap((job) => job.results.filter(isPicture).map((result) => this.card(job, result)));
      this.grid.replaceChildren(...cards);
      this.empty.hidden = cards.length > 0;
      this.more.hidden = !this.next;
    }

    card(job, result) {
      const title = jobTitle(job);
      const source = job.kind !== "imagine" && job.preview ? job.preview : result.url;
      const star = el("button", { type: "button", class: "ct-plain", "aria-pressed": String(job.is_favourite), "aria-label": _("Favourite"), title: _("Favourite"), onclick: () => this.mark(job) }, job.is_favourite ? "★" : "☆");
      return el(
        "article",
        { class: "ct-card" },
        el("button", { type: "button", class: "ct-open", "aria-label": title, onclick: () => this.open(job, result) }, el("img", { src: source, alt: "", loading: "lazy", decoding: "async" })),
        el("div", { class: "ct-text" }, el("p", { title }, title), el("p", { class: "ct-soft" }, new Date(job.created * 1000).toLocaleDateString(document.documentElement.lang))),
        el("div", { class: "ct-bar" }, star, el("a", { class: "ct-button ct-plain", href: result.url, download: result.name, "aria-label": _("Download {name}", { name: result.name }) }, _("Download")), el("button", { type: "button", class: "ct-plain", "aria-label": _("Delete {name}", { name: title }), onclick: () => this.remove(job) }, _("Delete"))),
      );
    }

    mark(job) {
      guarded(async () => {
        Object.assign(job, await call(job.is_favourite ? "DELETE" : "PUT", `/jobs/${job.id}/favourite`));
        this.show();
      });
    }

    remove(job) {
      this.removed.add(job.id);
      this.show();
      toast(_("{name} is deleted", { name: jobTitle(job) }), {
        action: _("Undo"),
        run: () => {
          this.removed.delete(job.id);
          this.show();
        },
        done: () => call("DELETE", `/jobs/${job.id}`, undefined, { keepalive: true }).catch((fault) => toast(fault.message)),
      });
    }

    open(job, result) {
      const facts = { ...result.facts };
      for (const name of ["sha256", "sheet", "found"]) delete facts[name];
      const rows = [
        [_("Kind"), kindTitle(job.kind)],
        [_("Made"), new Date((job.finished ?? job.created) * 1000).toLocaleString(document.documentElement.lang)],
        ...Object.entries({ ...facts, ...job.task }).map(([name, value]) => [name.replaceAll("_", " "), typeof value === "object" ? JSON.stringify(value) : String(value)]),
        [_("File"), `${result.name} · ${(result.size / 2 ** 20).toFixed(1)} MiB`],
      ];
      const act = (label, run) => el("button", { type: "button", onclick: async () => guarded(run, dialog) }, label);
      const content = el(
        "div",
        {},
        el("img", { src: result.url, alt: jobTitle(job), style: "max-width:100%;max-height:64vh;display:block;margin:0 auto 16px" }),
        el("div", { class: "ct-bar" }, act(_("Restore it"), () => this.send("restore", "restore", result)), act(_("Enlarge it"), () => this.enlarge(result)), act(_("Use in Imagine"), () => this.send("imagine", "start", result)), act(_("Share by a link"), () => this.share(job, result)), el("a", { class: "ct-button", href: result.url, download: result.name }, _("Download"))),
        el("dl", {}, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
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
      await navigator.clipboard?.writeText(url).catch(() => null);
      toast(url, { action: _("Take back"), run: () => call("DELETE", `/links/${link.id}`), seconds: 20 });
      return false;
    }
  },
);
