// Strokes painted over a picture with a mouse, a pen or a finger, at any zoom.

import { el } from "./dom.js";
import { _ } from "./texts.js";
import { Viewport } from "./viewport.js";

const SMALL = 1600; // pixels of the longer side of the copy that is shown of a large picture
const PLAIN = 3; // from this zoom on single pixels are shown as they are
const SIZES = { min: 2, max: 80, step: 1 }; // of the brush, in CSS pixels: the closer one looks, the finer it paints
const RING = 900; // milliseconds for which the size of the brush is shown when it changes

/**
 * A picture to paint on: `element` holds it with its tools; `layer` makes the strokes of any size.
 *
 * `size` is that of the brush at first, in CSS pixels, and `colour()` is asked for that of the next stroke. `changed()`
 * is called when a stroke is complete, taken back or cleared. `opacity` is that of the strokes as they are shown, `tint`
 * a colour for all of them.
 */
export class Painter {
  strokes = []; // {size, colour, points, isErased}, in pixels of the picture
  under = null; // strokes of a file, drawn first
  cleared = null; // [strokes, under] before all was cleared
  tool = "brush"; // eraser, hand

  constructor(bitmap, { label, opacity, size, changed, colour = () => "#fff", tint = null, id = null }) {
    Object.assign(this, { bitmap, opacity, colour, changed, tint });
    this.small = smallOf(bitmap);
    this.over = el("canvas"); // the strokes as they are shown
    this.canvas = el("canvas", { tabIndex: 0, role: "application", "aria-label": label });
    this.ring = el("div", { class: "ct-ring", hidden: true });
    this.view = new Viewport(this.canvas, bitmap, {
      draw: () => this.show(),
      begin: (point) => this.begin(point),
      move: (points) => this.move(points),
      end: () => this.changed(),
      cancel: () => this.cancel(),
      undo: () => this.undo(),
      isHand: () => this.tool === "hand",
    });
    for (const name of ["pointermove", "pointerdown"]) this.canvas.addEventListener(name, (event) => this.follow(event));
    this.canvas.addEventListener("pointerleave", () => (this.ring.hidden = true));
    this.element = this.build(id, size);
  }

  build(id, size) {
    const frame = el("div", { class: "ct-paint" }, this.canvas, this.ring);
    frame.style.aspectRatio = `${this.bitmap.width} / ${this.bitmap.height}`;
    const button = (text, onclick, more = {}) => el("button", { type: "button", class: "ct-plain", onclick, ...more }, text);
    const tools = { brush: _("Brush"), eraser: _("Eraser"), hand: _("Move") };
    const titles = { hand: _("Drag the photo; with the brush: hold space, or use two fingers") };
    this.tools = Object.entries(tools).map(([name, title]) => button(title, () => this.pick(name), { "data-tool": name, title: titles[name] ?? null }));
    this.percent = el("output", { class: "ct-percent", "aria-label": _("Zoom") });
    const { view } = this;
    this.closer = button("+", view.zoomIn, { "aria-label": _("Zoom in"), title: _("Zoom in: wheel, two fingers, or the key +") });
    this.farther = button("−", view.zoomOut, { "aria-label": _("Zoom out"), title: _("Zoom out: wheel, two fingers, or the key -") });
    const whole = button(_("Whole photo"), view.fit);
    const zoom = el("span", { class: "ct-zoom", role: "group", "aria-label": _("Zoom") }, this.farther, this.percent, this.closer, whole);
    const changes = el("span", { class: "ct-rest" }, button(_("Undo"), () => this.undo()), button(_("Clear all"), () => this.clear()));
    const bar = el("div", { class: "ct-tools", role: "group", "aria-label": _("Tools") }, el("span", { class: "ct-zoom" }, this.tools), zoom, changes);
    const [brush, line] = slider(id, _("Brush size"), { ...SIZES, value: size });
    brush.addEventListener("input", () => this.showSize());
    this.brush = brush;
    const element = Object.assign(el("div", { class: "ct-painter" }, bar, frame, line), { painter: this });
    this.pick("brush");
    return element;
  }

  pick(tool) {
    this.tool = tool;
    for (const button of this.tools) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    this.show();
  }

  get isEmpty() {
    return !this.strokes.length && !this.under;
  }

  /** Takes the last stroke back, or the clearing of all. */
  undo() {
    if (this.strokes.pop()) this.change();
    else if (this.cleared) {
      [[this.strokes, this.under], this.cleared] = [this.cleared, null];
      this.change();
    }
  }

  clear() {
    if (!this.isEmpty) this.cleared = [this.strokes, this.under];
    [this.strokes, this.under] = [[], null];
    this.change();
  }

  /** Shows the strokes of a file instead of those that were painted. */
  take(bitmap) {
    [this.strokes, this.under, this.cleared] = [[], bitmap, null];
    this.show();
  }

  change() {
    this.show();
    this.changed();
  }

  begin(point) {
    const isErased = this.tool === "eraser";
    this.strokes.push({ size: Number(this.brush.value) / this.view.scale, colour: this.colour(), points: [], ...(isErased ? { isErased } : {}) });
    this.move([point]);
  }

  move(points) {
    const rounded = points.map((point) => point.map((value) => Math.round(10 * value) / 10));
    this.strokes.at(-1)?.points.push(...rounded);
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.show());
  }

  cancel() {
    this.strokes.pop();
    this.show();
  }

  // Showing

  show() {
    const { canvas, view, over } = this;
    if (!view?.density || !this.percent) return; // not in the page yet
    const context = canvas.getContext("2d");
    context.resetTransform();
    context.clearRect(0, 0, canvas.width, canvas.height);
    view.place(context);
    const { width, height } = this.bitmap;
    context.imageSmoothingEnabled = view.scale < PLAIN;
    context.drawImage(view.scale * view.density * width <= this.small.width ? this.small : this.bitmap, 0, 0, width, height);
    [over.width, over.height] = [canvas.width, canvas.height];
    this.draw(over, (layer) => view.place(layer), { colour: this.tint });
    context.resetTransform();
    context.globalAlpha = this.opacity;
    context.drawImage(over, 0, 0);
    context.globalAlpha = 1;
    this.percent.textContent = `${Math.round(100 * view.scale)} %`;
    [this.closer.disabled, this.farther.disabled] = [view.scale >= view.most, view.isFit];
    canvas.dataset.act = view.isPanning ? "hand" : "brush";
  }

  /** The size of the brush around the pointer. */
  follow(event) {
    const [x, y] = this.view.placeOf(event);
    this.ring.hidden = event.pointerType === "touch" || this.view.isPanning;
    this.placeRing(x, y);
  }

  placeRing(x, y) {
    const size = Number(this.brush.value);
    Object.assign(this.ring.style, { left: `${x - size / 2}px`, top: `${y - size / 2}px`, width: `${size}px`, height: `${size}px` });
  }

  /** The same in the middle, for a moment, while the size is chosen. */
  showSize() {
    this.placeRing(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2);
    this.ring.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.ring.hidden = true), RING);
  }

  /** A canvas with the strokes alone: in their colours or all in one, on a ground or on a transparent one. */
  layer(width, height, colours = {}) {
    const canvas = el("canvas", { width, height });
    return this.draw(canvas, (context) => context.scale(width / this.bitmap.width, height / this.bitmap.height), colours);
  }

  draw(canvas, place, { colour = null, ground = null } = {}) {
    const context = canvas.getContext("2d");
    const { width, height } = this.bitmap;
    context.save();
    place(context);
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    if (this.under) context.drawImage(this.under, 0, 0, width, height);
    Object.assign(context, { lineCap: "round", lineJoin: "round" });
    for (const { size, colour: strokeStyle, points, isErased } of this.strokes.filter((stroke) => stroke.points.length)) {
      Object.assign(context, { lineWidth: size, strokeStyle, globalCompositeOperation: isErased ? "destination-out" : "source-over" });
      context.beginPath();
      context.moveTo(...points[0]);
      for (const point of points.length > 1 ? points : [points[0], points[0]]) context.lineTo(...point);
      context.stroke();
    }
    context.restore();
    const fill = (fillStyle, globalCompositeOperation) => {
      Object.assign(context, { fillStyle, globalCompositeOperation });
      context.fillRect(0, 0, canvas.width, canvas.height);
    };
    if (colour) fill(colour, "source-in");
    if (ground) fill(ground, "destination-over");
    return canvas;
  }
}

/** Width and height of a picture whose longer side is at most `side`. */
export function sizeWithin(side, { width, height }) {
  const scale = Math.min(1, side / Math.max(width, height));
  return [width, height].map((length) => Math.max(1, Math.round(length * scale)));
}

/** A small copy of a large picture, which is drawn quickly; a small picture itself. */
function smallOf(bitmap) {
  const [width, height] = sizeWithin(SMALL, bitmap);
  if (width === bitmap.width) return bitmap;
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
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
