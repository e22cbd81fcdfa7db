"""Text in the lowest bits of the pixels, down the columns: of the alpha channel, or of red, green and blue.

Its signature is followed by the number of its bits (32, most significant first) and the text, compressed or not.
"""

import json
import zlib

import numpy as np

from calotype.picture.codecs.decoded import Pixels

SIGNATURES = {
    b"stealth_pnginfo": ("alpha", False),
    b"stealth_pngcomp": ("alpha", True),
    b"stealth_rgbinfo": ("rgb", False),
    b"stealth_rgbcomp": ("rgb", True),
}
_SIGNATURE, _LENGTH = 15, 4  # bytes
MAX_TEXT = 16 << 20  # bytes of a decompressed text


def texts(pixels: Pixels) -> dict[str, str]:
    """The texts that NovelAI and extensions of A1111 hide in pixels, by PNG's keywords; empty where there are none."""
    if pixels.colour.dtype != np.uint8:
        return {}
    for channels in ("alpha", "rgb"):
        samples = pixels.alpha if channels == "alpha" else pixels.colour
        if samples is None or (channels == "rgb" and samples.shape[2] != 3):
            continue
        found = SIGNATURES.get(_bytes(samples, 0, _SIGNATURE))
        if found and found[0] == channels:
            return _parsed(_text(samples, is_compressed=found[1]))
    return {}


def _bytes(samples: np.ndarray, start: int, count: int) -> bytes:
    """Bytes `start` to `start + count` of the hidden ones, of the columns from left to right; fewer at the end."""
    height, per_pixel = samples.shape[0], samples.shape[2] if samples.ndim == 3 else 1
    per_column = height * per_pixel
    first, last = start * 8 // per_column, -(-(start + count) * 8 // per_column)
    columns = samples[:, first:last].swapaxes(0, 1).reshape(-1)
    at = start * 8 - first * per_column
    return np.packbits(columns[at : at + count * 8] & 1).tobytes()


def _text(samples: np.ndarray, is_compressed: bool) -> str:
    bits = int.from_bytes(_bytes(samples, _SIGNATURE, _LENGTH), "big")
    start = _SIGNATURE + _LENGTH
    if bits % 8 or bits > samples.size - start * 8:
        return ""
    data = _bytes(samples, start, bits // 8)
    if is_compressed:
        decompressor = zlib.decompressobj(wbits=47)  # gzip or zlib
        try:
            data = decompressor.decompress(data, MAX_TEXT)
        except zlib.error:
            return ""
        if decompressor.unconsumed_tail:
            return ""
    return data.decode("utf-8", "replace")


def _parsed(text: str) -> dict[str, str]:
    """A JSON object of texts, as NovelAI writes it, or an infotext."""
    from calotype.dialects.fields import parse_object

    data = parse_object(text)
    if data and isinstance(data.get("Comment"), str | dict):
        comment = data["Comment"]
        plain = {str(key): value for key, value in data.items() if isinstance(value, str)}
        return plain | {"Comment": comment if isinstance(comment, str) else json.dumps(comment)}
    return {"parameters": text} if text else {}
