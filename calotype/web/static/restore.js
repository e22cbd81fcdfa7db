// <ct-restore>: photos with their faces. A photo is the job that found its faces; its results are the jobs with that
// parent. All of it comes from the service, so that another tab, or this one after a restart, shows the same.

import { call, get, submit } from "./api.js";
import { openDialog } from "./compare.js";
import { el, keepFocus, toast } from "./dom.js";
import { takeFor } from "./hand.js";
import { FINISHED, isPicture, progressOf, stateText, uploadOf } from "./jobs.js";
import { watch } from "./live.js";
import { onOrder, showFault } from "./orders.js";
import { _ } from "./texts.js";
import { filesOf, safeName, upload } from "./upload.js";

const PAGE = 20;
const SHOWN_BY_BROWSER = /\.(jpe?g|png|webp|gif|avif|bmp)$/i;
const STRENGTHS = ["0.4", "0.7", "1"];

class Photo {
  constructor(name) {
    this.name = name;
    this.key = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.job = null; // which finds the faces
    this.upload = "";
    this.share = 0; // of the file that is sent
    this.fault = "";
    this.url = ""; // of the file in this browser
    this.results = new Map(); // jobs that restore it
    this.choices = new Map(); // number of a face: {isOn, strength}
    this.showsResult = true;
  }

  static of(job) {
    const photo = new Photo(uploadOf(job).name);
    photo.take(job);
    return photo;
  }

  take(job) {
    this.job = job;
    this.upload = uploadOf(job).id;
    for (const face of this.faces) {
      if (!this.choices.has(face.number)) this.choices.set(face.number, { isOn: true, strength: 1 });
    }
  }

  get facts() {
    return this.job?.results[0]?.facts ?? null;
  }

  get faces() {
    return this.facts?.found ?? [];
  }

  /** The small picture: the worker's, or while there is none, the file itself. */
  get picture() {
    return this.job?.results[0]?.url ?? (SHOWN_BY_BROWSER.test(this.name) ? this.url : "");
  }

  /** The whole photo as the browser shows it. */
  get whole() {
    return SHOWN_BY_BROWSER.test(this.name) && this.url ? this.url : this.picture;
  }

  /** The latest job that restores it. */
  get result() {
    return [...this.results.values()].sort((a, b) => b.created - a.created)[0] ?? null;
  }

  /** The latest one that is done. */
  get restored() {
    const done = [...this.results.values()].filter((job) => job.state === "done" && job.results.some(isPicture));
    return done.sort((a, b) => b.created - a.created)[0] ?? null;
  }

  get isReady() {
    return this.job !== null && !(this.job.state === "failed");
  }

  /** The options of the task that stand for the choice of faces. */
  get task() {
    const chosen = this.faces.filter((face) => this.choices.get(face.number).isOn);
    if (!this.faces.length) return {};
    if (!chosen.length) return { faces: "none" };
    const weaker = chosen.filter((face) => this.choices.get(face.number).strength < 1);
    const strengths = weaker.map((face) => `${face.number}=${this.choices.get(face.number).strength}`);
    const task = chosen.length < this.faces.length ? { faces: chosen.map((face) => face.number).join(",") } : {};
    return strengths.length ? { ...task, strength: ["1", ...strengths].join(",") } : task;
  }
}

customElements.define(
  "ct-restore",
  class extends HTMLElement {
    photos = []; // the newest first
    next = null; // of the next page
    extra = {}; // options that were chosen by comparing
    only = null; // the photo whose own button was pressed

    connectedCallback() {
      this.build();
      this.stop = watch({ open: () => this.read(), change: (job) => this.change(job), gone: (id) => this.forget(id), moved: () => this.showAll() });
      onOrder("restore", (task) => this.restore(task));
      takeFor("restore", (file) => this.add([file]));
      this.read();
    }

    disconnectedCallback() {
      this.stop?.();
    }

    build() {
      const input = (more) => el("input", { type: "file", multiple: true, hidden: true, onchange: (event) => this.drop(event.target), ...more });
      const files = input({ accept: "image/*,.zip,.heic,.tif,.tiff,.jxl,.pdf" });
      const folder = input({ webkitdirectory: true });
      const pick = (label, target, extra = {}) => el("button", { type: "button", onclick: () => target.click(), ...extra }, label);
      this.zone = el(
        "div",
        { class: "ct-drop" },
        el("p", { class: "ct-lead" }, _("Drop old photos here")),
        el("div", { class: "ct-bar" }, pick(_("Choose photos"), files), pick(_("Choose a folder"), folder)),
        el("p", { class: "ct-soft" }, _("Photos, folders or ZIP files. Nothing leaves your service.")),
        files,
        folder,
      );
      this.notice = el("p", { class: "ct-fault", role: "alert" });
      this.bar = el("div", { class: "ct-bar" });
      this.list = el("ul", { class: "ct-list" });
      this.more = el("button", { type: "button", hidden: true, onclick: () => this.readMore() }, _("Show older photos"));
      this.replaceChildren(this.zone, this.notice, this.bar, this.list, this.more);
      const over = (isOver) => (event) => {
        event.preventDefault();
        this.zone.classList.toggle("is-over", isOver);
      };
      this.addEventListener("dragover", over(true));
      this.addEventListener("dragleave", over(false));
      this.addEventListener("drop", (event) => {
        over(false)(event);
        this.drop(event.dataTransfer);
      });
    }

    // From the service

    async read() {
      try {
        const [found, restored] = await Promise.all([
          get(`/jobs?kind=find_faces&limit=${PAGE}`),
          get("/jobs?kind=restore&limit=200"),
        ]);
        const known = new Map(this.photos.filter((photo) => photo.job).map((photo) => [photo.job.id, photo]));
        const sending = this.photos.filter((photo) => !photo.job);
        const read = found.jobs.filter((job) => job.state !== "cancelled").map((job) => known.get(job.id) ?? Photo.of(job));
        for (const job of found.jobs) known.get(job.id)?.take(job);
        this.photos = [...sending, ...read];
        this.next = found.next;
        for (const job of restored.jobs) this.place(job);
        this.showAll(true);
      } catch (fault) {
        this.notice.textContent = fault.message;
      }
    }

    async readMore() {
      const page = await get(`/jobs?kind=find_faces&limit=${PAGE}&after=${this.next}`);
      this.photos.push(...page.jobs.map((job) => Photo.of(job)));
      this.next = page.next;
      const restored = await get("/jobs?kind=restore&limit=200");
      for (const job of restored.jobs) this.place(job);
      this.showAll(true);
    }

    photoOf(job) {
      return this.photos.find((photo) => photo.job?.id === (job.kind === "find_faces" ? job.id : job.parent));
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
      } else if (job.kind === "find_faces") {
        const photo = this.photoOf(job);
        if (photo) photo.take(job);
        else if (job.state !== "cancelled") {
          const sending = this.photos.find((other) => !other.job && other.upload === uploadOf(job).id);
          if (sending) sending.take(job);
          else this.photos.unshift(Photo.of(job));
        }
        this.showAll();
      }
    }

    forget(id) {
      for (const photo of this.photos) photo.results.delete(id);
      this.photos = this.photos.filter((photo) => photo.job?.id !== id);
      this.showAll();
    }

    // Files

    async drop(transfer) {
      this.notice.textContent = "";
      try {
        this.add(await filesOf(transfer));
      } catch (fault) {
        this.notice.textContent = fault.message;
      }
      if (transfer.value) transfer.value = "";
    }

    add(files) {
      const photos = files.map((file) => {
        const photo = new Photo(safeName(file.name));
        photo.url = URL.createObjectURL(file);
        return { photo, file };
      });
      this.photos.unshift(...photos.map(({ photo }) => photo));
      this.showAll();
      for (const { photo, file } of photos) this.send(photo, file);
    }

    async send(photo, file) {
      try {
        photo.upload = await upload(file, (share) => {
          photo.share = share;
          this.show(photo);
        });
        const same = this.photos.find((other) => other !== photo && other.upload === photo.upload && other.job);
        if (same) {
          same.url ||= photo.url;
          this.photos = [same, ...this.photos.filter((other) => other !== photo && other !== same)];
          toast(_("{name} is here already", { name: photo.name }));
          return this.showAll();
        }
        const job = await submit({ kind: "find_faces", files: { source: `${photo.upload}/${photo.name}` }, priority: 5 });
        photo.take(job);
        this.photos = this.photos.filter((other) => other === photo || other.job?.id !== job.id);
      } catch (fault) {
        photo.fault = fault.message;
      }
      this.showAll();
    }

    // Restoring

    async restore(task) {
      const only = this.only;
      this.only = null;
      const ready = this.photos.filter((photo) => photo.isReady);
      const isBusy = (photo) => photo.result && !FINISHED.includes(photo.result.state);
      const fresh = ready.filter((photo) => !photo.restored && !isBusy(photo));
      const chosen = only ? [only] : fresh.length ? fresh : ready.filter((photo) => !isBusy(photo));
      if (!chosen.length) {
        const sentence = this.photos.length ? _("all photos are in the queue already") : _("drop a photo first");
        return showFault("restore", { message: sentence });
      }
      for (const photo of chosen) {
        const own = { ...task, ...this.extra, ...photo.task };
        const files = { source: `${photo.upload}/${photo.name}` };
        try {
          this.place(await submit({ kind: "restore", task: own, files, parent: photo.job.id }));
          photo.showsResult = true;
          this.show(photo);
        } catch (fault) {
          return showFault("restore", fault);
        }
      }
      this.showBar();
      toast(chosen.length === 1 ? _("1 photo is in the queue") : _("{count} photos are in the queue", { count: chosen.length }));
    }

    remove(photo) {
      const at = this.photos.indexOf(photo);
      this.photos.splice(at, 1);
      this.showAll();
      toast(_("{name} is removed with its results", { name: photo.name }), {
        action: _("Undo"),
        run: () => {
          this.photos.splice(at, 0, photo);
          this.showAll();
        },
        done: async () => {
          const drop = (path) => call("DELETE", path, undefined, { keepalive: true }).catch(() => null);
          for (const job of [...photo.results.values(), photo.job].filter(Boolean)) {
            if (!FINISHED.includes(job.state)) await call("POST", `/jobs/${job.id}/cancel`, undefined, { keepalive: true }).catch(() => null);
            await drop(`/jobs/${job.id}`);
          }
          if (photo.upload) await drop(`/uploads/${photo.upload}`);
        },
      });
    }

    // Showing

    showAll() {
      const isEmpty = !this.photos.length;
      this.zone.classList.toggle("is-small", !isEmpty);
      this.more.hidden = !this.next;
      const lines = new Map([...this.list.children].map((line) => [line.dataset.key, line]));
      const wanted = this.photos.map((photo) => lines.get(photo.key) ?? el("li", { class: "ct-card", "data-key": photo.key }));
      wanted.forEach((line, at) => this.list.children[at] !== line && this.list.insertBefore(line, this.list.children[at] ?? null));
      for (const line of [...this.list.children].slice(wanted.length)) line.remove();
      for (const photo of this.photos) this.show(photo);
      this.showBar();
    }

    showBar() {
      const done = this.photos.map((photo) => photo.restored).filter(Boolean);
      const query = done.map((job) => `job=${job.id}`).join("&");
      const extra = Object.entries(this.extra).map(([name, value]) => {
        const title = name === "strength" ? _("Strength {value} for all", { value }) : _("Model {value} for all", { value });
        return el("button", { type: "button", title: _("Take this back"), onclick: () => this.setExtra({}) }, `${title} ×`);
      });
      const all = done.length > 1 && el("a", { class: "ct-button ct-rest", href: `/archive?${query}`, download: "calotype.zip" }, _("Download all {count} as ZIP", { count: done.length }));
      this.bar.replaceChildren(...extra, all || "");
      this.bar.hidden = !extra.length && !all;
    }

    setExtra(extra) {
      this.extra = extra;
      this.showBar();
    }

    show(photo) {
      const line = this.list.querySelector(`[data-key="${photo.key}"]`);
      if (!line) return;
      const signature = JSON.stringify([
        [photo.job?.state, photo.picture, photo.fault, photo.share >= 1, [...photo.choices], photo.showsResult],
        [photo.result?.id, photo.result?.state, photo.restored?.id],
      ]);
      if (line.dataset.signature !== signature) {
        line.dataset.signature = signature;
        keepFocus(line, () => line.replaceChildren(el("div", { class: "ct-photo" }, this.picture(photo), this.side(photo))));
      }
      line.querySelector(".ct-status").replaceChildren(...this.status(photo));
    }

    picture(photo) {
      const { restored } = photo;
      if (restored?.preview && photo.showsResult && photo.picture) {
        return el("ct-compare", { before: photo.picture, after: restored.preview });
      }
      const box = el("div", { class: "ct-picture" });
      if (!photo.picture) return box;
      const sheet = el("div", { class: "ct-sheet" }, el("img", { src: photo.picture, alt: photo.name, loading: "lazy", decoding: "async" }));
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
      photo.choices.set(face.number, { ...photo.choices.get(face.number), ...change });
      photo.showsResult = false;
      this.show(photo);
    }

    side(photo) {
      const { restored } = photo;
      const faces = photo.faces.map((face) => {
        const choice = photo.choices.get(face.number);
        const title = _("Face {number}", { number: face.number });
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
        range.value = String(choice.strength);
        return el("label", {}, box, el("span", {}, title), range);
      });
      const picture = restored?.results.find(isPicture);
      const buttons = [
        photo.isReady && el("button", { type: "button", onclick: () => this.restoreOne(photo) }, restored ? _("Restore again") : _("Restore this photo")),
        picture && el("button", { type: "button", onclick: () => this.openFull(photo, picture) }, _("Before and after")),
        picture && el("a", { class: "ct-button", href: picture.url, download: picture.name }, _("Download")),
        photo.facts && el("button", { type: "button", class: "ct-plain", onclick: () => this.compare(photo) }, _("Try strengths")),
        restored && el("button", { type: "button", class: "ct-plain", onclick: () => this.turn(photo) }, photo.showsResult ? _("Show the photo") : _("Show the result")),
        el("button", { type: "button", class: "ct-plain", onclick: () => this.remove(photo) }, _("Remove")),
      ];
      return el(
        "div",
        {},
        el("p", { class: "ct-name" }, photo.name),
        el("p", { class: "ct-soft" }, this.summary(photo)),
        el("div", { class: "ct-faces" }, faces),
        el("div", { class: "ct-status", "aria-live": "polite" }),
        el("div", { class: "ct-bar" }, buttons),
      );
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
      if (photo.fault) return [el("p", { class: "ct-fault", role: "alert" }, photo.fault)];
      if (!photo.job) return [el("p", { class: "ct-soft" }, _("Sending · {percent} %", { percent: Math.floor(100 * photo.share) }))];
      if (photo.job.state === "failed") return [el("p", { class: "ct-fault", role: "alert" }, photo.job.error.detail)];
      const { result } = photo;
      if (result && !FINISHED.includes(result.state)) return [progressOf(result)];
      if (result?.state === "failed") return [el("p", { class: "ct-fault", role: "alert" }, result.error.detail)];
      if (photo.job.state !== "done") return [el("p", { class: "ct-soft" }, `${_("Looking for faces")} · ${stateText(photo.job)}`)];
      return [];
    }

    restoreOne(photo) {
      this.only = photo;
      document.getElementById("restore-go").click();
    }

    async openFull(photo, picture) {
      if (SHOWN_BY_BROWSER.test(photo.name) && !photo.url) {
        const file = await fetch(`/uploads/${photo.upload}`); // downloads are never shown by the browser as pages
        photo.url = URL.createObjectURL(await file.blob());
      }
      openDialog(photo.name, el("ct-compare", { before: photo.whole, after: picture.url, sizes: "" }));
    }

    // Trials on a part of the photo

    async compare(photo) {
      const trials = [];
      const places = [...photo.faces.map((face) => [face.number, _("Face {number}", { number: face.number })]), [0, _("Middle")]];
      const where = el("select", { "aria-label": _("Part of the photo") }, places.map(([value, title]) => el("option", { value: String(value) }, title)));
      const what = el("select", { "aria-label": _("What to compare") }, el("option", { value: "strength" }, _("Strengths")), el("option", { value: "face_model" }, _("Face models")), el("option", { value: "upscaler" }, _("Upscalers")));
      const grid = el("div", { class: "ct-variants" });
      const note = el("p", { class: "ct-fault", role: "alert" });
      const go = el("button", { type: "button", onclick: () => run() }, _("Compare"));
      let stop = null;
      const run = async () => {
        go.disabled = true;
        note.textContent = "";
        try {
          const crop = await this.crop(photo, Number(where.value));
          const id = await upload(crop);
          trials.push({ upload: id });
          const values = await this.values(what.value);
          grid.replaceChildren();
          for (const value of values) {
            const job = await submit({ kind: "restore", task: { [what.value]: value }, files: { source: `${id}/crop.png` }, parent: photo.job.id, priority: 5 });
            const cell = el("div", {}, el("p", { class: "ct-name" }, value), progressOf(job));
            trials.push({ job: job.id, cell, name: what.value, value });
            grid.append(cell);
          }
        } catch (fault) {
          note.textContent = fault.message;
        }
        go.disabled = false;
      };
      stop = watch({
        change: (job) => {
          const trial = trials.find((other) => other.job === job.id);
          if (!trial) return;
          const picture = job.results.find(isPicture);
          const take = () => {
            this.setExtra({ [trial.name]: trial.value });
            dialog.close();
          };
          const shown = picture
            ? [el("img", { src: picture.url, alt: trial.value }), el("button", { type: "button", onclick: take }, _("Take this for all"))]
            : [job.state === "failed" ? el("p", { class: "ct-fault" }, job.error.detail) : progressOf(job)];
          trial.cell.replaceChildren(el("p", { class: "ct-name" }, trial.value), ...shown);
        },
      });
      const content = el("div", {}, el("div", { class: "ct-bar" }, where, what, go), note, grid);
      const end = async () => {
        stop();
        removeEventListener("pagehide", end);
        const send = (method, path) => call(method, path, undefined, { keepalive: true }).catch(() => null);
        await Promise.all(trials.map(({ job }) => job && send("POST", `/jobs/${job}/cancel`)));
        await Promise.all(trials.map(({ job }) => job && send("DELETE", `/jobs/${job}`)));
        for (const trial of trials) if (trial.upload) await send("DELETE", `/uploads/${trial.upload}`);
      };
      addEventListener("pagehide", end);
      const dialog = openDialog(_("Compare on one part"), content, end);
    }

    async values(name) {
      if (name === "strength") return STRENGTHS;
      const kind = name === "upscaler" ? "upscale" : "faces";
      const models = await get(`/models?kind=${kind}`);
      return models.filter((model) => model.is_available).map((model) => model.name).slice(0, 6);
    }

    /** A part of the photo around a face, or of its middle, as a file. */
    async crop(photo, number) {
      const isShown = SHOWN_BY_BROWSER.test(photo.name);
      const file = await (await fetch(isShown ? photo.url || `/uploads/${photo.upload}` : photo.picture)).blob();
      const whole = await createImageBitmap(file);
      const scale = whole.width / photo.facts.width;
      const face = photo.faces.find((other) => other.number === number);
      const [x, y, width, height] = face ? face.box.map((value) => value * scale) : [0, 0, whole.width, whole.height];
      const side = Math.min(face ? 2.2 * Math.max(width, height) : 384, whole.width, whole.height);
      const left = Math.min(Math.max(0, x + width / 2 - side / 2), whole.width - side);
      const top = Math.min(Math.max(0, y + height / 2 - side / 2), whole.height - side);
      const target = Math.round(Math.min(side, 768));
      const canvas = el("canvas", { width: target, height: target });
      canvas.getContext("2d").drawImage(whole, left, top, side, side, 0, 0, target, target);
      whole.close();
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      return new File([blob], "crop.png");
    }
  },
);
