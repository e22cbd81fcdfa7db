// The SHA-256 of files, beside the page: a large photo does not stop it. Browsers have it built in for pages with TLS or
// on this computer; others get the one below.

const K = new Uint32Array(64);
const START = new Uint32Array(8);
for (let n = 2, count = 0; count < 64; n++) {
  let isPrime = true;
  for (let d = 2; d * d <= n; d++) isPrime &&= n % d !== 0;
  if (!isPrime) continue;
  const part = (root) => ((root - Math.floor(root)) * 2 ** 32) | 0;
  if (count < 8) START[count] = part(Math.sqrt(n));
  K[count++] = part(Math.cbrt(n));
}

class Sha256 {
  state = START.slice();
  words = new Uint32Array(64);
  rest = new Uint8Array(0);
  length = 0;

  update(bytes) {
    this.length += bytes.length;
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const end = all.length - (all.length % 64);
    const view = new DataView(all.buffer);
    for (let at = 0; at < end; at += 64) this.block(view, at);
    this.rest = all.slice(end);
  }

  block(view, at) {
    const w = this.words;
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = this.state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (this.state[i] += value));
  }

  digest() {
    const bits = this.length * 8;
    const end = new Uint8Array(((this.rest.length + 8 < 64 ? 1 : 2) * 64) - this.rest.length);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(end.length - 4, bits >>> 0);
    this.update(end);
    return [...this.state].map((word) => word.toString(16).padStart(8, "0")).join("");
  }
}

async function hashOf(file, isPlain) {
  if (globalThis.crypto?.subtle && !isPlain) {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  const sum = new Sha256();
  for (let at = 0; at < file.size; at += 1 << 22) {
    sum.update(new Uint8Array(await file.slice(at, at + (1 << 22)).arrayBuffer()));
  }
  return sum.digest();
}

addEventListener("message", async ({ data }) => {
  try {
    postMessage({ id: data.id, hash: await hashOf(data.file, data.isPlain) });
  } catch (fault) {
    postMessage({ id: data.id, fault: String(fault) });
  }
});
