// Requests to the API of the service this page is from.

import { _ } from "./texts.js";

/** An answer of the API that is no success: its sentence, and the option that it is about. */
export class Fault extends Error {
  constructor(status, detail, option = "") {
    super(detail);
    this.status = status;
    this.option = option;
  }
}

async function faultOf(answer) {
  // not while a token is shown that is shown only once: that of the first account, with which the log-in begins
  if (answer.status === 401 && !document.querySelector(".ct-secret")) location.assign("/login");
  try {
    const data = await answer.json();
    return new Fault(answer.status, data.detail ?? data.error, data.option);
  } catch {
    return new Fault(answer.status, _("the service answered with status {status}", { status: answer.status }));
  }
}

/** Sends a request; the JSON of the answer. Throws Fault. */
export async function call(method, path, body = undefined, options = {}) {
  const headers = { "Accept-Language": document.documentElement.lang };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), ...options });
  } catch {
    throw new Fault(0, _("the service does not answer; it may be starting again. Try again in a moment"));
  }
  if (!answer.ok) throw await faultOf(answer);
  return answer.status === 204 || method === "HEAD" ? null : answer.json();
}

export const get = (path) => call("GET", path);
export const post = (path, body = undefined) => call("POST", path, body);

/** Queues a job: {kind, task, files, parent}. */
export const submit = (order) => post("/jobs", order);
