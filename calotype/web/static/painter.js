// Strokes painted over a picture with a mouse, a pen or a finger.

import { el } from "./dom.js";

/**
 * A canvas with a picture and strokes over it, of at most `maxSide` pixels; `layer` makes the strokes of any size.
 *
 * `brush()` is asked for the next stroke: {share, colour}, its width as a share of the shorter side. `changed()` is called
 * when a stroke begins, and `ended()` when it is complete. `opacity` is that of the strokes as they are shown,
 * `tint` a colour for all of them.
 */
export class Painter {
  strokes = []; // {size, colour, points}, in pixels of the canvas
  under = null; // strokes of a file, drawn first

  constructor(bitmap, { label, maxSide, opacity, brush, changed, ended = null, tint = null }) {
    Object.assign(this, { bitmap, opacity, brush, changed, ended, tint });
    const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    this.canvas = el("canvas", { width, height, role: "img", "aria-label": label });
    for (const name of ["pointerdown", "pointermove"]) this.canvas.addEventListener(name, (event) => this.paint(event));
    this.canvas.addEventListener("pointerup", () => this.ended?.());
    this.draw();
  }

  get isEmpty() {
    return !this.strokes.length && !this.under;
  }

  undo() {
    if (this.strokes.pop()) this.change();
  }

  clear() {
    [this.strokes, this.under] = [[], null];
    this.change();
  }

  /** Shows the strokes of a file instead of those that were painted. */
  take(bitmap) {
    [this.strokes, this.under] = [[], bitmap];
    this.draw();
  }

  change() {
    this.draw();
    this.changed();
    this.ended?.();
  }

  paint(event) {
    if (event.type === "pointermove" && !event.buttons) return;
    event.preventDefault();
    const { canvas } = this;
    const box = canvas.getBoundingClientRect();
    const at = [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
    if (event.type === "pointerdown") {
      canvas.setPointerCapture(event.pointerId);
      const { share, colour } = this.brush();
      this.strokes.push({ size: share * Math.min(canvas.width, canvas.height), colour, points: [] });
      this.changed();
    }
    this.strokes.at(-1)?.points.push(at.map((value) => Math.round(10 * value) / 10));
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    context.drawImage(this.bitmap, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = this.opacity;
    context.drawImage(this.layer(canvas.width, canvas.height, { colour: this.tint }), 0, 0);
    context.globalAlpha = 1;
  }

  /** A canvas with the strokes alone: in their colours or all in one, on a ground or on a transparent one. */
  layer(width, height, { colour = null, ground = null } = {}) {
    const canvas = el("canvas", { width, height });
    const context = canvas.getContext("2d");
    if (this.under) context.drawImage(this.under, 0, 0, width, height);
    context.scale(width / this.canvas.width, height / this.canvas.height);
    Object.assign(context, { lineCap: "round", lineJoin: "round" });
    for (const { size, colour: strokeStyle, points } of this.strokes.filter((stroke) => stroke.points.length)) {
      Object.assign(context, { lineWidth: size, strokeStyle });
      context.beginPath();
      context.moveTo(...points[0]);
      for (const point of points.length > 1 ? points : [points[0], points[0]]) context.lineTo(...point);
      context.stroke();
    }
    context.resetTransform();
    const fill = (fillStyle, globalCompositeOperation) => {
      Object.assign(context, { fillStyle, globalCompositeOperation });
      context.fillRect(0, 0, width, height);
    };
    if (colour) fill(colour, "source-in");
    if (ground) fill(ground, "destination-over");
    return canvas;
  }
}

/** A canvas as a PNG; null where it is larger than the browser can make. */
export async function pngOf(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return blob && new File([blob], name, { type: "image/png" });
}

/** The picture of a file, turned as it is shown; null in a format that only the service reads. */
export const bitmapOf = (file) => createImageBitmap(file).catch(() => null);

/** A slider with its value: [input, label]. */
export function slider(id, title, { min, max, step, value }) {
  const shown = el("output", {}, String(value));
  const input = el("input", { type: "range", min: String(min), max: String(max), step: String(step), value: String(value), oninput: () => (shown.textContent = input.value) });
  return [input, el("label", { class: "ct-stack", id }, el("span", { class: "ct-between" }, title, shown), input)];
}
