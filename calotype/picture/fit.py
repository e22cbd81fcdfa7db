"""Converts a picture to what a file format can store, and notes what is lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calotype import __version__
from calotype.dialects.readers import generator_texts
from calotype.picture import notes as about
from calotype.picture.alpha import by_rows, in_8_bits, on_white
from calotype.picture.codecs.formats import Format
from calotype.picture.codecs.segments import MAX_EXIF, MAX_XMP
from calotype.picture.metadata import color_space, families
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.exif import Exif
from calotype.picture.metadata.families import Blocks, Target
from calotype.picture.metadata.geometry import Geometry
from calotype.picture.metadata.iptc import Iptc
from calotype.picture.metadata.xmp import Packet, set_record
from calotype.picture.picture import Metadata, Picture

_IIM = ("jpeg", "tiff")  # formats that hold IPTC captions as they are
_COMMENTS = ("jpeg", "png")  # formats with a comment of their own
_NO_RESOLUTION = ("webp", "avif", "heic", "jxl")  # formats that store the resolution in EXIF only


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
    texts: Mapping[str, str] = field(default_factory=dict)  # of other image generators; for PNG alone
    comment: str = ""  # for JPEG and PNG; other formats store it in the EXIF
    iptc: Iptc | None = None  # for JPEG and TIFF; other formats store it in the XMP
    extended_xmp: bytes | None = None  # for JPEG

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
        notes.append(about.NO_TRANSPARENCY.format(format=known.title))
        colour, alpha = on_white(colour, alpha), None
    if colour.dtype == np.uint16 and known.bits < 16:
        notes.append(about.FEWER_BITS.format(format=known.title, bits=known.bits))
        if known.bits == 8:
            colour, alpha = in_8_bits(colour), None if alpha is None else in_8_bits(alpha)
    icc, dpi = picture.metadata.icc, picture.metadata.dpi
    if colour.shape[2] == 1 and (known.name == "webp" or (known.name == "avif" and alpha is not None)):
        colour, icc = in_rgb(colour, icc)
    if icc is not None and known.name == "bmp":
        colour, icc = profile.in_srgb(colour, icc), None
        notes.append("BMP has no place for a colour profile: converted to sRGB")
    if icc is not None and known.name == "jxl" and quality < 100 and (alpha is not None or colour.dtype == np.uint16):
        notes.append("its pixels are saved lossless: the lossy ones of JPEG XL take no colour profile here")
    content = EncoderInput(colour, alpha, icc, Exif(), None, dpi, quality)
    if known.name == "bmp":
        return content, (*notes, *_bmp_losses(picture.metadata, record))
    blocks, metadata_notes = _blocks(picture, known, strip_location)
    exif, xmp_notes = color_space.exif_in(picture.metadata.icc, blocks.exif), ()
    if dpi and (known.name in _NO_RESOLUTION or exif_blocks.X_RESOLUTION in exif.root):
        exif = exif_blocks.with_resolution(exif, dpi)
    comment, infotext = picture.metadata.comment, picture.metadata.infotext
    if known.name != "png" and infotext:
        exif = exif_blocks.with_comment(exif, infotext)
    if comment and known.name not in _COMMENTS:
        if exif_blocks.USER_COMMENT not in exif.photo:
            exif = exif_blocks.with_comment(exif, comment)
        elif exif_blocks.comment(exif) != comment:
            notes.append(about.NO_SECOND_COMMENT.format(format=known.title))
    texts = generator_texts(picture.metadata.texts)
    if known.name != "png" and (lost := _without_place(texts, exif)):
        names = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        notes.append(about.NO_PARAMETERS.format(format=known.title, names=names))
    exif = exif_blocks.with_software(exif, f"Calotype {__version__}")
    content = replace(content, exif=exif, infotext=infotext, texts=texts, comment=comment, iptc=blocks.iptc)
    if known.name == "jpeg":
        content, jpeg_notes = _in_segments(content, blocks.packet, record)
        xmp_notes += jpeg_notes
    elif blocks.packet or record:
        packet = blocks.packet or Packet()
        set_record(packet, record)
        content = replace(content, xmp=None if packet.is_empty else packet.serialized())
    return content, (*notes, *metadata_notes, *xmp_notes)


def _blocks(picture: Picture, known: Format, strip_location: bool) -> tuple[Blocks, tuple[str, ...]]:
    """The metadata as they are right for the result, and notes."""
    metadata, notes = picture.metadata, ()
    height, width, _ = picture.pixels.shape
    blocks = Blocks(exif_blocks.parse(metadata.exif) if metadata.exif else Exif(), None, metadata.iptc)
    try:
        blocks.packet = Packet(metadata.xmp) if metadata.xmp else None
    except ValueError:
        notes = ("the XMP is damaged and left out",)
    geometry = Geometry(metadata.size or (height, width), (height, width), is_part=metadata.is_of_whole)
    notes += families.update(blocks, geometry, Target(known.name, width, height, metadata.dpi), strip_location)
    if blocks.iptc and known.name not in _IIM:
        blocks.packet = blocks.packet or Packet()
        if lost := captions.add_to(blocks.packet, captions.texts(blocks.iptc)):
            names = ", ".join(f"2:{number}" for number in lost)
            notes += (about.NO_CAPTIONS.format(format=known.title, names=names),)
        blocks.iptc = None
    return blocks, notes


def _without_place(texts: Mapping[str, str], exif: Exif) -> list[str]:
    """The keywords of texts that are not in the EXIF too, as ComfyUI and NovelAI store them in WebP."""
    stored = exif_blocks.texts(exif).values()
    return [keyword for keyword, text in texts.items() if not any(text in value for value in stored)]


def _bmp_losses(metadata: Metadata, record: str) -> tuple[str, ...]:
    fields = {"EXIF": metadata.exif, "XMP": metadata.xmp, "IPTC": metadata.iptc}
    fields |= {"comment": metadata.comment, "record": record}
    fields |= {"generation parameters": metadata.infotext or generator_texts(metadata.texts)}
    lost = [what for what, value in fields.items() if value]
    return (about.NO_PLACE_IN_BMP.format(names=", ".join(lost)),) if lost else ()


def _in_segments(content: EncoderInput, packet: Packet | None, record: str) -> tuple[EncoderInput, tuple[str, ...]]:
    """A JPEG segment holds 64 KB at most: drops the maker's note first, then what is still too long."""
    notes: list[str] = []
    if len(exif_blocks.pack(content.exif)) > MAX_EXIF:
        notes.append("the maker's note is too long for JPEG and left out")
        content = replace(content, exif=exif_blocks.without_note(content.exif))
    if len(exif_blocks.pack(content.exif)) > MAX_EXIF:
        notes.append("the EXIF is too long for JPEG and left out")
        content = replace(content, exif=exif_blocks.with_software(Exif(), f"Calotype {__version__}"))
    packet = packet or Packet()
    set_record(packet, record)
    if packet.is_empty:
        return content, tuple(notes)
    try:
        xmp, extended = packet.split(MAX_XMP)
    except ValueError:
        notes.append("the XMP is too long for JPEG and left out")
        packet = Packet()
        set_record(packet, record)
        xmp, extended = packet.split(MAX_XMP)
    return replace(content, xmp=xmp, extended_xmp=extended), tuple(notes)


def in_rgb(grey: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
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
