// Files to the service: each is sent once, by the hash of its content. ZIP archives are opened in the browser.

import { Fault } from "./api.js";
import { _ } from "./texts.js";
import { filesOfZip, isZip } from "./zip.js";

const AT_ONCE = 2;
const MAX_FILES = 1000; // of one drop
const pending = new Map();
let worker = null;
let number = 0;
let running = 0;
const line = [];

function hash(file) {
  worker ??= start();
  return new Promise((resolve, reject) => {
    pending.set(++number, { resolve, reject });
    worker.postMessage({ id: number, file });
  });
}

function start() {
  const started = new Worker("/web/hash_worker.js");
  started.addEventListener("message", ({ data }) => {
    const { resolve, reject } = pending.get(data.id);
    pending.delete(data.id);
    if (data.fault) reject(new Fault(0, _("the file cannot be read; it may have been moved")));
    else resolve(data.hash);
  });
  return started;
}

function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/uploads");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onProgress?.(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response.id);
      else if (request.status === 401) location.assign("/login");
      else reject(new Fault(request.status, request.response?.detail ?? _("the file was not accepted")));
    });
    request.addEventListener("error", () => reject(new Fault(0, _("the connection broke; drop the file again"))));
    request.send(file);
  });
}

/** The id of a file in the service, which is sent unless it is there. Throws Fault. */
export async function upload(file, onProgress = null) {
  await turn();
  try {
    const id = await hash(file);
    const known = await fetch(`/uploads/${id}`, { method: "HEAD" });
    return known.status === 204 ? id : await send(file, onProgress);
  } finally {
    running--;
    line.shift()?.();
  }
}

async function turn() {
  if (running >= AT_ONCE) await new Promise((resolve) => line.push(resolve));
  running++;
}

/** A name that the service takes for a file: ID/name.jpg. */
export function safeName(name) {
  const plain = name.replace(/^.*[/\\]/, "").replace(/[\x00-\x1f\x7f/\\:*?"<>|]/g, "_").replace(/^[ .]+|[ .]+$/g, "");
  const [, stem, suffix] = plain.match(/^(.*?)(\.[^.]{1,10})?$/);
  return `${stem.slice(0, 80)}${suffix ?? ""}` || "photo";
}

/** The file of a result, to be sent as the source of another job. */
export async function fileOf(result) {
  const blob = await (await fetch(result.url)).blob();
  return new File([blob], safeName(result.name), { type: result.media_type });
}

/** The files of a drop or of a file input: those in folders and ZIP archives too. */
export async function filesOf(transfer) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const plain = entries.length ? (await Promise.all(entries.map(walk))).flat() : [...(transfer.files ?? [])];
  const files = [];
  for (const file of plain) files.push(...(isZip(file) ? await filesOfZip(file, MAX_FILES) : [file]));
  const visible = files.filter((file) => !file.name.startsWith(".") && file.size > 0);
  if (visible.length > MAX_FILES) throw new Fault(0, _("drop up to {count} files at a time", { count: MAX_FILES }));
  return visible;
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    found.push(...part);
    if (found.length > MAX_FILES) break;
  }
  return (await Promise.all(found.map(walk))).flat();
}
