"""File formats: names, magic bytes and limits."""

from dataclasses import dataclass

from calotype.errors import Message, PictureError
from calotype.tasks import FORMATS


@dataclass(frozen=True)
class Format:
    """Name and limits of a file format."""

    name: str  # one of tasks.FORMATS
    title: str  # as people write it
    max_side: int  # longest side in pixels that encoder and decoder support
    max_pixels: int = 1 << 40  # of width times height
    bits: int = 8  # bits per sample that are stored
    has_alpha: bool = True


KNOWN = {
    known.name: known
    for known in (
        Format("jpeg", "JPEG", 65_500, has_alpha=False),  # libjpeg's own limit, a little under 65535
        Format("png", "PNG", 1_000_000, bits=16),
        Format("webp", "WebP", 16_383),
        Format("tiff", "TIFF", 1 << 31, bits=16),
        Format("bmp", "BMP", 1 << 20, max_pixels=1_400_000_000, has_alpha=False),
        Format("avif", "AVIF", 32_768, max_pixels=1 << 28),
        Format("heic", "HEIC", 16_384, max_pixels=1 << 28, bits=10),
    )
}

# Kinds of files that are not read: first bytes and name.
_NON_IMAGES = (
    (b"8BPS", Message("a Photoshop file")),
    (b"%!PS", Message("a PostScript file")),
    (b"\xc5\xd0\xd3\xc6", Message("an EPS file")),
    (b"%PDF", Message("a PDF")),
    (b"\x00\x00\x00\x0cjP  ", Message("a JPEG 2000")),
    (b"\xff\x0a", Message("a JPEG XL")),
    (b"\x00\x00\x00\x0cJXL ", Message("a JPEG XL")),
    (b"PK\x03\x04", Message("a ZIP archive")),
    (b"v/1\x01", Message("an OpenEXR file")),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}


def recognise(head: bytes, name: str) -> str:
    """The format by content, from a file's first bytes (64 or more): one of tasks.FORMATS, or gif.

    Raises:
        PictureError: it is none of them; the message names the kind of file where it is known.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        if head[12:16] == b"CgBI":  # Xcode's entry before all others
            raise _not_readable(name, Message("a PNG in the form that Xcode makes for iOS (CgBI)"))
        return "png"
    if head.startswith(_LFS_POINTER):
        raise PictureError(
            "{name} is a pointer of Git LFS, not the picture itself; run git lfs pull in its repository", name=name
        )
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"BM") and len(head) > 18 and head[14:18] in _BITMAP_HEADERS:
        return "bmp"
    if head[4:8] == b"ftyp":
        return _brand(head, name)
    raise _not_readable(name, _describe_content(head))


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_BITMAP_HEADERS = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def _not_readable(name: str, kind: Message) -> PictureError:
    return PictureError(
        "{name} is {kind}, not a picture of a kind we read; save it as {formats} or HEIC first",
        name=name,
        kind=kind,
        formats=", ".join(KNOWN[format].title for format in FORMATS[1:-1]),
    )


def _brand(head: bytes, name: str) -> str:
    """The format of an ISO base media file, by its list of four-letter brands."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "avif"
        if brand in _HEIC_BRANDS:
            return "heic"
    if brands[0] == b"crx ":
        raise _not_readable(name, Message("a camera's raw file"))
    raise _not_readable(name, Message("a video or another file of its family"))


def _describe_content(head: bytes) -> Message:
    for start, kind in _NON_IMAGES:
        if head.startswith(start):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"<svg", b"<?xml")):
        return Message("an SVG or other XML text")
    if text.lower().startswith((b"<!doctype html", b"<html")):
        return Message("a web page")
    return Message("text") if head.isascii() and b"\0" not in head else Message("something else")
