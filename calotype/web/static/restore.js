// <ct-restore>: photos with their faces. A photo is the job that found its faces; its results are the jobs with that
// parent. All of it comes from the service, so that another tab, or this one after a restart, shows the same.

import { call, eachPage, get, gone, post, submit, untilAnswered } from "./api.js";
import { openDialog, openInvented } from "./compare.js";
import { correctDamage, markDamage } from "./damage.js";
import { el, guarded, keepFocus, listed, toast } from "./dom.js";
import { dropZone, takeFiles } from "./dropzone.js";
import { hand, takeFor } from "./hand.js";
import { downloadAll } from "./archive.js";
import { FINISHED, foundOf, inventedOf, isPicture, progressOf, stateText, uploadOf } from "./jobs.js";
import { watch } from "./live.js";
import { measured } from "./measures.js";
import { clearFaults, onOrder, showFault } from "./orders.js";
import { Photo, SHOWN_BY_BROWSER } from "./photo.js";
import * as removals from "./removals.js";
import { SourcesTab } from "./sources.js";
import { _ } from "./texts.js";
import { openTrials } from "./trials.js";
import { contentOf } from "./upload.js";

const PAGE = 20; // photos that are shown at first, and by each press of "older"

customElements.define(
  "ct-restore",
  class extends SourcesTab {
    kind = "restore";
    Item = Photo;
    first = { kind: "find_faces", task: { damaged_file: true } }; // what is left is shown; restoring asks for the option
    shown = PAGE; // photos
    lines = new Map(); // keys of photos: their elements
    extra = {}; // options that were chosen by comparing

    connectedCallback() {
      this.build();
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.showPlaces() });
      onOrder("restore", ({ dry_run: isPlan, ...task }) => (isPlan ? this.askPlans(task) : this.restore(task)));
      takeFor("restore", (file) => this.add([file]));
      addEventListener("pagehide", removals.leave);
      removals.work();
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
      removeEventListener("pagehide", removals.leave);
    }

    build() {
      const texts = { lead: _("Drop old photos here"), choose: _("Choose photos"), hint: _("Photos, folders or ZIP files. Nothing leaves your service.") };
      this.zone = dropZone(this, { ...texts, take: (transfer) => takeFiles(this, transfer) });
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.left = el("p", { class: "ct-soft", role: "status" });
      this.bar = el("div", { class: "ct-bar" });
      this.list = el("ul", { class: "ct-list" });
      this.more = el("button", { type: "button", hidden: true, onclick: () => this.showMore() });
      this.go = el("button", { type: "button", onclick: () => document.getElementById("restore-go").click() });
      const foot = el("div", { class: "ct-sticky" }, this.go); // of a phone, on which the form is below all photos
      this.replaceChildren(this.zone, this.notice, this.left, this.bar, this.list, el("div", { class: "ct-bar ct-foot" }, this.more), foot);
    }

    // From the service

    /** All photos and what restores them; the newest are shown before the older ones are read. */
    async read() {
      const lost = new Set(this.sources.map((photo) => photo.job?.id).filter(Boolean));
      const restored = [];
      const take = async (jobs) => {
        await all; // so that no photo looks as if it were not restored
        for (const job of jobs) {
          lost.delete(job.id);
          this.put(job);
        }
        for (const job of restored) this.place(job);
        this.showAll();
      };
      const all = eachPage("kind=restore", (jobs) => restored.push(...jobs));
      try {
        await Promise.all([all, eachPage("kind=find_faces", take)]);
        this.sources = this.sources.filter((photo) => !lost.has(photo.job?.id));
        this.showAll();
        if (this.notice.textContent === gone().message) this.notice.textContent = "";
      } catch (fault) {
        this.notice.textContent = fault.message; // it is read again when the service is back
      }
    }

    /** Puts a job that finds faces to its photo, or makes a photo of it, at its place by time. */
    put(job) {
      const photo = this.photoOf(job) ?? this.sources.find((other) => !other.job && other.upload === uploadOf(job).id);
      if (photo) return photo.take(job);
      if (job.parent || job.state === "cancelled" || removals.isRemoved(job.id)) return;
      const older = this.sources.findIndex((other) => other.job && other.job.created < job.created);
      this.sources.splice(older < 0 ? this.sources.length : older, 0, Photo.of(job));
    }

    showMore() {
      this.shown += PAGE;
      this.showAll();
    }

    photoOf(job) {
      return this.sources.find((photo) => photo.job?.id === (job.kind === "find_faces" ? job.id : job.parent));
    }

    /** Puts a job that restores to its photo; trials on a part of it have another upload. */
    place(job) {
      const photo = this.photoOf(job);
      if (photo && uploadOf(job).id === photo.upload) photo.results.set(job.id, job);
      return photo;
    }

    change(job) {
      if (job.kind === "restore") {
        const photo = this.place(job);
        if (photo) this.show(photo);
        this.showBar();
      } else if (job.kind === "find_faces" && !this.takePlan(job)) {
        const known = this.photoOf(job);
        this.put(job);
        if (!known) return this.showAll();
        this.show(known);
        this.showBar();
      }
    }

    forget(id) {
      for (const photo of this.sources) photo.results.delete(id);
      this.sources = this.sources.filter((photo) => photo.job?.id !== id);
      this.showAll();
    }

    /** Sends a file again that was refused, or looks for faces again. */
    async tryAgain(photo) {
      if (photo.file) return this.send(photo);
      photo.take(await post(`/jobs/${photo.job.id}/retry`));
      this.show(photo);
    }

    // Restoring

    async restore(task) {
      const chosen = this.chosen();
      if (!chosen.length) {
        const sentence = this.sources.length ? _("all photos are in the queue already") : _("drop a photo first");
        return showFault("restore", { message: sentence });
      }
      for (const photo of chosen) {
        const own = { ...task, ...this.extra, ...photo.task };
        const order = { kind: "restore", task: own, files: photo.files, parent: photo.job.id };
        try {
          this.place(await untilAnswered(() => submit(order), (fault) => clearFaults("restore") || showFault("restore", fault)));
        } catch (fault) {
          clearFaults("restore");
          return showFault("restore", fault);
        }
        photo.forgetChoices();
        this.sent(photo);
      }
      clearFaults("restore");
      this.showBar();
      toast(chosen.length === 1 ? _("1 photo is in the queue") : _("{count} photos are in the queue", { count: chosen.length }));
    }

    /** Shows a photo that a new job restores. */
    sent(photo) {
      photo.planned = photo.remeasured = null;
      photo.showsResult = true;
      this.show(photo);
    }

    /** Asks what restoring the photos with these options would do: a search for faces tells it. */
    async askPlans(task) {
      const chosen = this.chosen();
      if (!chosen.length) return showFault("restore", { message: _("drop a photo first") });
      const kinds = await get("/tasks");
      const { properties } = kinds.find(({ kind }) => kind === "find_faces").options;
      for (const photo of chosen) {
        const own = Object.entries({ ...task, ...this.extra, ...photo.task }).filter(([name]) => name in properties);
        try {
          await submit({ kind: "find_faces", task: Object.fromEntries(own), files: photo.files, parent: photo.job.id, priority: 5 });
        } catch (fault) {
          return showFault("restore", fault);
        }
        photo.planned = [_("The plan is being made")];
        this.show(photo);
      }
      this.lines.get(chosen[0].key)?.scrollIntoView({ block: "nearest" });
    }

    /** Takes a job that was asked for a plan; whether it is one. */
    takePlan(job) {
      if (!job.parent) return false;
      const photo = this.sources.find((other) => other.job?.id === job.parent);
      if (!FINISHED.includes(job.state)) return true;
      if (photo) {
        const facts = job.results[0]?.facts;
        photo.planned = job.error ? [job.error.detail] : (facts?.plan ?? null);
        photo.remeasured = facts?.measures ?? null;
        this.show(photo);
      }
      call("DELETE", `/jobs/${job.id}`).catch(() => null);
      return true;
    }

    // Showing

    showAll() {
      const isEmpty = !this.sources.length;
      const shown = this.sources.slice(0, this.shown);
      const older = this.sources.length - shown.length;
      this.zone.classList.toggle("is-small", !isEmpty);
      this.more.hidden = !older;
      this.more.textContent = _("Show older photos ({count})", { count: older });
      const lines = new Map(shown.map((photo) => [photo.key, this.lines.get(photo.key) ?? el("li", { class: "ct-card" })]));
      for (const [key, line] of this.lines) if (!lines.has(key)) line.remove();
      this.lines = lines;
      [...lines.values()].forEach((line, at) => this.list.children[at] !== line && this.list.insertBefore(line, this.list.children[at] ?? null));
      for (const photo of shown) this.show(photo);
      this.showBar();
    }

    /** The places of those that wait. */
    showPlaces() {
      const waits = (job) => job?.state === "queued";
      for (const photo of this.sources.slice(0, this.shown)) {
        if (waits(photo.job) || waits(photo.result)) this.showStatus(photo);
      }
    }

    showStatus(photo) {
      this.lines.get(photo.key)?.querySelector(".ct-status")?.replaceChildren(...this.status(photo));
    }

    showBar() {
      const done = this.sources.map((photo) => photo.done).filter(Boolean);
      const fresh = this.sources.filter((photo) => photo.isReady && !photo.result);
      const extra = Object.entries(this.extra).map(([name, value]) => {
        const title = name === "strength" ? _("Strength {value} for all", { value }) : _("Model {value} for all", { value });
        return el("button", { type: "button", title: _("Take this back"), onclick: () => this.setExtra({}) }, `${title} ×`);
      });
      const all = done.length > 1 && el("button", { type: "button", class: "ct-rest", onclick: () => guarded(() => downloadAll(done)) }, _("Download all {count} as ZIP", { count: done.length }));
      this.bar.replaceChildren(...extra, all || "");
      this.bar.hidden = !extra.length && !all;
      this.go.textContent = fresh.length > 1 ? _("Restore {count} photos", { count: fresh.length }) : _("Restore");
      this.go.parentElement.hidden = !this.sources.length;
    }

    setExtra(extra) {
      this.extra = extra;
      this.showBar();
    }

    show(photo) {
      const line = this.lines.get(photo.key);
      if (!line) return;
      const signature = JSON.stringify([
        [photo.job?.state, photo.picture, photo.fault, photo.share >= 1, [...photo.choices], photo.mask, photo.showsResult, photo.plan],
        [photo.result?.id, photo.result?.state, photo.done?.id],
      ]);
      if (line.dataset.signature !== signature) {
        line.dataset.signature = signature;
        keepFocus(line, () => line.replaceChildren(el("div", { class: "ct-photo" }, this.picture(photo), this.side(photo))));
      }
      this.showStatus(photo);
    }

    picture(photo) {
      const { done } = photo;
      if (done?.preview && photo.showsResult && photo.picture) {
        return el("ct-compare", { before: photo.picture, after: done.preview });
      }
      const box = el("div", { class: "ct-picture" });
      if (!photo.picture) return box;
      const image = el("img", { src: photo.picture, alt: photo.name, loading: "lazy", decoding: "async", onerror: () => image.remove() });
      const sheet = el("div", { class: "ct-sheet" }, image);
      const frame = el("div", { class: "ct-frame" });
      for (const face of photo.faces) {
        const choice = photo.choices.get(face.number);
        const [x, y, width, height] = face.box;
        const button = el(
          "button",
          {
            type: "button",
            class: "ct-face",
            "aria-pressed": String(choice.isOn),
            "aria-label": _("Face {number}: restore", { number: face.number }),
            "data-key": `face-${face.number}`,
            onclick: () => this.choose(photo, face, { isOn: !choice.isOn }),
          },
          el("span", {}, String(face.number)),
        );
        const share = (value, whole) => `${(100 * value) / whole}%`;
        Object.assign(button.style, {
          left: share(x, photo.facts.width),
          top: share(y, photo.facts.height),
          width: share(width, photo.facts.width),
          height: share(height, photo.facts.height),
        });
        frame.append(button);
      }
      sheet.append(frame);
      box.append(sheet);
      return box;
    }

    choose(photo, face, change) {
      photo.choose(face, change);
      this.show(photo);
    }

    side(photo) {
      const { done } = photo;
      const faces = photo.faces.map((face) => {
        const choice = photo.choices.get(face.number);
        const title = [_("Face {number}", { number: face.number }), !choice.isOn && face.why].filter(Boolean).join(": ");
        const box = el("input", {
          type: "checkbox",
          checked: choice.isOn,
          "aria-label": _("Restore face {number}", { number: face.number }),
          "data-key": `on-${face.number}`,
          onchange: (event) => this.choose(photo, face, { isOn: event.target.checked }),
        });
        const range = el("input", {
          type: "range",
          min: "0.05",
          max: "1",
          step: "0.05",
          disabled: !choice.isOn,
          "aria-label": _("Strength of face {number}", { number: face.number }),
          "data-key": `strength-${face.number}`,
          onchange: (event) => this.choose(photo, face, { strength: Number(event.target.value) }),
        });
        range.value = String(choice.strength ?? 1);
        return el("label", {}, box, el("span", {}, title), range);
      });
      const picture = done?.results.find(isPicture);
      const [invented, found] = [inventedOf(done), foundOf(done)];
      const said = photo.showsResult ? (picture?.facts.notes ?? []) : [];
      const isScan = photo.measures.some((measure) => measure.name === "photos" && measure.is_beyond);
      const isFailed = photo.fault || photo.job?.state === "failed";
      const buttons = [
        isFailed && el("button", { type: "button", onclick: () => guarded(() => this.tryAgain(photo)) }, _("Try again")),
        photo.isReady && !photo.isBusy && el("button", { type: "button", onclick: () => this.orderOne(photo) }, done ? _("Restore again") : _("Restore this photo")),
        picture && el("button", { type: "button", onclick: () => guarded(() => this.openFull(photo, picture)) }, _("Before and after")),
        picture && el("a", { class: "ct-button", href: picture.url, download: picture.name }, _("Download")),
        invented && el("button", { type: "button", class: "ct-plain", onclick: () => openInvented(photo.name, invented) }, _("What was invented")),
        found && !photo.isBusy && el("button", { type: "button", class: "ct-plain", onclick: () => guarded(() => this.correctDamage(photo)) }, _("Correct the damage found")),
        photo.facts && el("button", { type: "button", class: "ct-plain", onclick: () => openTrials(photo, (extra) => this.setExtra(extra)) }, _("Try strengths")),
        photo.facts && el("button", { type: "button", class: "ct-plain", onclick: () => guarded(() => this.markDamage(photo)) }, _("Mark damage")),
        isScan && el("button", { type: "button", class: "ct-plain", onclick: () => this.hand(photo, "split") }, _("Cut out its photos")),
        photo.isReady && el("button", { type: "button", class: "ct-plain", onclick: () => this.hand(photo, "colour") }, _("Colour it")),
        done && el("button", { type: "button", class: "ct-plain", onclick: () => this.turn(photo) }, photo.showsResult ? _("Show the photo") : _("Show the result")),
        el("button", { type: "button", class: "ct-plain", onclick: () => this.remove(photo) }, _("Remove")),
      ];
      return el(
        "div",
        {},
        el("p", { class: "ct-name" }, photo.name),
        el("p", { class: "ct-soft" }, this.summary(photo)),
        photo.plan.length > 0 && (!photo.result || photo.planned) && listed(photo.plan, "ct-soft"),
        said.length > 0 && listed(said, "ct-soft"),
        this.measures(photo, picture),
        el("div", { class: "ct-faces" }, faces),
        photo.mask && el("button", { type: "button", class: "ct-plain", title: _("Take this back"), onclick: () => this.mark(photo, null) }, `${_("Damage: {name}", { name: photo.mask.split("/")[1] ?? "mask.png" })} ×`),
        el("div", { class: "ct-status", "aria-live": "polite" }),
        el("div", { class: "ct-bar" }, buttons),
      );
    }

    /** Those of the result where there is one, else those of the photo. */
    measures(photo, picture) {
      const isDone = photo.result && !photo.planned;
      return measured(isDone ? picture?.facts.measures : photo.measures);
    }

    turn(photo) {
      photo.showsResult = !photo.showsResult;
      this.show(photo);
    }

    summary(photo) {
      if (!photo.facts) return "";
      const { width, height, found } = photo.facts;
      const size = `${width} × ${height}`;
      const on = found.filter((face) => photo.choices.get(face.number).isOn).length;
      if (!found.length) return `${size} · ${_("no faces; the whole picture is enlarged")}`;
      return `${size} · ${_("faces to restore: {on} of {count}; the rest is enlarged", { on, count: found.length })}`;
    }

    status(photo) {
      const fault = (text) => [el("p", { class: "ct-fault", role: "alert" }, text)];
      if (photo.fault) return fault(photo.fault);
      if (photo.isWaiting) return fault(gone().message);
      if (!photo.job) return [el("p", { class: "ct-soft" }, _("Sending · {percent} %", { percent: Math.floor(100 * photo.share) }))];
      if (photo.job.state === "failed") return fault(photo.job.error.detail);
      const { result } = photo;
      if (photo.isBusy) return [progressOf(result)];
      if (result?.state === "failed") return fault(result.error.detail);
      if (photo.job.state !== "done") return [el("p", { class: "ct-soft" }, `${_("Looking for faces")} · ${stateText(photo.job)}`)];
      return [];
    }

    async markDamage(photo) {
      await markDamage(photo, (mask) => this.mark(photo, mask));
    }

    /** Corrects the damage found in the restored photo. */
    async correctDamage(photo) {
      await correctDamage(photo.done, (job) => {
        this.place(job);
        photo.forgetMask();
        this.sent(photo);
        this.showBar();
      });
    }

    mark(photo, mask) {
      photo.mark(mask);
      this.show(photo);
    }

    /** Hands the photo to another tab. */
    hand(photo, tab) {
      return guarded(async () => hand(tab, tab, new File([await contentOf(`/uploads/${photo.upload}`)], photo.name)));
    }

    async openFull(photo, picture) {
      if (SHOWN_BY_BROWSER.test(photo.name) && !photo.url) {
        // downloads are never shown by the browser as pages
        photo.url = URL.createObjectURL(await contentOf(`/uploads/${photo.upload}`));
      }
      openDialog(photo.name, el("ct-compare", { before: photo.whole, after: picture.url, sizes: "" }));
    }
  },
);
