// What jobs look like in every tab: names, progress, place in the queue.

import { el } from "./dom.js";
import { places } from "./live.js";
import { _, duration } from "./texts.js";

const MOST = 200; // jobs in an answer
export const FINISHED = ["done", "failed", "cancelled"];

export const TRAININGS = ["train_lora", "train_gan", "train_upscaler", "train_restorer", "train_repairer", "train_diffusion"];

export const ALL_TRAININGS = TRAININGS.map((kind) => `kind=${kind}`).join("&"); // of a query for jobs

export function kindTitle(kind) {
  const titles = {
    restore: _("Restore"),
    upscale: _("Enlarge"),
    split: _("Cut out photos"),
    colour: _("Colour"),
    imagine: _("Imagine"),
    find_faces: _("Find faces"),
    caption: _("Captions"),
    train_lora: _("Train a LoRA"),
    train_gan: _("Train a GAN"),
    train_upscaler: _("Train an upscaler"),
    train_restorer: _("Train a face restorer"),
    train_repairer: _("Train a finder of scratches"),
    train_diffusion: _("Train a diffusion model"),
  };
  return titles[kind] ?? kind.replaceAll("_", " ");
}

/** The id and the file name of the upload in an option. */
export function uploadOf(job, option = "source") {
  const [id, name = ""] = String([job.files[option] ?? ""].flat()[0]).split("/");
  return { id, name };
}

/** Whether a job tries options on a part of a photo; its results are no pictures of their own. */
export const isTrial = (job) => job.kind === "restore" && job.parent !== null && uploadOf(job).name === "crop.png";

/** What a job is about: its prompt, the name of what it trains, or that of its file. */
export function jobTitle(job) {
  if (TRAININGS.includes(job.kind)) return job.task.output_name || kindTitle(job.kind);
  return job.task.prompt || uploadOf(job).name || uploadOf(job, "photos").name || kindTitle(job.kind);
}

export function stateText(job) {
  const { progress } = job;
  if (job.state === "running" && progress?.total) {
    const percent = Math.floor((100 * progress.done) / progress.total);
    const left = progress.remaining ? _("{time} left", { time: duration(progress.remaining) }) : "";
    const { aside } = progress; // what a training does between two steps
    const besides = aside?.total ? _("{what}: {percent} %", { what: aside.what, percent: Math.floor((100 * aside.done) / aside.total) }) : "";
    return [_("{percent} %", { percent }), left, besides].filter(Boolean).join(" · ");
  }
  if (job.state === "queued") {
    const place = places.get(job.id);
    if (!place) return _("waits");
    if (place.is_over_budget) return place.renewed_in === null ? _("waits: the budget is used up; ask the owner for more") : _("waits: the budget of today is used up; goes on in {time}", { time: duration(place.renewed_in) });
    const wait = place.seconds === null ? "" : _("about {time}", { time: duration(place.seconds) });
    const ahead = place.ahead ? _("{count} before it", { count: place.ahead }) : _("next");
    return [_("waits"), ahead, wait].filter(Boolean).join(" · ");
  }
  const words = { running: _("starts"), paused: _("paused"), done: _("done"), cancelled: _("cancelled") };
  return words[job.state] ?? job.error?.detail ?? _("failed");
}

/** A bar and a line for a job that has not ended. */
export function progressOf(job) {
  const { progress } = job;
  const share = job.state === "running" && progress?.total ? progress.done / progress.total : 0;
  const bar = progressBar(jobTitle(job), 100 * share, job.state === "running" ? 2 : 0);
  return el("div", {}, bar, el("span", { class: "ct-soft" }, stateText(job)));
}

/** The line of a job: its bar, or once it has ended, how. */
export const statusOf = (job) => (FINISHED.includes(job.state) ? el("span", { class: job.state === "failed" ? "ct-fault" : "ct-soft" }, stateText(job)) : progressOf(job));

/** A bar that is filled to a percentage, shown as `least` at least. */
export function progressBar(label, percent, least = 0) {
  const filled = el("div");
  filled.style.width = `${Math.max(percent, least)}%`;
  const facts = { "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(percent)) };
  return el("div", { class: "ct-progress", role: "progressbar", ...facts }, filled);
}

/** How many jobs are read again so that as many are there as before: a page at least. */
export const asMany = (jobs, page) => Math.min(MOST, Math.max(page, jobs.length));

/** Jobs with those of another page; one that is in both is there once, as it is in that page. */
export const joined = (jobs, more) => [...new Map([...jobs, ...more].map((job) => [job.id, job])).values()];

/** Puts a job in the place of what was known of it, else on top. Whether it was known. */
export function renew(jobs, job) {
  const at = jobs.findIndex((known) => known.id === job.id);
  if (at >= 0) jobs[at] = job;
  else jobs.unshift(job);
  return at >= 0;
}

/** The address of a small picture of a result: a scan has one for each photo, other jobs have one of their result. */
export function smallOf(job, result) {
  if (result.facts.photo) return `/jobs/${job.id}/samples/${result.facts.photo}`;
  return job.kind !== "imagine" && job.preview ? job.preview : result.url;
}

/** Whether a job only tells what another one does; it is no work of its own in lists. */
export const isPlan = (job) => job.kind === "split" && job.task.dry_run === true;

/** The address of the preview as it is now: a later one is another address, so that the browser fetches it. */
export const previewOf = (job) => `${job.preview}?${job.progress?.done ?? 0}`;

/** Whether a result only explains another: the picture of what was invented in it, or of the damage found. */
export const isExplaining = (result) => ["uncertainty", "mask"].includes(result.facts.beside);

const explained = (job, by) => job?.results.find((result) => result.facts.beside === by) ?? null;

/** Whether a result is a picture of its own. */
export const isPicture = (result) => result.media_type.startsWith("image/") && !isExplaining(result);

/** The picture of what was invented in the result of a job, if it was asked for. */
export const inventedOf = (job) => explained(job, "uncertainty");

/** The mask of the damage that a job found and repaired, if it was asked for and can be corrected: that of one photo. */
export const foundOf = (job) => (job && [job.files.source].flat().length === 1 && !job.task.aligned ? explained(job, "mask") : null);

function tabTitle(name) {
  const titles = { restore: _("Restore"), split: _("Scans"), colour: _("Colour"), imagine: _("Imagine"), train: _("Train"), queue: _("Queue"), gallery: _("Gallery"), models: _("Models"), settings: _("Settings") };
  return titles[name];
}

/** Shows a tab of the page. On a narrow one Gradio puts the last tabs into a menu, whose entries have only titles. */
export function openTab(name) {
  const entries = [...document.querySelectorAll("#tabs .overflow-dropdown button")];
  const tab = document.getElementById(`tab-${name}-button`) ?? entries.find((entry) => entry.textContent.trim() === tabTitle(name));
  tab?.click();
}

/** Asks before a training that has begun is cancelled. */
export function mayCancel(job) {
  const hasBegun = TRAININGS.includes(job.kind) && ["running", "paused"].includes(job.state);
  return !hasBegun || confirm(_("What this training has learnt is lost; Stop keeps it for later. Cancel it?"));
}
