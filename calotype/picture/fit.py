"""Fitting a picture to a file format: what the format cannot hold is turned into what it can, and said."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calotype import __version__
from calotype.picture.alpha import by_rows, on_white
from calotype.picture.codecs.formats import Format
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata import xmp
from calotype.picture.metadata.exif import Exif
from calotype.picture.picture import Metadata, Picture

_JPEG_EXIF, _JPEG_XMP = 65_527, 65_504  # bytes that one segment of a JPEG holds
_NO_RESOLUTION = ("webp", "avif", "heic")  # formats that can tell it by EXIF only


@dataclass(frozen=True, eq=False)
class Ready:
    """What goes into the file, fitted to its format."""

    colour: np.ndarray  # (H, W, 1 or 3)
    alpha: np.ndarray | None
    icc: bytes | None
    exif: Exif
    xmp: bytes | None
    dpi: tuple[float, float] | None
    quality: int
    infotext: str = ""  # for PNG; other formats have it in the EXIF

    @property
    def samples(self) -> np.ndarray:  # (H, W, 1 to 4)
        return self.colour if self.alpha is None else np.concatenate([self.colour, self.alpha[:, :, None]], axis=2)

    @property
    def told(self) -> dict[str, Any]:
        """Metadata as keywords of Pillow's writers."""
        values = {"icc_profile": self.icc, "exif": b"Exif\0\0" + exif_blocks.pack(self.exif), "xmp": self.xmp}
        return {key: value for key, value in values.items() if value}


def fitted(
    picture: Picture, known: Format, quality: int, strip_location: bool, record: str
) -> tuple[Ready, tuple[str, ...]]:
    """Pixels and metadata as the format can hold them, and what it could not."""
    colour, alpha, notes = picture.pixels, picture.alpha, []
    if alpha is not None and not known.has_alpha:
        notes.append(f"{known.title} has no transparency: laid on white")
        colour, alpha = on_white(colour, alpha), None
    if colour.dtype == np.uint16 and known.deep < 16:
        notes.append(f"{known.title} keeps {known.deep} bits only")
        if known.deep == 8:
            colour, alpha = _in_8_bits(colour), None if alpha is None else _in_8_bits(alpha)
    icc, dpi = picture.metadata.icc, picture.metadata.dpi
    if colour.shape[2] == 1 and (known.name == "webp" or (known.name == "avif" and alpha is not None)):
        colour, icc = _in_rgb(colour, icc)
    ready = Ready(colour, alpha, icc, Exif(), None, dpi, quality)
    if known.name == "bmp":
        return replace(ready, icc=None), (*notes, *_bmp_losses(picture.metadata, record))
    exif = _exif(picture, strip_location, dpi if known.name in _NO_RESOLUTION else None)
    packet, xmp_notes = _xmp(picture, strip_location, record)
    if (infotext := picture.metadata.infotext) and known.name != "png":
        exif = exif_blocks.with_comment(exif, infotext)
    ready = replace(ready, exif=exif, xmp=packet, infotext=infotext)
    if known.name == "jpeg":
        ready, jpeg_notes = _in_segments(ready, picture, strip_location)
        xmp_notes += jpeg_notes
    return ready, (*notes, *xmp_notes)


def _bmp_losses(metadata: Metadata, record: str) -> tuple[str, ...]:
    held = {"colour profile": metadata.icc, "EXIF": metadata.exif, "XMP": metadata.xmp, "record": record}
    lost = [what for what, value in held.items() if value]
    return (f"BMP has no place for {', '.join(lost)}: left out",) if lost else ()


def _exif(picture: Picture, strip_location: bool, dpi: tuple[float, float] | None) -> Exif:
    block = picture.metadata.exif
    told = exif_blocks.parse(block) if block else Exif()
    height, width, _ = picture.pixels.shape
    told = exif_blocks.for_size(told, width, height)
    told = exif_blocks.without_place(told) if strip_location else told
    if dpi or (picture.metadata.dpi and exif_blocks.X_RESOLUTION in told.root):
        told = exif_blocks.with_resolution(told, picture.metadata.dpi)
    return exif_blocks.with_software(told, f"Calotype {__version__}")


def _xmp(picture: Picture, strip_location: bool, record: str) -> tuple[bytes | None, tuple[str, ...]]:
    height, width, _ = picture.pixels.shape
    try:
        return xmp.rewritten(picture.metadata.xmp, width, height, strip_location, record), ()
    except ValueError:
        return xmp.rewritten(None, width, height, strip_location, record), ("the XMP is damaged and left out",)


def _in_segments(ready: Ready, picture: Picture, strip_location: bool) -> tuple[Ready, tuple[str, ...]]:
    """A JPEG's segments end at 64 KB: the maker's note goes first, then what is still too long."""
    notes: list[str] = []
    if len(exif_blocks.pack(ready.exif)) > _JPEG_EXIF:
        notes.append("the maker's note is too long for JPEG and left out")
        photo = {tag: entry for tag, entry in ready.exif.photo.items() if tag != exif_blocks.MAKER_NOTE}
        ready = replace(ready, exif=replace(ready.exif, photo=photo))
    if len(exif_blocks.pack(ready.exif)) > _JPEG_EXIF:
        notes.append("the EXIF is too long for JPEG and left out")
        ready = replace(ready, exif=exif_blocks.with_software(Exif(), f"Calotype {__version__}"))
    if ready.xmp and len(ready.xmp) > _JPEG_XMP:
        notes.append("the record and the XMP together are too long for JPEG: the record is left out")
        ready = replace(ready, xmp=_xmp(picture, strip_location, "")[0])
    if ready.xmp and len(ready.xmp) > _JPEG_XMP:
        notes.append("the XMP is too long for JPEG and left out")
        ready = replace(ready, xmp=None)
    return ready, tuple(notes)


def _in_8_bits(samples: np.ndarray) -> np.ndarray:
    """16 bits -> 8 bits, rounded: 257 steps to one."""
    return by_rows(lambda part: ((part.astype(np.uint32) + 128) // 257).astype(np.uint8), samples)


def _in_rgb(grey: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """Grey -> RGB for formats without grey; through the grey profile, which RGB pixels could not carry."""
    from PIL import Image

    turned = profile.to_srgb(icc, "L") if icc else None
    if turned is None:
        return np.repeat(grey, 3, axis=2), None
    if grey.dtype == np.uint16:  # Little CMS takes 8 bits from Pillow: a curve of them, read between its points
        curve = np.asarray(turned(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0, :, 0]
        points = np.interp(np.arange(65_536), np.arange(256) * 257, curve * 257.0)
        return np.repeat(np.rint(points).astype(np.uint16)[grey], 3, axis=2), profile.srgb()
    return by_rows(lambda part: np.asarray(turned(Image.fromarray(part[:, :, 0]))), grey), profile.srgb()
