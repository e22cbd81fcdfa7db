// Pictures in a ZIP archive, unpacked in the browser: the service never opens archives of strangers.

import { Fault } from "./api.js";
import { _ } from "./texts.js";

const MAX_BYTES = 2 ** 31; // unpacked, of one archive

export const isZip = (file) => /\.zip$/i.test(file.name) || file.type === "application/zip";

/** The files of an archive whose names `isWanted` takes, and how many were left out. Throws Fault for what is no archive. */
export async function filesOfZip(file, isWanted, maxFiles) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - 65557)).arrayBuffer());
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== 0x06054b50) at--;
  const bad = () => new Fault(0, _("{name} is not a ZIP archive that can be read; unpack it and drop the photos", { name: file.name }));
  if (at < 0) throw bad();
  const count = tail.getUint16(at + 10, true);
  const [size, start] = [tail.getUint32(at + 12, true), tail.getUint32(at + 16, true)];
  if (count === 0xffff || start === 0xffffffff || start + size > file.size) throw bad();
  const list = new DataView(await file.slice(start, start + size).arrayBuffer());
  const files = [];
  let [total, left] = [0, 0];
  for (let n = 0, place = 0; n < count; n++) {
    if (place + 46 > list.byteLength || list.getUint32(place, true) !== 0x02014b50) throw bad();
    const [flags, method] = [list.getUint16(place + 8, true), list.getUint16(place + 10, true)];
    const [packed, unpacked] = [list.getUint32(place + 20, true), list.getUint32(place + 24, true)];
    const [nameSize, extra, comment] = [28, 30, 32].map((offset) => list.getUint16(place + offset, true));
    const header = list.getUint32(place + 42, true);
    const path = nameOf(new Uint8Array(list.buffer, place + 46, nameSize), flags);
    const name = path.replace(/^.*[/\\]/, "");
    place += 46 + nameSize + extra + comment;
    if (!name) continue; // a folder
    if (!isWanted(name)) {
      left++;
      continue;
    }
    total += unpacked;
    if (flags & 1) throw new Fault(0, _("{name} has a password; unpack it and drop the photos", { name: file.name }));
    if (total > MAX_BYTES || files.length >= maxFiles) {
      throw new Fault(0, _("{name} holds too much; unpack it and drop its photos in parts", { name: file.name }));
    }
    const blob = await unpack(file, header, packed, unpacked, method);
    if (!blob) throw bad();
    files.push(new File([blob], name));
  }
  if (!files.length) throw new Fault(0, _("{name} holds no pictures", { name: file.name }));
  return { files, left };
}

/** The name of an entry: UTF-8 by its flag, or where it is valid; else that of Chinese Windows, and at last of Western. */
function nameOf(bytes, flags) {
  const isUtf8 = Boolean(flags & 0x800);
  for (const encoding of isUtf8 ? [] : ["utf-8", "gbk"]) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(bytes);
    } catch {
      // another one
    }
  }
  return new TextDecoder(isUtf8 ? "utf-8" : "windows-1252").decode(bytes);
}

async function unpack(file, header, packed, unpacked, method) {
  const local = new DataView(await file.slice(header, header + 30).arrayBuffer());
  if (local.byteLength < 30 || local.getUint32(0, true) !== 0x04034b50) return null;
  const start = header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const data = file.slice(start, start + packed);
  if (method === 0) return packed === unpacked && data.size === packed ? data : null;
  if (method !== 8) return null;
  const reader = data.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  let size = 0;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > unpacked) return void (await reader.cancel()) ?? null; // says less than it holds: a bomb
      parts.push(value);
    }
  } catch {
    return null;
  }
  return size === unpacked ? new Blob(parts) : null;
}
