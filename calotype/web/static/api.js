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

/** The Fault of an answer that is no success. */
export async function faultOf(answer) {
  // not while a token is shown that is shown only once: that of the first account, with which the log-in begins
  if (answer.status === 401 && !document.querySelector(".ct-secret")) location.assign("/login");
  try {
    const data = await answer.json();
    return new Fault(answer.status, data.detail ?? data.error, data.option);
  } catch {
    return new Fault(answer.status, _("the service answered with status {status}", { status: answer.status }));
  }
}

/** The answer to a request. Throws Fault with status 0 where the service does not answer. */
export async function ask(path, options = {}) {
  try {
    return await fetch(path, options);
  } catch {
    throw gone();
  }
}

export const gone = () => new Fault(0, _("the service does not answer; this goes on by itself when it is back"));

/** Whether an answer may have been lost on the way, also behind a proxy. */
export const isLost = (fault) => fault instanceof Fault && [0, 502, 503, 504].includes(fault.status);

/** What a request says of the words of its answer: the page's language, and options by their titles in the task's form. */
export const words = (kind = "") => ({ "Accept-Language": document.documentElement.lang, "Calotype-Options": `titles ${kind}`.trim() });

/** Sends a request; the JSON of the answer. Throws Fault. */
export async function call(method, path, body = undefined, { headers = {}, ...options } = {}) {
  const all = { ...words(body?.kind), ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  const answer = await ask(path, { method, headers: all, body: body && JSON.stringify(body), ...options });
  if (!answer.ok) throw await faultOf(answer);
  return answer.status === 204 || method === "HEAD" ? null : answer.json();
}

export const get = (path) => call("GET", path);
export const post = (path, body = undefined) => call("POST", path, body);

/** All jobs of a kind, the newest first, page by page: `take(jobs)`. */
export async function eachPage(query, take) {
  let after = "";
  do {
    const page = await get(`/jobs?${query}&limit=200${after}`);
    await take(page.jobs);
    after = page.next ? `&after=${page.next}` : "";
  } while (after);
}

const keys = new Map(); // of orders whose answers were lost: the same order again is the same job

/** Queues a job: {kind, task, files, parent}. A lost answer is asked for once more, and never makes a second job. */
export async function submit(order) {
  const text = JSON.stringify(order);
  const key = keys.get(text) ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
  keys.delete(text);
  const send = () => call("POST", "/jobs", order, { headers: { "Idempotency-Key": key } });
  try {
    return await send().catch(async (fault) => {
      if (!isLost(fault)) throw fault;
      await pause(1000);
      return send();
    });
  } catch (fault) {
    if (isLost(fault)) keys.set(text, key);
    throw fault;
  }
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let back = null; // settles when the service answers again

/** Runs an act until the service answers it; `waits(fault)` while it does not. Throws the Faults that are answers. */
export async function untilAnswered(run, waits = null) {
  for (;;) {
    try {
      return await run();
    } catch (fault) {
      if (!isLost(fault)) throw fault;
      waits?.(gone());
      await (back ??= answering().finally(() => (back = null)));
    }
  }
}

async function answering() {
  do await pause(2000);
  while (!(await fetch("/health").catch(() => null))?.ok);
}
