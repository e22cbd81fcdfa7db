"""A picture in memory: upright pixels and the metadata of its file."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from calotype.errors import PictureError
from calotype.picture import decoder
from calotype.picture.alpha import on_white
from calotype.picture.codecs import formats
from calotype.picture.codecs.decoded import PictureFile, Pixels
from calotype.picture.decoder import open_file
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata import xmp


@dataclass(frozen=True)
class Metadata:
    """What a file holds besides pixels, ready to be written into another file."""

    icc: bytes | None = None  # colour profile as found in the file
    exif: bytes | None = None  # TIFF block without the "Exif\0\0" prefix, orientation reset to 1, no thumbnail
    xmp: bytes | None = None  # packet, orientation reset to 1
    dpi: tuple[float, float] | None = None  # x, y
    texts: Mapping[str, str] = field(default_factory=dict)  # entries of image generators; "parameters" is infotext

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
    format: str = "png"  # one of tasks.FORMATS without auto: what the file was, by content
    sha256: str = ""  # of the file's bytes
    notes: tuple[str, ...] = ()  # sentences about what the reader changed or left out

    def then(self, pixels: np.ndarray, alpha: np.ndarray | None = None) -> "Picture":
        """New pixels with the same metadata."""
        return replace(self, pixels=np.ascontiguousarray(pixels), alpha=alpha)

    def on_white(self) -> "Picture":
        """Composited over white, without alpha."""
        return self if self.alpha is None else self.then(on_white(self.pixels, self.alpha))

    @classmethod
    def open(cls, path: Path, max_pixels: int = 250_000_000) -> "Picture":
        """Reads a file of any kind in `formats.KNOWN`, or a GIF.

        The file's type decides between 8 and 16 bits, never its values.

        Raises:
            CalotypeError: missing, unreadable, not a picture, damaged, cut off, or with more than `max_pixels`; no
                pixels are decoded before their number is known. It crashes its decoder, or keeps it busy for ever.
        """
        return decoder.read(cls.open_here, Path(path), max_pixels=max_pixels)

    @classmethod
    def open_here(cls, path: Path, max_pixels: int) -> "Picture":
        """As `open`, in this process, which a damaged file may crash."""
        with open_file(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            format, image_file = read_header(file, path.name, max_pixels)
            height, width = image_file.size
            if height * width > max_pixels:
                raise PictureError(
                    "{name} declares {width}x{height} = {count:,} pixels, more than the {most:,} allowed; "
                    "if it can be trusted, give {option:max_pixels} {count}",
                    name=path.name,
                    width=width,
                    height=height,
                    count=height * width,
                    most=max_pixels,
                )
            decoded = image_file.decode()
        picture = _with_metadata(cls(decoded.colour, decoded.alpha, format=format, sha256=sha256), image_file, decoded)
        _try_profile(picture.metadata.icc, picture.pixels.shape[2])
        return picture


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Height and width from the header. Raises as Picture.open does, except for faults that only decoding finds."""
    return decoder.read(size_of_here, Path(path), max_pixels=max_pixels)


def size_of_here(path: Path, max_pixels: int) -> tuple[int, int]:
    """As `size_of`, in this process."""
    with open_file(path) as file:
        return read_header(file, path.name, max_pixels)[1].size


def read_header(file: BinaryIO, name: str, max_pixels: int) -> tuple[str, PictureFile]:
    """Format and description of an open file. Raises CalotypeError as Picture.open does."""
    format = formats.recognise(file.read(256), name)
    file.seek(0)
    if format == "tiff":
        from calotype.picture.codecs.tiff import open_tiff

        return format, open_tiff(file, name)
    size = os.fstat(file.fileno()).st_size
    if size > max_pixels * 8 + (256 << 20):  # larger than its pixels could be unpacked
        raise PictureError(
            "{name} is too large a file ({size} MiB) for the pixels allowed; see {option:max_pixels}",
            name=name,
            size=size >> 20,
        )
    image_file = _reader(format)(file.read(), name)
    return ("png" if format == "gif" else format), image_file


def _reader(format: str):
    from calotype.picture.codecs import heif, png, raster, webp

    return {
        "jpeg": raster.open_jpeg,
        "png": png.open_png,
        "webp": webp.open_webp,
        "bmp": raster.open_bmp,
        "gif": raster.open_gif,
        "avif": heif.open_avif,
        "heic": heif.open_heic,
    }[format]


def _with_metadata(picture: Picture, image_file: PictureFile, decoded: Pixels) -> Picture:
    """The picture upright, with its metadata checked and normalised."""
    exif, orientation, exif_notes = _exif(image_file)
    packet, xmp_notes = _xmp(image_file.xmp)
    icc, icc_notes = _matching_profile(decoded.icc, picture.pixels.shape[2])
    dpi = image_file.dpi or (exif_blocks.resolution(exif) if exif else None)
    turn = 1 if image_file.is_upright else orientation
    texts = dict(image_file.texts)
    if exif and not texts and (comment := exif_blocks.comment(exif)):
        texts["parameters"] = comment
    dpi = dpi[::-1] if dpi and turn >= 5 else dpi
    metadata = Metadata(icc, exif_blocks.pack(exif) if exif else None, packet, dpi, texts)
    return replace(
        picture,
        pixels=upright(picture.pixels, turn),
        alpha=None if picture.alpha is None else upright(picture.alpha, turn),
        metadata=metadata,
        notes=image_file.notes + decoded.notes + exif_notes + xmp_notes + icc_notes,
    )


def _exif(image_file: PictureFile) -> tuple[exif_blocks.Exif | None, int, tuple[str, ...]]:
    """The EXIF entries to keep, the orientation, and notes."""
    if not image_file.exif:
        return None, 1, ()
    try:
        parsed = exif_blocks.parse(image_file.exif)
    except ValueError as fault:
        return None, 1, (f"its EXIF is damaged and left out ({fault})",)
    notes = ("some entries of its EXIF are damaged and left out",) if parsed.is_damaged else ()
    orientation = parsed.number(exif_blocks.ORIENTATION, 1)
    exif = exif_blocks.without_layout(parsed)
    has_entries = exif.root or exif.photo or exif.gps
    return (exif if has_entries else None), (orientation if 1 <= orientation <= 8 else 1), notes


def _xmp(packet: bytes | str | None) -> tuple[bytes | None, tuple[str, ...]]:
    if not packet:
        return None, ()
    packet = packet.encode() if isinstance(packet, str) else packet
    try:
        return xmp.upright(packet), ()
    except ValueError:
        return None, ("its XMP is damaged and left out",)


def _matching_profile(icc: bytes | None, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile if it fits pixels with so many channels, and notes."""
    if not icc:
        return None, ()
    space = profile.space_of(icc)
    if space == {1: "L", 3: "RGB"}[channels]:
        return icc, ()
    what = "is damaged" if space is None else "is for other colours than the pixels'"
    return None, (f"its colour profile {what} and is left out",)


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
