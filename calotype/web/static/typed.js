// The prompt as it is typed, kept in this window for each account: a session may end, and the page be read anew, before
// it is sent.

import { appeared } from "./dom.js";

const FIELD = "#imagine-prompt textarea";
const key = `calotype-prompt:${document.querySelector(".ct-head")?.dataset.account ?? ""}`;

function keep() {
  const field = document.querySelector(FIELD);
  if (field) sessionStorage.setItem(key, field.value);
}

async function putBack() {
  const kept = sessionStorage.getItem(key);
  const field = await appeared(FIELD);
  for (let times = 0; times < 3; times++) {
    await new Promise((resolve) => setTimeout(resolve, 150)); // Gradio empties a field that it has just made
    if (!kept || field.value) return;
    field.value = kept;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

addEventListener("pagehide", keep);
putBack();
