// Files to the service: each is sent once, by the hash of its content. ZIP archives are opened in the browser.

import { ask, Fault, gone, untilAnswered, words } from "./api.js";
import { _ } from "./texts.js";
import { filesOfZip, isZip } from "./zip.js";

const PICTURE =
  /\.(jp[eg]|jpeg|jfif|mpo|jls|a?png|webp|tiff?|bmp|dib|avif|hei[cf]|hif|jxl|gif|jp2|j2[kc]|jp[cfxh]|jhc|ps[db]|tga|icb|vda|vst|pcx|dcx|p[pgbn]m|p[af]m|qoi|ico|cur|dng|cr[23w]|nef|nrw|arw|srf|sr2|raf|orf|rw[2l]|pef|srw|x3f|mrw|3fr|fff|iiq|mef|mos|erf|kdc|dcr|gpr|pdf)$/i;
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
  started.addEventListener("error", () => {
    // its script did not come
    for (const { reject } of pending.values()) reject(gone());
    pending.clear();
    worker = null;
  });
  return started;
}

function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/uploads");
    request.responseType = "json";
    for (const [name, value] of Object.entries(words())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress?.(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response.id);
      else if (request.status === 401) location.assign("/login");
      else if (request.status === 413) reject(new Fault(413, _("the file has {size} MiB, more than this service takes; save it smaller", { size: Math.ceil(file.size / 2 ** 20) })));
      else reject(new Fault(request.status, request.response?.detail ?? _("the file was not accepted")));
    });
    request.addEventListener("error", () => reject(gone()));
    request.send(file);
  });
}

/** The id of a file in the service, which is sent unless it is there; `waits(fault)` while the service does not answer.
 *  Throws Fault. */
export async function upload(file, onProgress = null, waits = null) {
  await turn();
  try {
    let id = "";
    return await untilAnswered(async () => {
      id ||= await hash(file);
      const known = await ask(`/uploads/${id}`, { method: "HEAD" });
      return known.status === 204 ? id : send(file, onProgress);
    }, waits);
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

/** The content of a file of the service. Throws Fault. */
export async function contentOf(address) {
  const answer = await ask(address);
  if (!answer.ok) throw new Fault(answer.status, _("the file is not there any more; the page shows what is left when it is loaded again"));
  return answer.blob().catch(() => Promise.reject(gone()));
}

/** The file of a result, to be sent as the source of another job. Throws Fault. */
export async function fileOf(result) {
  return new File([await contentOf(result.url)], safeName(result.name), { type: result.media_type });
}

/** Whether a file is a picture by its name; one without a suffix may be. */
export const isPictureName = (name) => !name.startsWith(".") && (PICTURE.test(name) || !name.includes("."));

/** The files of a drop or of a file input, those in folders and ZIP archives too, and how many were left out because
 *  `isWanted` does not take their names. Throws Fault. */
export async function filesOf(transfer, isWanted = isPictureName) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const plain = entries.length ? (await Promise.all(entries.map(walk))).flat() : [...(transfer.files ?? [])];
  const files = [];
  let left = 0;
  for (const file of plain) {
    if (isZip(file)) {
      const held = await filesOfZip(file, isWanted, MAX_FILES);
      files.push(...held.files);
      left += held.left;
    } else if (isWanted(file.name) && file.size > 0) files.push(file);
    else left++;
  }
  if (files.length > MAX_FILES) throw new Fault(0, _("drop up to {count} files at a time", { count: MAX_FILES }));
  files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })); // as folders show them
  return { files, left };
}

/** What is said about files that were left out. */
export function leftOut(left, taken) {
  if (!left) return "";
  if (!taken) return _("no picture was among them; drop photos, folders of photos or ZIP files");
  return left === 1 ? _("1 file is no picture and was left out") : _("{count} files are no pictures and were left out", { count: left });
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
