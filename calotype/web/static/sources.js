// Photos or scans of a tab: each is a file, and the job that looked at it. The jobs that work on it have that parent.

import { submit, untilAnswered } from "./api.js";
import { toast } from "./dom.js";
import { FINISHED, isPicture, uploadOf } from "./jobs.js";
import * as removals from "./removals.js";
import { _ } from "./texts.js";
import { safeName, upload } from "./upload.js";

const newest = (jobs) => [...jobs].sort((a, b) => b.created - a.created)[0] ?? null;

/** A photo or a scan. */
export class Source {
  job = null; // that looked at it
  upload = "";
  share = 0; // of the file that is sent
  fault = "";
  isWaiting = false; // for a service that does not answer
  url = ""; // of the file in this browser
  results = new Map(); // jobs that work on it

  constructor(name, file = null) {
    this.name = name;
    this.file = file; // until it is sent
  }

  take(job) {
    this.job = job;
    this.upload = uploadOf(job).id;
  }

  /** Forgets what was chosen for it and not sent. */
  forgetChoices() {}

  /** As a file of an order. */
  get source() {
    return `${this.upload}/${this.name}`;
  }

  /** The latest job that works on it. */
  get result() {
    return newest(this.results.values());
  }

  /** The latest one that has made pictures. */
  get done() {
    return newest([...this.results.values()].filter((job) => job.state === "done" && job.results.some(isPicture)));
  }

  /** Whether it waits, or is at work. */
  get isBusy() {
    return this.result !== null && !FINISHED.includes(this.result.state);
  }

  get isReady() {
    return this.job !== null && !["failed", "cancelled"].includes(this.job.state);
  }
}

/**
 * A tab of them. A subclass has the `kind` of its form, the class `Item` of its sources, the order `first` by which a file
 * is looked at, `shown`, how many are shown, and `show(source)`, `showAll()` and `read()`.
 */
export class SourcesTab extends HTMLElement {
  sources = []; // the newest first
  only = null; // the one whose own button was pressed

  /** Takes files, and sends them. */
  add(files) {
    const added = files.map((file) => new this.Item(safeName(file.name), file));
    this.sources.unshift(...added);
    this.shown += added.length;
    this.showAll();
    for (const source of added) this.send(source);
  }

  /** Sends a file and has it looked at; one that is in the tab already stays there once. */
  async send(source) {
    const waits = () => {
      source.isWaiting = true;
      this.show(source);
    };
    const moves = (share) => {
      [source.share, source.isWaiting] = [share, false];
      this.show(source);
    };
    source.fault = "";
    try {
      source.upload = await upload(source.file, moves, waits);
      const same = this.sources.find((other) => other !== source && other.upload === source.upload && other.job);
      if (same) {
        same.url ||= source.url;
        this.sources = [same, ...this.sources.filter((other) => other !== source && other !== same)];
        toast(_("{name} is here already", { name: source.name }));
        return this.showAll();
      }
      const order = { ...this.first, files: { source: source.source }, priority: 5 };
      const job = await untilAnswered(() => submit(order), waits);
      source.take(job);
      source.file = null;
      this.sources = this.sources.filter((other) => other === source || other.job?.id !== job.id);
    } catch (fault) {
      source.fault = fault.message;
    }
    source.isWaiting = false;
    this.showAll();
  }

  /** What a press of the form's button is about: one, or the new ones, or else all that are not at work. */
  chosen() {
    const only = this.only;
    this.only = null;
    const idle = this.sources.filter((source) => source.isReady && !source.isBusy);
    const fresh = idle.filter((source) => !source.done);
    return only ? [only] : fresh.length ? fresh : idle;
  }

  /** Presses the form's button for one. */
  orderOne(source) {
    this.only = source;
    document.getElementById(`${this.kind}-go`).click();
  }

  /** Removes one with its results, unless that is undone. */
  remove(source) {
    const at = this.sources.indexOf(source);
    this.sources.splice(at, 1);
    if (source.upload) removals.remove(source.upload, [...source.results.keys(), source.job?.id].filter(Boolean));
    this.showAll();
    toast(_("{name} is removed with its results", { name: source.name }), {
      action: _("Undo"),
      run: () => {
        removals.forget(source.upload);
        this.sources.splice(at, 0, source);
        this.read();
      },
      done: () => {
        source.forgetChoices();
        removals.work(source.upload);
      },
    });
  }
}
