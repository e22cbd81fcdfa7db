// Trials on a part of a photo: strengths or models beside each other, one of which is taken for all.

import { get, submit } from "./api.js";
import { openDialog } from "./compare.js";
import { el } from "./dom.js";
import { isPicture, progressOf } from "./jobs.js";
import { watch } from "./live.js";
import { SHOWN_BY_BROWSER } from "./photo.js";
import * as removals from "./removals.js";
import { _ } from "./texts.js";
import { contentOf, upload } from "./upload.js";

const STRENGTHS = ["0.4", "0.7", "1"];

/** Opens the dialog; `choose(options)` is called with what is taken for all. */
export function openTrials(photo, choose) {
  const trials = [];
  const places = [...photo.faces.map((face) => [face.number, _("Face {number}", { number: face.number })]), [0, _("Middle")]];
  const where = el("select", { "aria-label": _("Part of the photo") }, places.map(([value, title]) => el("option", { value: String(value) }, title)));
  const what = el("select", { "aria-label": _("What to compare") }, el("option", { value: "strength" }, _("Strengths")), el("option", { value: "face_model" }, _("Face models")), el("option", { value: "upscaler" }, _("Upscalers")));
  const grid = el("div", { class: "ct-variants" });
  const note = el("p", { class: "ct-fault", role: "alert" });
  const go = el("button", { type: "button", onclick: () => run() }, _("Compare"));
  const run = async () => {
    go.disabled = true;
    note.textContent = "";
    try {
      const crop = await cropOf(photo, Number(where.value));
      const id = await upload(crop);
      const values = await valuesOf(what.value);
      grid.replaceChildren();
      for (const value of values) {
        const job = await submit({ kind: "restore", task: { [what.value]: value }, files: { source: `${id}/crop.png` }, parent: photo.job.id, priority: 5 });
        const cell = el("div", {}, el("p", { class: "ct-name" }, value), progressOf(job));
        trials.push({ upload: id, job: job.id, cell, name: what.value, value });
        removals.remove(id, trials.filter((trial) => trial.upload === id).map((trial) => trial.job)); // when it is closed
        grid.append(cell);
      }
    } catch (fault) {
      note.textContent = fault.message;
    }
    go.disabled = false;
  };
  const stop = watch({
    change: (job) => {
      const trial = trials.find((other) => other.job === job.id);
      if (!trial) return;
      const picture = job.results.find(isPicture);
      const take = () => {
        choose({ [trial.name]: trial.value });
        dialog.close();
      };
      const shown = picture
        ? [el("img", { src: picture.url, alt: trial.value }), el("button", { type: "button", onclick: take }, _("Take this for all"))]
        : [job.state === "failed" ? el("p", { class: "ct-fault" }, job.error.detail) : progressOf(job)];
      trial.cell.replaceChildren(el("p", { class: "ct-name" }, trial.value), ...shown);
    },
  });
  const content = el("div", {}, el("div", { class: "ct-bar" }, where, what, go), note, grid);
  const end = () => {
    stop();
    for (const trial of trials) removals.work(trial.upload);
  };
  const dialog = openDialog(_("Compare on one part"), content, end);
}

async function valuesOf(name) {
  if (name === "strength") return STRENGTHS;
  const kind = name === "upscaler" ? "upscale" : "faces";
  const models = await get(`/models?kind=${kind}`);
  return models.filter((model) => model.is_available).map((model) => model.name).slice(0, 6);
}

/** A part of the photo around a face, or of its middle, as a file. */
async function cropOf(photo, number) {
  const isShown = SHOWN_BY_BROWSER.test(photo.name);
  const address = isShown ? photo.url || `/uploads/${photo.upload}` : photo.picture;
  const whole = await createImageBitmap(await contentOf(address));
  const scale = whole.width / photo.facts.width;
  const face = photo.faces.find((other) => other.number === number);
  const [x, y, width, height] = face ? face.box.map((value) => value * scale) : [0, 0, whole.width, whole.height];
  const side = Math.min(face ? 2.2 * Math.max(width, height) : 384, whole.width, whole.height);
  const left = Math.min(Math.max(0, x + width / 2 - side / 2), whole.width - side);
  const top = Math.min(Math.max(0, y + height / 2 - side / 2), whole.height - side);
  const target = Math.round(Math.min(side, 768));
  const canvas = el("canvas", { width: target, height: target });
  canvas.getContext("2d").drawImage(whole, left, top, side, side, 0, 0, target, target);
  whole.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "crop.png");
}
