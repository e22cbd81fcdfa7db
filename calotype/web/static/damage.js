// The damage of a photo, marked by hand: painted over it, or a mask from a file.

import { Fault, get, submit, untilAnswered } from "./api.js";
import { openDialog } from "./compare.js";
import { el, guarded, toast } from "./dom.js";
import { PICTURES } from "./dropzone.js";
import { foundOf, uploadOf } from "./jobs.js";
import { bitmapOf, Painter, pngOf } from "./painter.js";
import { SHOWN_BY_BROWSER } from "./photo.js";
import { _ } from "./texts.js";
import { contentOf, fileOf, safeName, upload } from "./upload.js";

const BRUSH = 12; // CSS pixels
const VEIL = "rgb(217 60 40)";

/** Opens the dialog in which the damage of a photo is marked; `take(ref)` is called with the upload of the mask, or null. */
export async function markDamage(photo, take) {
  const mask = photo.mask && (await uploaded(photo.mask).catch(() => null)); // it may be gone
  return openDamage({ name: photo.name, upload: photo.upload, size: photo.facts, mask }, take);
}

/**
 * Opens the one in which the damage that a job found is corrected. What is left of it is repaired by a job with the same
 * options, which `submitted(job)` gets; it is a mask in any case, so that nothing is searched again.
 */
export async function correctDamage(job, submitted = () => {}) {
  const { id, name } = uploadOf(job);
  const restore = async (mask, waits) => {
    const order = { kind: job.kind, task: maskedTask(job.task), files: { ...job.files, mask }, parent: await parentOf(job, waits) };
    submitted(await untilAnswered(() => submit(order), waits));
    toast(_("1 photo is in the queue"));
  };
  return openDamage({ name, upload: id, found: foundOf(job), isSearched: findsMarks(job.task) && !job.files.mask }, restore);
}

const findsMarks = ({ repair = "auto" }) => repair === "auto" || repair.split(",").some((name) => name.trim() === "scratches");

/** The options of a job with the repair that takes a mask, also where it was to repair something else or nothing. */
function maskedTask(task) {
  return findsMarks(task) ? task : { ...task, repair: task.repair === "none" ? "scratches" : `${task.repair},scratches` };
}

/** The parent of a job, unless it was deleted. */
async function parentOf({ parent }, waits) {
  const unlessGone = (fault) => (fault.status === 404 ? null : Promise.reject(fault));
  return parent && (await untilAnswered(() => get(`/jobs/${parent}`), waits).then((job) => job.id, unlessGone));
}

/**
 * Opens the dialog with what is known of the photo: `size`, `mask`, a file, or `found`, a result; `isSearched` tells whether
 * that was searched for, rather than given.
 */
async function openDamage({ name, upload: id, size = null, mask = null, found = null, isSearched = false }, take) {
  const bitmap = SHOWN_BY_BROWSER.test(name) ? await bitmapOf(await contentOf(`/uploads/${id}`)) : null;
  const first = found ? await fileOf(found) : mask;
  const layer = first && (await layerOf(first, bitmap));
  const isOtherSize = found ? !layer : size && bitmap && !isAlike(size, bitmap);
  const reason = obstacle(bitmap, isOtherSize, found);
  const note = el("p", { class: "ct-soft", role: "status" });
  const fault = el("p", { class: "ct-fault", role: "alert" });
  let given = null; // a mask as it came from a file, until something is painted
  const say = () => {
    const isShown = painter && (!given || (found && given === first));
    const file = given && _("Mask: {name}", { name: given.name });
    note.textContent = isShown ? hint(found && layer, painter.isEmpty, isSearched) : [file, reason].filter(Boolean).join(" · ");
    fault.textContent = "";
  };
  const painted = () => {
    given = null;
    say();
  };
  const painter = reason ? null : new Painter(bitmap, { label: _("Photo; paint over what is damaged"), opacity: 0.5, tint: VEIL, size: BRUSH, changed: painted });
  const lay = (file, marks) => {
    painter?.clear();
    given = file;
    if (marks && !marks.isBlank) painter?.take(marks.canvas);
    say();
  };
  const choose = async (file) => {
    lay(file, null); // at once: the button may be pressed before it is read
    const marks = await layerOf(file, bitmap);
    if (given === file) lay(file, marks);
  };
  const input = el("input", { type: "file", accept: PICTURES, hidden: true, onchange: () => input.files[0] && guarded(() => choose(input.files[0])) });
  const waits = (lost) => (fault.textContent = lost.message);
  const done = async () => {
    try {
      const chosen = given ?? (painter && (found || !painter.isEmpty) ? await maskOf(painter, bitmap) : null);
      await take(chosen && `${await upload(chosen, null, waits)}/${safeName(chosen.name)}`, waits);
    } catch (cause) {
      fault.textContent = cause.message;
      return false;
    }
  };
  const button = (text, onclick) => el("button", { type: "button", class: "ct-plain", onclick }, text);
  const bar = el("div", { class: "ct-bar" }, button(_("Mask from a file"), () => input.click()), found && el("a", { class: "ct-button ct-plain", href: found.url, download: found.name }, _("Download the mask")), el("button", { type: "button", class: "ct-rest", onclick: () => guarded(done, dialog) }, found ? _("Restore with it") : _("Take it")));
  const dialog = openDialog(_("Damage of {name}", { name }), el("div", {}, note, painter?.element, fault, bar, input), () => bitmap?.close());
  if (first) lay(first, layer);
  else say();
  painter?.canvas.focus(); // so that its keys work at once
}

/** Why nothing can be painted over a photo in this browser; empty if it can. */
function obstacle(bitmap, isOtherSize, found) {
  if (!bitmap) return _("The browser cannot show this photo; a mask can be given as a file.");
  if (!isOtherSize) return "";
  if (found) return _("What was found cannot be marked here: the browser shows this photo in another size than its mask has, or the photo is too large for it. Download the mask, and give it back corrected as a file.");
  return _("The browser shows this photo in another size than it has; a mask can be given as a file.");
}

/** What can be done with the brush; `found` is the layer of what was repaired before. */
function hint(found, isEmpty, isSearched) {
  if (found && !found.isBlank) {
    if (isEmpty) return _("Nothing is marked now, so no damage is repaired, and none is searched.");
    return _("The damage that was found is marked in red. Erase what is no damage, and paint over what was missed. Just that is repaired then, and nothing is searched.");
  }
  if (isSearched && isEmpty) return _("No damage was found. Paint over scratches, spots and tears: just that is repaired then, and nothing is searched.");
  return _("Paint over scratches, spots and tears. Just that is repaired, and nothing is searched.");
}

async function uploaded(ref) {
  const [id, name = "mask.png"] = ref.split("/");
  return new File([await contentOf(`/uploads/${id}`)], name);
}

/** What is painted as a picture of the photo's size: white on black. */
async function maskOf(painter, { width, height }) {
  const mask = await pngOf(painter.layer(width, height, { colour: "#fff", ground: "#000" }), "mask.png");
  if (!mask) throw new Fault(0, _("the photo is too large for the brush of this browser; give the mask as a file"), "mask");
  return mask;
}

const isAlike = (a, b) => a.width === b.width && a.height === b.height;

/** What is white in a mask, as a layer over the photo; null where it has another size or cannot be read. */
async function layerOf(file, bitmap) {
  const mask = bitmap && (await bitmapOf(file));
  try {
    return mask && isAlike(mask, bitmap) ? opaque(mask) : null;
  } catch {
    return null; // larger than the browser draws
  } finally {
    mask?.close();
  }
}

/** A canvas that is opaque where a mask is white, or where it is opaque itself if parts of it are not; and if none is. */
function opaque(mask) {
  const canvas = el("canvas", { width: mask.width, height: mask.height });
  const context = canvas.getContext("2d");
  context.drawImage(mask, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  let isLayer = false;
  let isBlank = true;
  for (let n = 3; n < data.length; n += 4) isLayer ||= data[n] < 255;
  for (let n = 0; n < data.length; n += 4) {
    const light = isLayer ? data[n + 3] : 0.299 * data[n] + 0.587 * data[n + 1] + 0.114 * data[n + 2];
    data[n] = data[n + 1] = data[n + 2] = 255;
    data[n + 3] = light > 127 ? 255 : 0;
    isBlank &&= data[n + 3] === 0;
  }
  context.putImageData(image, 0, 0);
  return { canvas, isBlank };
}
