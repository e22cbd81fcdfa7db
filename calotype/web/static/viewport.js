// The part of a picture that a canvas shows: zoom and pan by wheel, pinch, drag and keys.

const MOST = 8; // CSS pixels for a pixel of the picture
const STEP = 1.5; // of a button or a key
const SHIFT = 0.15; // of an arrow key, as a share of what is shown
const WHEEL = 400; // CSS pixels of the wheel by which the zoom changes e times
const PINCH = 100; // the same, of the pinch of a touchpad, which browsers tell as a wheel with Ctrl
const SETTLED = 300; // milliseconds after which a second finger, or a palm, does not end a stroke

/**
 * Zoom, pan and gestures of a canvas that shows a picture of {width, height}.
 *
 * `draw()` is called when something else is to be shown. What is drawn with a finger, a pen or the left button is told
 * by `begin(point)`, `move(points)` and `end()`, in pixels of the picture; `cancel()` takes it back, as it was the
 * beginning of a pinch. `isHand()` tells whether dragging moves the picture instead.
 */
export class Viewport {
  scale = 0; // CSS pixels of a pixel of the picture
  left = 0; // of what is shown, in pixels of the picture
  top = 0;
  isFit = true; // shows all of the picture, also after the canvas changes its size
  pointers = new Map(); // by id: places in CSS pixels of the canvas
  act = ""; // of the pointers: draw, pan, pinch, or none until all are lifted
  isHeld = false; // the space bar

  constructor(canvas, size, on) {
    Object.assign(this, { canvas, size, on });
    const handlers = { pointerdown: this.press, pointermove: this.move, pointerup: this.lift, pointercancel: this.lift, keydown: this.key, keyup: this.release, blur: this.release };
    for (const [name, handler] of Object.entries(handlers)) canvas.addEventListener(name, (event) => handler.call(this, event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** The scale at which all of the picture is shown. */
  get fitting() {
    return Math.min(this.canvas.clientWidth / this.size.width, this.canvas.clientHeight / this.size.height);
  }

  get most() {
    return Math.max(MOST, this.fitting);
  }

  resize() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return; // hidden
    const old = { width: canvas.width / this.density || width, height: canvas.height / this.density || height };
    this.density = devicePixelRatio;
    [canvas.width, canvas.height] = [width, height].map((side) => Math.round(side * this.density));
    const middle = [this.left + old.width / 2 / this.scale, this.top + old.height / 2 / this.scale];
    if (!this.isFit) [this.left, this.top] = [middle[0] - width / 2 / this.scale, middle[1] - height / 2 / this.scale];
    this.show(this.isFit ? this.fitting : this.scale);
  }

  /** Takes a scale: the whole picture lies in the middle; of a part of it some is always in the middle of the canvas. */
  show(scale) {
    const { canvas, size } = this;
    this.scale = Math.min(Math.max(scale, this.fitting), this.most);
    this.isFit = this.scale <= this.fitting;
    const kept = (start, shown, whole) => (this.isFit ? (whole - shown) / 2 : Math.min(Math.max(start, -shown / 2), whole - shown / 2));
    this.left = kept(this.left, canvas.clientWidth / this.scale, size.width);
    this.top = kept(this.top, canvas.clientHeight / this.scale, size.height);
    this.on.draw();
  }

  /** Zooms around a place of the canvas, else around its middle. Returns whether that changed anything. */
  zoom(factor, place = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    const [scale, [x, y]] = [this.scale, this.pointAt(place)];
    const next = Math.min(Math.max(scale * factor, this.fitting), this.most);
    [this.left, this.top] = [x - place[0] / next, y - place[1] / next];
    this.show(next);
    return this.scale !== scale;
  }

  zoomIn = () => this.zoom(STEP);
  zoomOut = () => this.zoom(1 / STEP);
  fit = () => this.show(0);

  /** Moves what is shown by CSS pixels. */
  pan(x, y) {
    this.left += x / this.scale;
    this.top += y / this.scale;
    this.show(this.scale);
  }

  /** The point of the picture at a place of the canvas. */
  pointAt([x, y]) {
    return [this.left + x / this.scale, this.top + y / this.scale];
  }

  /** Lets a context draw in pixels of the picture. */
  place(context) {
    const scale = this.scale * this.density;
    context.setTransform(scale, 0, 0, scale, -this.left * scale, -this.top * scale);
  }

  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  get isPanning() {
    return this.isHeld || this.on.isHand();
  }

  // Pointers

  press(event) {
    if (event.button > 1) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    if (this.act === "draw" && performance.now() - this.begun > SETTLED) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.placeOf(event));
    if (this.pointers.size === 1) {
      this.act = event.button === 1 || this.isPanning ? "pan" : "draw";
      this.begun = performance.now();
      if (this.act === "draw") this.on.begin(this.pointAt(this.placeOf(event)));
    } else if (this.pointers.size === 2) {
      if (this.act === "draw") this.on.cancel();
      this.act = "pinch";
    }
  }

  move(event) {
    const before = [...this.pointers.values()];
    const old = this.pointers.get(event.pointerId);
    if (!old) return;
    const place = this.placeOf(event);
    this.pointers.set(event.pointerId, place);
    if (this.act === "draw") {
      const events = event.getCoalescedEvents?.() ?? [];
      this.on.move((events.length ? events : [event]).map((each) => this.pointAt(this.placeOf(each))));
    } else if (this.act === "pan") this.pan(old[0] - place[0], old[1] - place[1]);
    else if (this.act === "pinch") this.pinch(before, [...this.pointers.values()]);
  }

  pinch([a, b], [c, d]) {
    const middle = ([x, y], [u, v]) => [(x + u) / 2, (y + v) / 2];
    const [from, to] = [middle(a, b), middle(c, d)];
    const length = ([x, y], [u, v]) => Math.max(1, Math.hypot(u - x, v - y));
    this.pan(from[0] - to[0], from[1] - to[1]);
    this.zoom(length(c, d) / length(a, b), to);
  }

  lift(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.act === "draw") event.type === "pointercancel" ? this.on.cancel() : this.on.end();
    this.act = this.pointers.size ? "none" : "";
  }

  /** The wheel of a page outside of a dialog scrolls it, until the canvas is worked at. */
  wheel(event) {
    const isAsked = event.ctrlKey || event.metaKey;
    if (!isAsked && !this.canvas.closest("dialog") && !this.canvas.closest(".ct-painter").contains(document.activeElement)) return;
    const pixels = event.deltaY * (event.deltaMode ? 33 : 1);
    const isChanged = this.zoom(Math.exp(-pixels / (event.ctrlKey ? PINCH : WHEEL)), this.placeOf(event));
    if (isChanged || isAsked) event.preventDefault();
  }

  // Keys

  key(event) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const undo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    const keys = {
      "+": this.zoomIn,
      "=": this.zoomIn,
      "-": this.zoomOut,
      0: this.fit,
      " ": () => (this.isHeld = true),
      ArrowLeft: () => this.pan(-SHIFT * width, 0),
      ArrowRight: () => this.pan(SHIFT * width, 0),
      ArrowUp: () => this.pan(0, -SHIFT * height),
      ArrowDown: () => this.pan(0, SHIFT * height),
    };
    const run = undo ? this.on.undo : event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!run) return;
    event.preventDefault();
    run();
    this.on.draw();
  }

  release(event) {
    if (event.type === "blur" || event.key === " ") this.isHeld = false;
    this.on.draw();
  }
}
