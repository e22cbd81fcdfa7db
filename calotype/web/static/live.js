// One's own jobs as they change, by one stream for all tabs of the page. A hidden page closes it: browsers allow few.

import { faultOf, get, isLost, words } from "./api.js";
import { _ } from "./texts.js";

const REST = 1000; // milliseconds before a stream that has ended is opened again
const REFUSED = 5000; // the same, where it was refused, as there are too many
const PLACES = 15_000; // milliseconds between two looks at the places of waiting jobs, if nothing happens
const SOON = 500; // milliseconds in which changes of several jobs are answered by one look
const subscribers = new Set();
export const places = new Map(); // id of a waiting job: {ahead, seconds}
let stream = null; // its AbortController
let timer = 0;
let known = ""; // the places as they were last
let isAway = false;

/** Whether the service does not answer. */
export const isGone = () => isAway;

/**
 * Calls `change(job)`, `gone(id)`, `learning(told)` of trainings, and `moved()` where places in the queue have changed;
 * and after each new connection `open()`, in which lists are read again.
 */
export function watch(subscriber) {
  subscribers.add(subscriber);
  connect();
  return () => subscribers.delete(subscriber);
}

function tell(name, value) {
  for (const subscriber of [...subscribers]) subscriber[name]?.(value);
}

/** The events of a stream: {event, data}. `EventSource` could not say in which language its sentences are to be. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [, event] = part.match(/^event: (.*)$/m) ?? [];
      const [, data] = part.match(/^data: (.*)$/m) ?? [];
      if (event && data) yield { event, data: JSON.parse(data) };
    }
  }
}

async function connect() {
  if (stream || document.hidden) return;
  const own = (stream = new AbortController());
  let refused = null;
  try {
    const headers = { Accept: "text/event-stream", ...words() };
    const answer = await fetch("/events?current=false", { headers, signal: own.signal });
    if (!answer.ok) refused = await faultOf(answer);
    else {
      isAway = false;
      say("");
      tell("open");
      readPlaces();
      for await (const { event, data } of eventsOf(answer.body)) receive(event, data);
    }
  } catch {
    // it broke, or was closed
  }
  if (stream !== own) return;
  stream = null;
  isAway = !refused || isLost(refused);
  say(isAway ? _("The service does not answer; trying again") : refused.message);
  setTimeout(() => get("/me").then(connect, () => setTimeout(connect, 2 * REST)), isAway ? REST : REFUSED); // a session may have ended
}

function receive(event, data) {
  if (event === "gone") tell("gone", data.id);
  if (event === "learning") tell("learning", data);
  if (event !== "job") return;
  if (data.state === "queued" || places.has(data.id)) lookSoon(SOON);
  tell("change", data);
}

function disconnect() {
  stream?.abort();
  stream = null;
  clearTimeout(timer);
}

function say(text) {
  const place = document.getElementById("ct-state");
  if (place && place.textContent !== text) place.textContent = text;
}

let due = 0;

function lookSoon(milliseconds) {
  const then = performance.now() + milliseconds;
  if (timer && due <= then) return;
  clearTimeout(timer);
  due = then;
  timer = setTimeout(readPlaces, milliseconds);
}

async function readPlaces() {
  timer = 0;
  const found = await get("/queue/places").catch(() => null);
  if (!found || document.hidden) return; // the next connection reads them
  const text = JSON.stringify(found);
  if (text !== known) {
    known = text;
    places.clear();
    for (const place of found) places.set(place.job, place);
    tell("moved");
  }
  if (found.length) lookSoon(PLACES);
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
