"""WebP: the container is parsed here, libwebp (through imagecodecs) decodes the pixels."""

import io

import numpy as np

from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, split
from calotype.picture.metadata import families
from calotype.picture.metadata.exif import without_header

_KINDS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"C2PA")


def open_webp(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a WebP; of an animated one a frame, by default the first.

    Raises:
        PictureError: damaged or cut off.
    """
    with decoding(name):
        listed, end = _chunks(data)
        if 8 + int.from_bytes(data[4:8], "little") != end:  # some writers never fill in the length of the file
            data = data[:4] + (end - 8).to_bytes(4, "little") + data[8:end]
        chunks = dict(reversed(listed))  # the first of each kind is used
        size = _size(chunks)
    is_animated = b"ANIM" in chunks
    count = sum(kind == b"ANMF" for kind, _ in listed) if is_animated else 1
    notes = check_page(page, max(count, 1), name)

    def decode() -> Pixels:
        import imagecodecs

        with decoding(name):
            samples = _frame(data, max(page, 1) - 1) if is_animated else imagecodecs.webp_decode(data)
            if samples.shape[:2] != size:
                raise ValueError("two different sizes")
            colour, alpha = split(samples)
        return Pixels(colour, alpha, chunks.get(b"ICCP"))

    notes += (families.CREDENTIALS_NOTE,) if b"C2PA" in chunks else ()
    exif = without_header(chunks.get(b"EXIF", b"")) or None
    return PictureFile(size, decode, exif, chunks.get(b"XMP "), notes=notes, count=max(count, 1))


def _frame(data: bytes, number: int) -> np.ndarray:
    """The canvas of an animation with its frames up to this one, transparent where they do not reach."""
    from PIL import WebPImagePlugin

    # The plugin itself: Pillow's pixel limit is one per process. imagecodecs would drop the transparency.
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    image.seek(number)
    image.load()
    return np.asarray(image if image.mode == "RGBA" else image.convert("RGB"))


def _chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """The chunks, and where the file ends: by their own lengths, since the length of the whole may be wrong.

    Raises:
        ValueError: the last chunk is cut off.
    """
    declared_end, at, chunks = 8 + int.from_bytes(data[4:8], "little"), 12, []
    while at < len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at >= declared_end and kind not in _KINDS:
            break  # what is no part of the picture, such as a phone's own data
        if at + 8 + length > len(data):
            raise ValueError("the end is missing")
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks, min(at, len(data))


def _size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """Height and width, read before a decoder allocates memory for them."""
    if b"VP8X" in chunks:
        head = chunks[b"VP8X"]
        return 1 + int.from_bytes(head[7:10], "little"), 1 + int.from_bytes(head[4:7], "little")
    if b"VP8L" in chunks:
        bits = int.from_bytes(chunks[b"VP8L"][1:5], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    head = chunks[b"VP8 "]
    return int.from_bytes(head[8:10], "little") & 0x3FFF, int.from_bytes(head[6:8], "little") & 0x3FFF
