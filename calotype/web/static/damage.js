// The damage of a photo, marked by hand: painted over it, or a mask from a file.

import { Fault } from "./api.js";
import { openDialog } from "./compare.js";
import { el, guarded } from "./dom.js";
import { PICTURES } from "./dropzone.js";
import { bitmapOf, Painter, pngOf } from "./painter.js";
import { SHOWN_BY_BROWSER } from "./photo.js";
import { _ } from "./texts.js";
import { contentOf, fileOf, safeName, upload } from "./upload.js";

const BRUSH = 12; // CSS pixels
const VEIL = "rgb(217 60 40)";

/**
 * Opens the dialog; `take(ref)` is called with the upload of the mask, or null for none. A mask that was found, a
 * `result`, is painted at first; what is left of it is a mask in any case, so that nothing is searched again.
 */
export async function openDamage(photo, take, result = null) {
  const found = result && (await fileOf(result));
  const bitmap = SHOWN_BY_BROWSER.test(photo.name) ? await bitmapOf(await contentOf(`/uploads/${photo.upload}`)) : null;
  const note = el("p", { class: "ct-soft", role: "status" });
  const fault = el("p", { class: "ct-fault", role: "alert" });
  let given = null; // a mask as it came from a file, until something is painted
  const say = () => {
    const isPainted = painter && (!given || (given === found && !painter.isEmpty));
    const hint = found ? _("The damage that was found is marked in red. Erase what is no damage, and paint over what was missed. Just that is repaired then, and nothing is searched.") : _("Paint over scratches, spots and tears. Just that is repaired, and nothing is searched.");
    const name = given && _("Mask: {name}", { name: given.name });
    const reason = !painter && _("The browser cannot show this format; a mask can be given as a file.");
    note.textContent = isPainted ? hint : [name, reason].filter(Boolean).join(" · ");
    fault.textContent = "";
  };
  const painted = () => {
    given = null;
    say();
  };
  const painter = bitmap && new Painter(bitmap, { label: _("Photo; paint over what is damaged"), opacity: 0.5, tint: VEIL, size: BRUSH, changed: painted });
  const show = async (file) => {
    painter?.clear();
    given = file; // at once: the button may be pressed before it is painted
    const mask = await bitmapOf(file);
    if (mask && mask.width === bitmap?.width && mask.height === bitmap?.height) painter.take(opaque(mask));
    say();
  };
  const input = el("input", { type: "file", accept: PICTURES, hidden: true, onchange: () => input.files[0] && guarded(() => show(input.files[0])) });
  const done = async () => {
    try {
      const mask = given ?? (painter && (found || !painter.isEmpty) ? await maskOf(painter, bitmap) : null);
      take(mask && `${await upload(mask)}/${safeName(mask.name)}`);
    } catch (cause) {
      fault.textContent = cause.message;
      return false;
    }
  };
  const button = (text, onclick) => el("button", { type: "button", class: "ct-plain", onclick }, text);
  const bar = el("div", { class: "ct-bar" }, button(_("Mask from a file"), () => input.click()), result && el("a", { class: "ct-button ct-plain", href: result.url, download: result.name }, _("Download the mask")), el("button", { type: "button", class: "ct-rest", onclick: () => guarded(done, dialog) }, found ? _("Restore with it") : _("Take it")));
  const dialog = openDialog(_("Damage of {name}", { name: photo.name }), el("div", {}, note, painter?.element, fault, bar, input), () => bitmap?.close());
  say();
  painter?.canvas.focus(); // so that its keys work at once
  if (found) await show(found);
  else if (photo.mask) await show(await uploaded(photo.mask)).catch(() => {}); // it may be gone
}

async function uploaded(ref) {
  const [id, name] = ref.split("/");
  return new File([await contentOf(`/uploads/${id}`)], name);
}

/** What is painted as a picture of the photo's size: white on black. */
async function maskOf(painter, { width, height }) {
  const mask = await pngOf(painter.layer(width, height, { colour: "#fff", ground: "#000" }), "mask.png");
  if (!mask) throw new Fault(0, _("the photo is too large for the brush of this browser; give the mask as a file"), "mask");
  return mask;
}

/** A canvas that is opaque where a mask is white, or where it is opaque itself if parts of it are not. */
function opaque(mask) {
  const canvas = el("canvas", { width: mask.width, height: mask.height });
  const context = canvas.getContext("2d");
  context.drawImage(mask, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  let isLayer = false;
  for (let n = 3; n < data.length; n += 4) isLayer ||= data[n] < 255;
  for (let n = 0; n < data.length; n += 4) {
    const light = isLayer ? data[n + 3] : 0.299 * data[n] + 0.587 * data[n + 1] + 0.114 * data[n + 2];
    data[n] = data[n + 1] = data[n + 2] = 255;
    data[n + 3] = light > 127 ? 255 : 0;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
