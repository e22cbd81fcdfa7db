// A photo of the tab Restore: the job that found its faces, the jobs that restore it, and what was chosen for it.

import { keepDraft, readDraft } from "./drafts.js";
import { uploadOf } from "./jobs.js";
import { Source } from "./sources.js";

const CHOICES = "choices-"; // with the id of the job: what is chosen and not yet sent
const MASK = "mask-"; // the same
export const SHOWN_BY_BROWSER = /\.(jpe?g|png|webp|gif|avif|bmp)$/i;

export class Photo extends Source {
  constructor(name, file = null) {
    super(name, file);
    this.key = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.url = file ? URL.createObjectURL(file) : "";
    this.choices = new Map(); // number of a face: {isOn, strength}; strength: null until it is chosen
    this.planned = null; // sentences, of the options that were last asked about
    this.remeasured = null; // and the measures
    this.marked = null; // a mask that is not sent yet, "" for none any more; null: as in the latest job
    this.showsResult = true;
  }

  static of(job) {
    const photo = new Photo(uploadOf(job).name);
    photo.take(job);
    return photo;
  }

  /** The files of an order. */
  get files() {
    return { source: this.source, ...(this.mask ? { mask: this.mask } : {}) };
  }

  /** The mask of the damage, marked by hand: an upload, as a file of an order; a job of several photos may have several. */
  get mask() {
    const masks = [this.marked ?? this.result?.files.mask ?? ""].flat();
    return (masks.length === 1 && masks[0]) || null;
  }

  /** Takes a mask of the damage, or none, and keeps it for this browser until it is sent. */
  mark(mask) {
    this.marked = mask ?? "";
    this.showsResult = false;
    keepDraft(MASK + this.job.id, this.marked);
  }

  take(job) {
    super.take(job);
    this.marked ??= readDraft(MASK + job.id);
    const kept = this.choices.size ? {} : (readDraft(CHOICES + job.id) ?? {});
    for (const face of this.faces) {
      if (!this.choices.has(face.number)) this.choices.set(face.number, { isOn: !face.why, strength: null, ...kept[face.number] });
    }
    if (Object.keys(kept).length && this.faces.length) this.showsResult = false;
  }

  /** Changes what is to be done with a face, and keeps it for this browser until it is sent. */
  choose(face, change) {
    this.choices.set(face.number, { ...this.choices.get(face.number), ...change });
    this.showsResult = false;
    keepDraft(CHOICES + this.job.id, Object.fromEntries(this.choices));
  }

  forgetChoices() {
    this.forgetMask();
    if (this.job) keepDraft(CHOICES + this.job.id, null);
  }

  forgetMask() {
    this.marked = null;
    if (this.job) keepDraft(MASK + this.job.id, null);
  }

  get facts() {
    return this.job?.results[0]?.facts ?? null;
  }

  get faces() {
    return this.facts?.found ?? [];
  }

  /** What restoring it does, in sentences. */
  get plan() {
    return this.planned ?? this.facts?.plan ?? [];
  }

  /** What was measured of it. */
  get measures() {
    return this.remeasured ?? this.facts?.measures ?? [];
  }

  /** The small picture: the worker's, or while there is none, the file itself. */
  get picture() {
    return this.job?.results[0]?.url ?? (SHOWN_BY_BROWSER.test(this.name) ? this.url : "");
  }

  /** The whole photo as the browser shows it. */
  get whole() {
    return SHOWN_BY_BROWSER.test(this.name) && this.url ? this.url : this.picture;
  }

  /** The options of the task that stand for the choice of faces. */
  get task() {
    const chosen = this.faces.filter((face) => this.choices.get(face.number).isOn);
    const isAsked = this.faces.some((face) => this.choices.get(face.number).isOn === Boolean(face.why)); // not the plan's
    if (isAsked && !chosen.length) return { faces: "none" };
    const own = chosen.filter((face) => this.choices.get(face.number).strength !== null); // 1 too: an unclear face in full
    const strengths = own.map((face) => `${face.number}=${this.choices.get(face.number).strength}`);
    const task = isAsked ? { faces: chosen.map((face) => face.number).join(",") } : {};
    return strengths.length ? { ...task, strength: ["1", ...strengths].join(",") } : task;
  }
}
