// Results of several jobs as one ZIP.

import { get } from "./api.js";
import { el } from "./dom.js";

/** Downloads the results of jobs, by a form: an address is too short for the ids of many jobs. Throws Fault. */
export async function downloadAll(jobs) {
  await get("/me"); // so that no page of errors comes instead of the file
  const fields = jobs.map((job) => el("input", { type: "hidden", name: "job", value: job.id }));
  const form = el("form", { method: "post", action: "/archive", hidden: true }, fields);
  document.body.append(form);
  form.submit();
  form.remove();
}
