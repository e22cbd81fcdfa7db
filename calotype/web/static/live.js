// One's own jobs as they change, by one stream for all tabs of the page. A hidden page closes it: browsers allow few.

import { get } from "./api.js";
import { _ } from "./texts.js";

const subscribers = new Set();
export const places = new Map(); // id of a waiting job: {ahead, seconds}
let source = null;
let timer = 0;
let waiting = new Set();

/** Calls `change(job)`, `gone(id)` and, after each new connection, `open()`, in which lists are read again. */
export function watch(subscriber) {
  subscribers.add(subscriber);
  connect();
  return () => subscribers.delete(subscriber);
}

function tell(name, value) {
  for (const subscriber of [...subscribers]) subscriber[name]?.(value);
}

function connect() {
  if (source || document.hidden) return;
  source = new EventSource("/events");
  source.addEventListener("open", () => {
    say("");
    tell("open");
  });
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    if (job.state === "queued") waiting.add(job.id);
    else waiting.delete(job.id);
    tell("change", job);
    if (!timer) timer = setTimeout(readPlaces, 100);
  });
  source.addEventListener("gone", (event) => tell("gone", JSON.parse(event.data).id));
  source.addEventListener("error", () => {
    say(_("The service does not answer; trying again"));
    if (source?.readyState !== EventSource.CLOSED) return;
    disconnect();
    setTimeout(() => get("/me").then(connect, () => setTimeout(connect, 3000)), 1000);
  });
}

function disconnect() {
  source?.close();
  source = null;
}

function say(text) {
  const place = document.getElementById("ct-state");
  if (place && place.textContent !== text) place.textContent = text;
}

async function readPlaces() {
  timer = 0;
  if (!waiting.size) return places.clear();
  try {
    const found = await get("/queue/places");
    places.clear();
    for (const place of found) places.set(place.job, place);
    tell("moved");
    timer = document.hidden ? 0 : setTimeout(readPlaces, 5000);
  } catch {
    timer = 0;
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
