// The prompt as it is typed, kept in this window for each account: a session may end, and the page be read anew, before
// it is sent.

import { pause } from "./api.js";
import { appeared, write } from "./dom.js";
import { keyOf } from "./drafts.js";

const FIELD = "#imagine-prompt textarea";
const key = keyOf("prompt");

function keep() {
  const field = document.querySelector(FIELD);
  if (field) sessionStorage.setItem(key, field.value);
}

async function putBack() {
  const kept = sessionStorage.getItem(key);
  const field = await appeared(FIELD);
  for (let times = 0; times < 3; times++) {
    await pause(150); // Gradio empties a field that it has just made
    if (!kept || field.value) return;
    write(field, kept);
  }
}

addEventListener("pagehide", keep);
putBack();
