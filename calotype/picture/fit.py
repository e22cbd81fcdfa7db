"""Converts a picture to what a file format can store, and notes what is lost."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calotype import __version__
from calotype.picture.alpha import by_rows, in_8_bits, on_white
from calotype.picture.codecs.formats import Format
from calotype.picture.metadata import color_space, xmp
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata.exif import Exif
from calotype.picture.picture import Metadata, Picture

_JPEG_EXIF, _JPEG_XMP = 65_527, 65_504  # bytes that one segment of a JPEG holds
_NO_RESOLUTION = ("webp", "avif", "heic")  # formats that store the resolution in EXIF only


@dataclass(frozen=True, eq=False)
class EncoderInput:
    """What the encoder of a format writes into the file."""

    colour: np.ndarray  # (H, W, 1 or 3)
    alpha: np.ndarray | None
    icc: bytes | None
    exif: Exif
    xmp: bytes | None
    dpi: tuple[float, float] | None
    quality: int
    infotext: str = ""  # for PNG; other formats store it in the EXIF

    @property
    def samples(self) -> np.ndarray:  # (H, W, 1 to 4)
        return self.colour if self.alpha is None else np.concatenate([self.colour, self.alpha[:, :, None]], axis=2)

    @property
    def pillow_metadata(self) -> dict[str, Any]:
        """Metadata as keyword arguments of Pillow's writers."""
        values = {"icc_profile": self.icc, "exif": b"Exif\0\0" + exif_blocks.pack(self.exif), "xmp": self.xmp}
        return {key: value for key, value in values.items() if value}


def fitted(
    picture: Picture, known: Format, quality: int, strip_location: bool, record: str
) -> tuple[EncoderInput, tuple[str, ...]]:
    """Pixels and metadata as the format can store them, and notes about what it cannot."""
    colour, alpha, notes = picture.pixels, picture.alpha, []
    if alpha is not None and not known.has_alpha:
        notes.append(f"{known.title} has no transparency: laid on white")
        colour, alpha = on_white(colour, alpha), None
    if colour.dtype == np.uint16 and known.bits < 16:
        notes.append(f"{known.title} keeps {known.bits} bits only")
        if known.bits == 8:
            colour, alpha = in_8_bits(colour), None if alpha is None else in_8_bits(alpha)
    icc, dpi = picture.metadata.icc, picture.metadata.dpi
    if colour.shape[2] == 1 and (known.name == "webp" or (known.name == "avif" and alpha is not None)):
        colour, icc = _in_rgb(colour, icc)
    if icc is not None and known.name == "bmp":
        colour, icc = profile.in_srgb(colour, icc), None
        notes.append("BMP has no place for a colour profile: converted to sRGB")
    content = EncoderInput(colour, alpha, icc, Exif(), None, dpi, quality)
    if known.name == "bmp":
        return content, (*notes, *_bmp_losses(picture.metadata, record))
    exif = _exif(picture, strip_location, dpi if known.name in _NO_RESOLUTION else None)
    packet, xmp_notes = _xmp(picture, strip_location, record)
    if (infotext := picture.metadata.infotext) and known.name != "png":
        exif = exif_blocks.with_comment(exif, infotext)
    content = replace(content, exif=exif, xmp=packet, infotext=infotext)
    if known.name == "jpeg":
        content, jpeg_notes = _in_segments(content, picture, strip_location)
        xmp_notes += jpeg_notes
    return content, (*notes, *xmp_notes)


def _bmp_losses(metadata: Metadata, record: str) -> tuple[str, ...]:
    fields = {"EXIF": metadata.exif, "XMP": metadata.xmp, "record": record}
    lost = [what for what, value in fields.items() if value]
    return (f"BMP has no place for {', '.join(lost)}: left out",) if lost else ()


def _exif(picture: Picture, strip_location: bool, dpi: tuple[float, float] | None) -> Exif:
    block = picture.metadata.exif
    exif = exif_blocks.parse(block) if block else Exif()
    height, width, _ = picture.pixels.shape
    exif = color_space.exif_in(picture.metadata.icc, exif_blocks.for_size(exif, width, height))
    exif = exif_blocks.without_location(exif) if strip_location else exif
    if dpi or (picture.metadata.dpi and exif_blocks.X_RESOLUTION in exif.root):
        exif = exif_blocks.with_resolution(exif, picture.metadata.dpi)
    return exif_blocks.with_software(exif, f"Calotype {__version__}")


def _xmp(picture: Picture, strip_location: bool, record: str) -> tuple[bytes | None, tuple[str, ...]]:
    height, width, _ = picture.pixels.shape
    try:
        return xmp.updated(picture.metadata.xmp, width, height, strip_location, record), ()
    except ValueError:
        return xmp.updated(None, width, height, strip_location, record), ("the XMP is damaged and left out",)


def _in_segments(content: EncoderInput, picture: Picture, strip_location: bool) -> tuple[EncoderInput, tuple[str, ...]]:
    """A JPEG segment holds 64 KB at most: drops the maker's note first, then what is still too long."""
    notes: list[str] = []
    if len(exif_blocks.pack(content.exif)) > _JPEG_EXIF:
        notes.append("the maker's note is too long for JPEG and left out")
        exif_ifd = {tag: entry for tag, entry in content.exif.photo.items() if tag != exif_blocks.MAKER_NOTE}
        content = replace(content, exif=replace(content.exif, photo=exif_ifd))
    if len(exif_blocks.pack(content.exif)) > _JPEG_EXIF:
        notes.append("the EXIF is too long for JPEG and left out")
        content = replace(content, exif=exif_blocks.with_software(Exif(), f"Calotype {__version__}"))
    if content.xmp and len(content.xmp) > _JPEG_XMP:
        notes.append("the record and the XMP together are too long for JPEG: the record is left out")
        content = replace(content, xmp=_xmp(picture, strip_location, "")[0])
    if content.xmp and len(content.xmp) > _JPEG_XMP:
        notes.append("the XMP is too long for JPEG and left out")
        content = replace(content, xmp=None)
    return content, tuple(notes)


def _in_rgb(grey: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """Grey -> RGB for formats without grey, through the grey profile, which is not valid for RGB pixels."""
    from PIL import Image

    transform = profile.to_srgb(icc, "L") if icc else None
    if transform is None:
        return np.repeat(grey, 3, axis=2), None
    if grey.dtype == np.uint16:  # Pillow passes 8 bits to Little CMS: interpolate in a curve of 256 points
        curve = np.asarray(transform(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0, :, 0]
        points = np.interp(np.arange(65_536), np.arange(256) * 257, curve * 257.0)
        return np.repeat(np.rint(points).astype(np.uint16)[grey], 3, axis=2), profile.srgb()
    return by_rows(lambda band: np.asarray(transform(Image.fromarray(band[:, :, 0]))), grey), profile.srgb()
