// What one tab hands to another, such as a picture. Gradio makes a tab when it is first opened: what is handed waits.

import { openTab } from "./jobs.js";

const takers = new Map();
const waiting = new Map();

/** Calls `take(value)` for all that is handed to this place, and for what was before the place was there. */
export function takeFor(place, take) {
  takers.set(place, take);
  for (const value of waiting.get(place) ?? []) take(value);
  waiting.delete(place);
}

/** Opens a tab and hands a value to a place in it. */
export function hand(tab, place, value) {
  const take = takers.get(place);
  if (take) take(value);
  else waiting.set(place, [...(waiting.get(place) ?? []), value]);
  openTab(tab);
}
