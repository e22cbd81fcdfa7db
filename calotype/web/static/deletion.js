// Deleting with undo: what is deleted is hidden for some seconds, and then gone.

import { call } from "./api.js";
import { toast } from "./dom.js";
import { isPicture } from "./jobs.js";
import { _ } from "./texts.js";

const hidden = new Set(); // ids of jobs and results
const CHANGED = "ct-deletion";
const LONGEST = 60; // characters of a prompt in a message

/** Whether a job or a result is deleted, or will be unless that is undone. */
export const isDeleted = (id) => hidden.has(id);

/** The pictures of a job that are not deleted. */
export const picturesOf = (job) => job.results.filter((result) => isPicture(result) && !isDeleted(result.id));

/** Calls `show()` whenever something is hidden or comes back; returns a function that ends this. */
export function watchDeletions(show) {
  document.addEventListener(CHANGED, show);
  return () => document.removeEventListener(CHANGED, show);
}

/** Deletes a job or a result, at this address, after some seconds in which that can be undone. */
export function deleteWithUndo(id, address, name) {
  const change = (act) => {
    hidden[act](id);
    document.dispatchEvent(new CustomEvent(CHANGED));
  };
  change("add");
  toast(_("{name} is deleted", { name: name.length > LONGEST ? `${name.slice(0, LONGEST)}…` : name }), {
    action: _("Undo"),
    run: () => change("delete"),
    done: () =>
      call("DELETE", address, undefined, { keepalive: true }).catch((fault) => {
        if (fault.status === 404) return; // it was deleted elsewhere
        change("delete");
        toast(fault.message);
      }),
  });
}
