"""WebP: the container is parsed here, libwebp (through imagecodecs) decodes the pixels."""

import io
from collections.abc import Iterator

import numpy as np

from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, split
from calotype.picture.metadata import families
from calotype.picture.metadata.exif import without_header


def open_webp(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a WebP; of an animated one a frame, by default the first.

    Raises:
        PictureError: damaged or cut off.
    """
    with decoding(name):
        listed = list(_chunks(data))
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


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ValueError("the end is missing")
    at = 12
    while at + 8 <= end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > end:
            raise ValueError("the end is missing")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


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
