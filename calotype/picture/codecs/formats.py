"""File formats: names, magic bytes, readers and limits."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from calotype.errors import Message, PictureError
from calotype.tasks import FORMATS


@dataclass(frozen=True)
class Format:
    """Name and limits of a file format in which results are written."""

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
        Format("jxl", "JPEG XL", 1 << 18, max_pixels=1 << 28, bits=16),  # of the main profile, level 5
    )
}


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _is_bmp(head: bytes) -> bool:
    sizes = (12, 16, 40, 52, 56, 64, 108, 124)  # of the header
    return head.startswith(b"BM") and len(head) > 18 and int.from_bytes(head[14:18], "little") in sizes


def _has_brand(*brands: bytes) -> Callable[[bytes], bool]:
    """The kind of an ISO base media file, by the first brand in its list that says one."""

    def matches(head: bytes) -> bool:
        return head[4:8] == b"ftyp" and next((brand for brand in _brands(head) if brand in _BRANDS), None) in brands

    return matches


def _brands(head: bytes) -> list[bytes]:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF_BRANDS, _CR3_BRANDS = (b"avif", b"avis"), (b"crx ",)
_BRANDS = (*_HEIC_BRANDS, *_AVIF_BRANDS, *_CR3_BRANDS)


def _is_pcx(head: bytes) -> bool:
    if len(head) < 128 or head[0] != 10 or head[1] not in (0, 2, 3, 4, 5) or head[2] != 1:
        return False
    return head[3] in (1, 2, 4, 8) and head[64] == 0 and head[65] in (1, 2, 3, 4)


def _is_ico(head: bytes) -> bool:
    """By the first entry of its list, too: a TGA may begin with the same four bytes."""
    if len(head) < 22 or not head.startswith((b"\0\0\1\0", b"\0\0\2\0")):
        return False
    count, length, offset = (int.from_bytes(head[at : at + n], "little") for at, n in ((4, 2), (14, 4), (18, 4)))
    return count > 0 and head[9] == 0 and length > 0 and offset >= 6 + 16 * count


def _is_tga(head: bytes) -> bool:
    """By what its header can hold: the format has no magic bytes at its start."""
    if len(head) < 18 or head[1] > 1 or head[17] & 0xC0:
        return False
    kind, bits, has_palette = head[2], head[16], head[1] == 1
    depths = {1: (8, 16), 2: (15, 16, 24, 32), 3: (8, 16), 9: (8, 16), 10: (15, 16, 24, 32), 11: (8, 16)}
    if bits not in depths.get(kind, ()) or not (head[12] | head[13]) or not (head[14] | head[15]):
        return False
    if has_palette:
        return head[7] in (15, 16, 24, 32) and bool(head[5] | head[6])
    return kind not in (1, 9) and not any(head[3:8])


@dataclass(frozen=True)
class SourceFormat:
    """A file format that is read."""

    name: str
    title: str
    matches: Callable[[bytes], bool]  # whether a file begins so
    reader: str  # "module:function" in this folder
    has_pages: bool = False  # the reader takes the number of a picture in the file
    takes_file: bool = False  # the reader takes the open file, not its bytes
    remains_reader: str = ""  # of a damaged file, with the same arguments, where what is left of it can be read


# In this order, the most certain first.
SOURCES = (
    SourceFormat(
        "jpeg",
        "JPEG",
        _starts(b"\xff\xd8\xff"),
        "raster:open_jpeg",
        has_pages=True,
        remains_reader="raster:open_jpeg_remains",
    ),
    SourceFormat(
        "png",
        "PNG",
        _starts(b"\x89PNG\r\n\x1a\n"),
        "png:open_png",
        has_pages=True,
        remains_reader="png:open_png_remains",
    ),
    SourceFormat("gif", "GIF", _starts(b"GIF87a", b"GIF89a"), "raster:open_gif", has_pages=True),
    SourceFormat(
        "webp",
        "WebP",
        lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
        "webp:open_webp",
        has_pages=True,
    ),
    # Canon's, Olympus', Panasonic's, Fujifilm's, Minolta's and Sigma's; most others begin as a TIFF
    SourceFormat(
        "raw",
        "camera raw",
        lambda head: (
            (head[8:10] == b"CR" and head.startswith(b"II*\0"))
            or head.startswith((b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb"))
            or (head.startswith(b"II") and head[6:14] == b"HEAPCCDR")
            or _has_brand(*_CR3_BRANDS)(head)
        ),
        "raw:open_raw",
        takes_file=True,
    ),
    SourceFormat(
        "tiff",
        "TIFF",
        _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "tiff:open_tiff",
        has_pages=True,
        takes_file=True,
    ),
    SourceFormat("bmp", "BMP", _is_bmp, "raster:open_bmp"),
    SourceFormat("avif", "AVIF", _has_brand(*_AVIF_BRANDS), "heif:open_avif", has_pages=True),
    SourceFormat("heic", "HEIC", _has_brand(*_HEIC_BRANDS), "heif:open_heic", has_pages=True),
    SourceFormat(
        "jxl",
        "JPEG XL",
        _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
        "jxl:open_jxl",
        has_pages=True,
    ),
    SourceFormat(
        "jp2",
        "JPEG 2000",
        _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        "jp2:open_jp2",
        has_pages=True,
    ),
    SourceFormat("psd", "PSD", _starts(b"8BPS"), "psd:open_psd", takes_file=True),
    SourceFormat("qoi", "QOI", _starts(b"qoif"), "bitmaps:open_qoi"),
    SourceFormat("pdf", "PDF", lambda head: b"%PDF-" in head, "pdf:open_pdf", has_pages=True, takes_file=True),
    SourceFormat(
        "pnm",
        "PPM",
        lambda head: re.match(rb"P(?:[1-6Ff]\s+[#\d]|7\n)", head) is not None,
        "pnm:open_pnm",
        has_pages=True,
    ),
    SourceFormat("ico", "ICO", _is_ico, "bitmaps:open_ico", has_pages=True),
    SourceFormat("dcx", "DCX", _starts(b"\xb1\x68\xde\x3a"), "bitmaps:open_dcx", has_pages=True),
    SourceFormat("pcx", "PCX", _is_pcx, "bitmaps:open_pcx"),
    SourceFormat("tga", "TGA", _is_tga, "bitmaps:open_tga"),
)

# Kinds of files that are not read: first bytes and name.
_NON_IMAGES = (
    (b"%!PS", Message("a PostScript file")),
    (b"\xc5\xd0\xd3\xc6", Message("an EPS file")),
    (b"PK\x03\x04", Message("a ZIP archive")),
    (b"v/1\x01", Message("an OpenEXR file")),
    (b"#?RADIANCE", Message("a Radiance HDR file")),
    (b"SIMPLE  =", Message("a FITS file")),
    (b"II\xbc", Message("a JPEG XR")),
    (b"gimp xcf", Message("a GIMP file")),
    (b"DDS ", Message("a DDS texture")),
)


def recognise(head: bytes, name: str) -> SourceFormat:
    """The format by content, from a file's first bytes (256 or more, or all of a shorter file).

    Raises:
        PictureError: it is none of them; the message names the kind of file where it is known.
    """
    if head.startswith(_LFS_POINTER):
        raise PictureError(
            "{name} is a pointer of Git LFS, not the picture itself; run git lfs pull in its repository", name=name
        )
    if head.startswith(b"\x89PNG") and head[12:16] == b"CgBI":  # Xcode's entry before all others
        raise _not_readable(name, Message("a PNG in the form that Xcode makes for iOS (CgBI)"))
    for source in SOURCES:
        if source.matches(head):
            return source
    is_media = head[4:8] == b"ftyp"
    raise _not_readable(name, Message("a video or another file of its family") if is_media else _kind_of(head))


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def _not_readable(name: str, kind: Message) -> PictureError:
    titles = [KNOWN[format].title for format in FORMATS[1:]]
    return PictureError(
        "{name} is {kind}, not a picture of a kind we read; save it as {formats} or {last} first",
        name=name,
        kind=kind,
        formats=", ".join(titles[:-1]),
        last=titles[-1],
    )


def _kind_of(head: bytes) -> Message:
    for start, kind in _NON_IMAGES:
        if head.startswith(start):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"<svg", b"<?xml")):
        return Message("an SVG or other XML text")
    if text.lower().startswith((b"<!doctype html", b"<html")):
        return Message("a web page")
    return Message("text") if _is_text(head) else Message("something else")


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters; its last character may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None


_CONTROL = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")  # without white space and the escape of terminals
