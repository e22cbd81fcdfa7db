// Photos that were removed: their jobs are cancelled and deleted, then their files. What is not done when the page is
// closed, or while the service does not answer, is done by the next page of this browser.

import { call, get, isLost, pause, untilAnswered } from "./api.js";
import { keepDraft, readDraft } from "./drafts.js";
import { FINISHED } from "./jobs.js";

const KEY = "removals";
const WAIT = 2000; // milliseconds, for a running job to stop
const AT_ONCE = { keepalive: true }; // sent also while the page is closed
const here = new Map(); // upload: ids of jobs; also where the browser keeps nothing
const undoable = new Set(); // uploads
let isWorking = false;

function kept() {
  return new Map(Object.entries(readDraft(KEY) ?? {}));
}

function keep(removals) {
  keepDraft(KEY, Object.fromEntries(removals));
}

const all = () => new Map([...kept(), ...here]);

/** Whether a job is about to be deleted. */
export const isRemoved = (id) => [...all().values()].some((jobs) => jobs.includes(id));

/** Takes note of a removal that can be undone until `work(upload)`: the ids of jobs, and of the upload they use. */
export function remove(upload, jobs) {
  here.set(upload, jobs);
  undoable.add(upload);
  keep(all());
}

/** Forgets a removal: it is undone, or done. */
export function forget(upload) {
  here.delete(upload);
  undoable.delete(upload);
  keep(new Map([...kept()].filter(([id]) => id !== upload)));
}

/** Does this removal, and all others that cannot be undone any more. */
export async function work(upload = "") {
  undoable.delete(upload);
  if (isWorking) return;
  isWorking = true;
  const next = () => [...all()].find(([id]) => !undoable.has(id));
  try {
    for (let removal = next(); removal; removal = next()) {
      const [upload, jobs] = removal;
      for (const id of jobs) await untilAnswered(() => end(id));
      await untilAnswered(() => quietly("DELETE", `/uploads/${upload}`));
      forget(upload);
    }
  } finally {
    isWorking = false;
  }
}

/** Sends all of it at once, for a page that is closed. */
export function leave() {
  for (const [upload, jobs] of all()) {
    for (const id of jobs) {
      quietly("POST", `/jobs/${id}/cancel`).catch(() => null);
      quietly("DELETE", `/jobs/${id}`).catch(() => null);
    }
    quietly("DELETE", `/uploads/${upload}`).catch(() => null);
  }
}

async function end(id) {
  let job = await get(`/jobs/${id}`).catch(unlessGone);
  if (job && !FINISHED.includes(job.state)) {
    await quietly("POST", `/jobs/${id}/cancel`);
    while ((job = await get(`/jobs/${id}`).catch(unlessGone)) && !FINISHED.includes(job.state)) {
      await pause(WAIT);
    }
  }
  if (job) await quietly("DELETE", `/jobs/${id}`);
}

/** A refusal is the end of it, such as for a job that does not exist any more; no answer is not. */
const unlessGone = (fault) => {
  if (isLost(fault)) throw fault;
  return null;
};

const quietly = (method, path) => call(method, path, undefined, AT_ONCE).catch(unlessGone);
