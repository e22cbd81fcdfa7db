// Defines the elements of the tabs.

import "./orders.js";
import "./compare.js";
import "./restore.js";
import "./scans.js";
import "./colour.js";
import "./names.js";
import "./start.js";
import "./imagine.js";
import "./photos.js";
import "./train.js";
import "./models.js";
import "./settings.js";
import "./queue.js";
import "./gallery.js";
import "./typed.js";
import { appeared } from "./dom.js";
import { watch } from "./live.js";

// A file that is dropped beside the places for it would be opened by the browser instead of the page.
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
}

// Gradio's drop-downs have the models from when the page was built: they are read again at each connection and change.
const readChoices = () => appeared("#ct-choices").then((button) => button.click());
watch({ open: readChoices });
document.addEventListener("ct-models", readChoices);
