"""A picture in memory: upright pixels and the metadata of its file."""

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from calotype.errors import Message, PictureError
from calotype.picture import decoder
from calotype.picture import notes as about
from calotype.picture.alpha import in_8_bits, on_white, with_visible_colours
from calotype.picture.codecs import formats
from calotype.picture.codecs.decoded import DamagedFile, PictureFile, Pixels, check_page, decoding
from calotype.picture.codecs.tiff import is_raw
from calotype.picture.decoder import ReadAhead, open_file
from calotype.picture.metadata import color_space, families, stealth, texts
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.families import Blocks
from calotype.picture.metadata.geometry import Geometry
from calotype.picture.metadata.iptc import Iptc
from calotype.picture.metadata.xmp import Packet

_HEAD_BYTES = 1024
_XMP_TAG = 700  # XMP in a TIFF, and in the EXIF of some programs
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Metadata:
    """What a file holds besides pixels, ready to be written into another file."""

    icc: bytes | None = None  # colour profile as found in the file
    exif: bytes | None = None  # TIFF block without the "Exif\0\0" prefix, for the upright picture, no thumbnail
    xmp: bytes | None = None  # packet, for the upright picture
    dpi: tuple[float, float] | None = None  # x, y
    texts: Mapping[str, str] = field(default_factory=dict)  # entries of image generators; "parameters" is infotext
    iptc: Iptc | None = None  # captions as JPEG and TIFF store them
    comment: str = ""  # of a JPEG or PNG, beside the EXIF's
    size: tuple[int, int] | None = field(default=None, compare=False)  # height, width that positions in it refer to
    is_of_whole: bool = field(default=False, compare=False)  # of a picture that this one was cut out of

    @property
    def infotext(self) -> str:
        """A1111's generation parameters, where the file has them."""
        return self.texts.get("parameters", "")


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels in the colours of `metadata.icc` (sRGB where there is none)."""

    pixels: np.ndarray  # (H, W, C) uint8 or uint16, C-contiguous, C is 1 (grey) or 3 (RGB), upright
    alpha: np.ndarray | None = None  # (H, W), same type, straight (not premultiplied)
    metadata: Metadata = Metadata()
    format: str = "png"  # a name in formats.SOURCES: what the file was, by content
    sha256: str = ""  # of the file's bytes
    notes: tuple[str | Message, ...] = ()  # sentences about what the reader changed or left out
    count: int = 1  # pictures in the file, of which this is one
    is_remains: bool = False  # what is left of a damaged file

    def then(self, pixels: np.ndarray, alpha: np.ndarray | None = None) -> "Picture":
        """New pixels with the same metadata."""
        return replace(self, pixels=np.ascontiguousarray(pixels), alpha=alpha)

    def part(self, pixels: np.ndarray, alpha: np.ndarray | None = None, turns: int = 0) -> "Picture":
        """A picture that was cut out of this one, and turned by counterclockwise quarters: positions are left out."""
        dpi = self.metadata.dpi
        metadata = replace(self.metadata, dpi=dpi[::-1] if dpi and turns % 2 else dpi, is_of_whole=True)
        return replace(self.then(pixels, alpha), metadata=metadata)

    def on_white(self) -> "Picture":
        """Composited over white, without alpha."""
        return self if self.alpha is None else self.then(on_white(self.pixels, self.alpha))

    def with_visible_colours(self) -> "Picture":
        """With the colours hidden under full transparency replaced by visible ones from around them."""
        pixels = with_visible_colours(self.pixels, self.alpha)
        return self if pixels is self.pixels else self.then(pixels, self.alpha)

    def known_part(self) -> tuple[slice, slice]:
        """The rows and columns that are left of a damaged file: without those of one colour along the side at which
        most are, where the rest is missing. All of them of any other file.
        """
        height, width = self.pixels.shape[:2]
        plain = [_plain_lines(np.rot90(self.pixels, turns)) for turns in range(4)] if self.is_remains else [0]
        side, count = int(np.argmax(plain)), max(plain)  # top, right, bottom, left
        if count in (0, height if side % 2 == 0 else width):
            return slice(0, height), slice(0, width)
        return (
            slice(count if side == 0 else 0, height - count if side == 2 else height),
            slice(count if side == 3 else 0, width - count if side == 1 else width),
        )

    def without_missing_rows(self) -> "Picture":
        """Its known part."""
        if not self.is_remains:
            return self
        part = self.known_part()
        return self.then(self.pixels[part], None if self.alpha is None else self.alpha[part])

    def in_srgb(self) -> "Picture":
        """Converted to sRGB through its profile, with 8 bits; itself where it has none."""
        if self.metadata.icc is None:
            return self
        is_deep = self.pixels.dtype == np.uint16
        pixels = profile.in_srgb(in_8_bits(self.pixels) if is_deep else self.pixels, self.metadata.icc)
        alpha = in_8_bits(self.alpha) if is_deep and self.alpha is not None else self.alpha
        return replace(self.then(pixels, alpha), metadata=replace(self.metadata, icc=None))

    @classmethod
    def open(
        cls, path: Path, max_pixels: int = 250_000_000, page: int = 0, damaged_file: bool | None = None
    ) -> "Picture":
        """Reads a file of any kind in `formats.SOURCES`.

        `page`, from 1, is the picture in a file that holds several; 0 takes the main one, and a note says so. The
        file's type decides between 8 and 16 bits, never its values. What is left of a damaged file is read if
        `damaged_file`, and a note says so; None: the caller has no option for it, so the error does not name it.

        Raises:
            CalotypeError: missing, unreadable, not a picture, damaged, cut off, or with more than `max_pixels`; no
                pixels are decoded before their number is known. It crashes its decoder, or keeps it busy for ever.
        """
        return decoder.read(cls.open_here, Path(path), page, damaged_file, max_pixels=max_pixels)

    @classmethod
    def open_option(cls, option: str, path: Path, max_pixels: int) -> "Picture":
        """As `open`, of a picture that an option gives beside the photo; what is wrong with it names the option."""
        try:
            return cls.open(path, max_pixels)
        except PictureError as fault:
            raise PictureError("{option}: {fault}", fault=fault, option=option) from fault

    @classmethod
    def open_ahead(
        cls, path: Path, max_pixels: int, page: int = 0, damaged_file: bool | None = None, *, limit: int
    ) -> ReadAhead:
        """Begins `open` in a thread, if the picture has `limit` pixels at most; a later `open` takes its result."""

        def is_small() -> bool:
            height, width = size_of(path, max_pixels, page, damaged_file=True)
            return height * width <= limit

        return ReadAhead(cls.open_here, Path(path), page, damaged_file, max_pixels=max_pixels, condition=is_small)

    @classmethod
    def open_here(cls, path: Path, page: int, damaged_file: bool | None, max_pixels: int) -> "Picture":
        """As `open`, in this process, which a damaged file may crash."""
        with open_file(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            read = partial(_decoded, file, path.name, max_pixels, page)
            format, image_file, decoded = _whole_or_remains(read, damaged_file)
        picture = _with_metadata(cls(decoded.colour, decoded.alpha, format=format, sha256=sha256), image_file, decoded)
        _try_profile(picture.metadata.icc, picture.pixels.shape[2])
        return picture


def _plain_lines(pixels: np.ndarray) -> int:
    """How many of the first rows have the colour of the first pixel throughout."""
    is_plain = (pixels == pixels[0, 0]).all((1, 2))
    return len(is_plain) if is_plain.all() else int(np.argmin(is_plain))


def _whole_or_remains(read: Callable[[bool], _Read], damaged_file: bool | None) -> _Read:
    """`read(False)`; of a damaged file `read(True)`, which reads what is left of it, if `damaged_file`.

    Raises:
        PictureError: damaged; if False was given and something is left, it names the option that reads that.
    """
    try:
        return read(False)
    except DamagedFile as fault:
        if damaged_file is None:
            raise
        try:
            remains = read(True)
        except DamagedFile:
            raise fault from None
        if damaged_file:
            return remains
        raise PictureError(
            "{name} is damaged or cut off ({cause}); try another copy of it, or give {option:damaged_file} to use what "
            "is left of it",
            name=fault.message.values["name"],
            cause=fault.message.values["cause"],
        ) from fault


def _decoded(
    file: BinaryIO, name: str, max_pixels: int, page: int, of_remains: bool
) -> tuple[str, PictureFile, Pixels]:
    """Format, description and pixels of an open file; none are decoded before their number is known."""
    format, image_file = read_header(file, name, max_pixels, page, of_remains)
    height, width = image_file.size
    if height * width > max_pixels:
        raise PictureError(
            "{name} declares {width}x{height} = {count:,} pixels, more than the {most:,} allowed; "
            "if it can be trusted, give {option:max_pixels} {count}",
            name=name,
            width=width,
            height=height,
            count=height * width,
            most=max_pixels,
        )
    return format, image_file, image_file.decode()


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Both sides times a factor, rounded, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def size_of(path: Path, max_pixels: int, page: int = 0, damaged_file: bool | None = None) -> tuple[int, int]:
    """Height and width from the header. Raises as Picture.open does, except for faults that only decoding finds."""
    return decoder.read(size_of_here, Path(path), page, damaged_file, max_pixels=max_pixels)


def size_of_here(path: Path, page: int, damaged_file: bool | None, max_pixels: int) -> tuple[int, int]:
    """As `size_of`, in this process."""
    with open_file(path) as file:
        read = partial(read_header, file, path.name, max_pixels, page)
        return _whole_or_remains(read, damaged_file)[1].size


def pages_of(path: Path, max_pixels: int) -> int:
    """How many pictures a file holds, without thumbnails. Raises as `size_of` does."""
    return decoder.read(pages_of_here, Path(path), max_pixels=max_pixels)


def pages_of_here(path: Path, max_pixels: int) -> int:
    """As `pages_of`, in this process."""
    with open_file(path) as file:
        return read_header(file, path.name, max_pixels)[1].count


def read_header(
    file: BinaryIO, name: str, max_pixels: int, page: int = 0, of_remains: bool = False
) -> tuple[str, PictureFile]:
    """Format and description of an open file, or of what is left of it.

    Raises CalotypeError as Picture.open does, also where its format has no reader of what is left.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    source = formats.recognise(head, name)
    if source.name == "tiff" and is_raw(file):
        source = next(known for known in formats.SOURCES if known.name == "raw")
    file.seek(0)
    with decoding(name):
        if of_remains and not source.remains_reader:
            raise ValueError("the end is missing")
    module, _, function = (source.remains_reader if of_remains else source.reader).partition(":")
    reader = getattr(importlib.import_module(f"calotype.picture.codecs.{module}"), function)
    pages = (page,) if source.has_pages else ()
    if not source.has_pages:
        check_page(page, 1, name)
    if source.takes_file:
        return source.name, reader(file, name, *pages)
    size = os.fstat(file.fileno()).st_size
    if size > max_pixels * 8 + (256 << 20):  # larger than its pixels could be unpacked
        raise PictureError(
            "{name} is too large a file ({size} MiB) for the pixels allowed; see {option:max_pixels}",
            name=name,
            size=size >> 20,
        )
    return source.name, reader(file.read(), name, *pages)


def _with_metadata(picture: Picture, image_file: PictureFile, decoded: Pixels) -> Picture:
    """The picture upright, with its metadata checked and changed as `families` says."""
    exif, exif_notes = _exif(image_file.exif)
    iptc, iptc_notes = (image_file.iptc, ()) if image_file.iptc else captions.in_exif(exif)
    packet, xmp_notes = _xmp(image_file, exif)
    colour, icc, color_notes = color_space.resolved(picture.pixels, decoded.icc, image_file.color_tags, exif)
    dpi = image_file.dpi or exif_blocks.resolution(exif)
    blocks = Blocks(exif, packet, iptc)
    orientation = image_file.orientation or blocks.orientation
    turn = 1 if image_file.is_upright else orientation
    stored = picture.pixels.shape[:2][:: -1 if image_file.is_upright and orientation >= 5 else 1]
    family_notes = families.upright(blocks, Geometry.turned(stored, orientation))
    if image_file.captions:
        blocks.packet = blocks.packet or Packet()
        captions.add_to(blocks.packet, [(captions.KEYWORDS[key], text) for key, text in image_file.captions.items()])
    packed_xmp = blocks.packet.serialized() if blocks.packet else None
    generator_texts = stealth.texts(decoded) | texts.gathered(image_file.texts, blocks.exif, packed_xmp)
    metadata = Metadata(
        icc,
        exif_blocks.pack(blocks.exif) if blocks.exif.has_entries else None,
        packed_xmp,
        dpi[::-1] if dpi and turn >= 5 else dpi,
        generator_texts,
        blocks.iptc,
        image_file.comment,
        stored[:: -1 if orientation >= 5 else 1],
    )
    notes = image_file.notes + decoded.notes + exif_notes + iptc_notes + xmp_notes + color_notes + family_notes
    return replace(
        picture,
        pixels=upright(colour, turn),
        alpha=None if picture.alpha is None else upright(picture.alpha, turn),
        metadata=metadata,
        notes=tuple(dict.fromkeys(notes)),
        count=image_file.count,
        is_remains=image_file.is_remains,
    )


def _exif(block: bytes | None) -> tuple[exif_blocks.Exif, tuple[str, ...]]:
    """All entries, and notes."""
    if not block:
        return exif_blocks.Exif(), ()
    try:
        exif = exif_blocks.parse(block)
    except ValueError as fault:
        return exif_blocks.Exif(), (about.DAMAGED_EXIF.format(fault=fault),)
    notes = ("some entries of its EXIF are damaged and left out",) if exif.is_damaged else ()
    if not exif_blocks.is_note_movable(exif):
        exif, notes = exif_blocks.without_note(exif), (*notes, "its maker's note is too far away to be carried over")
    return exif, notes


def _xmp(image_file: PictureFile, exif: exif_blocks.Exif) -> tuple[Packet | None, tuple[str, ...]]:
    """The packet of the file, or of a tag of its EXIF, together with its extended part."""
    stored = image_file.xmp or (exif.root[_XMP_TAG].data if _XMP_TAG in exif.root else None)
    if not stored:
        return None, ()
    try:
        packet = Packet(stored)
    except ValueError:
        return None, ("its XMP is damaged and left out",)
    try:
        packet.merge(Packet(image_file.extended_xmp) if image_file.extended_xmp else None)
    except ValueError:
        return packet, ("its extended XMP is damaged and left out",)
    return packet, ()


@lru_cache(maxsize=16)
def _try_profile(icc: bytes | None, channels: int) -> None:
    """Reads the profile here, so that one that crashes Little CMS does it in the decoder process."""
    if icc:
        profile.to_srgb(icc, "L" if channels == 1 else "RGB")


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as stored -> as displayed, by EXIF orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
