"""A picture as it goes through the program: upright pixels, and all that its file told about them."""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from calotype.errors import CalotypeError, PictureError
from calotype.picture.alpha import on_white
from calotype.picture.codecs import formats
from calotype.picture.codecs.decoded import PictureFile, Pixels
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import icc as profile
from calotype.picture.metadata import xmp


@dataclass(frozen=True)
class Metadata:
    """What a file tells besides pixels, ready to be put into another file."""

    icc: bytes | None = None  # colour profile as found in the file
    exif: bytes | None = None  # TIFF block without the "Exif\0\0" prefix, orientation reset to 1, no thumbnail
    xmp: bytes | None = None  # packet, orientation reset to 1
    dpi: tuple[float, float] | None = None  # x, y
    drawn: Mapping[str, str] = field(default_factory=dict)  # what a program that draws told; "parameters" is infotext

    @property
    def infotext(self) -> str:
        """A1111's line of parameters, where the file has one."""
        return self.drawn.get("parameters", "")


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels in the colours of `metadata.icc` (sRGB where there is none)."""

    pixels: np.ndarray  # (H, W, C) uint8 or uint16, C-contiguous, C is 1 (grey) or 3 (RGB), upright
    alpha: np.ndarray | None = None  # (H, W), same type, straight (not premultiplied)
    metadata: Metadata = Metadata()
    format: str = "png"  # one of tasks.FORMATS without auto: what the file was, by content
    sha256: str = ""  # of the file's bytes
    notes: tuple[str, ...] = ()  # sentences about what the reader had to do

    def then(self, pixels: np.ndarray, alpha: np.ndarray | None = None) -> "Picture":
        """New pixels with the same story."""
        return replace(self, pixels=np.ascontiguousarray(pixels), alpha=alpha)

    def on_white(self) -> "Picture":
        """As it is seen on white paper, without alpha."""
        return self if self.alpha is None else self.then(on_white(self.pixels, self.alpha))

    @classmethod
    def open(cls, path: Path, max_pixels: int = 250_000_000) -> "Picture":
        """Reads a file of any kind in `formats.KNOWN`, or a GIF.

        8 or 16 bits are decided by the file's type, never by its values.

        Raises:
            CalotypeError: missing, unreadable, not a picture, damaged, cut off, or with more than `max_pixels`; no
                pixels are decoded before their number is known.
        """
        path = Path(path)
        with opened(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            format, found = look(file, path.name, max_pixels)
            height, width = found.size
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
            decoded = found.decode()
        return _told(cls(decoded.colour, decoded.alpha, format=format, sha256=sha256), found, decoded)


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Height and width, by the header. Raises PictureError as Picture.open does, but for what only decoding shows."""
    with opened(path) as file:
        return look(file, path.name, max_pixels)[1].size


def opened(path: Path) -> BinaryIO:
    """The file for reading. Raises CalotypeError where there is none, or it is empty, a folder or forbidden."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        raise CalotypeError("{path} does not exist; check the name", path=path) from None
    except IsADirectoryError:
        raise CalotypeError("{path} is a folder; give a picture in it", path=path) from None
    except PermissionError:
        if path.is_dir():  # as Windows says it
            raise PictureError("{path} is a folder; give a picture in it", path=path) from None
        raise PictureError("{path} may not be read; change its permissions", path=path) from None
    except (OSError, ValueError) as fault:
        raise PictureError(
            "{path} cannot be opened: {reason}", path=path, reason=getattr(fault, "strerror", None) or fault
        ) from None
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return file
    file.close()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("{path} is a device or a pipe, not a file; save the picture to a file first", path=path)
    raise PictureError("{path} is empty (zero bytes); try another copy of it", path=path)


def look(file: BinaryIO, name: str, max_pixels: int) -> tuple[str, PictureFile]:
    """Format and description of an open file. Raises CalotypeError as Picture.open does."""
    format = formats.recognise(file.read(256), name)
    file.seek(0)
    if format == "tiff":
        from calotype.picture.codecs.tiff import find_tiff

        return format, find_tiff(file, name)
    size = os.fstat(file.fileno()).st_size
    if size > max_pixels * 8 + (256 << 20):  # larger than its pixels could be unpacked
        raise PictureError(
            "{name} is too large a file ({size} MiB) for the pixels allowed; see {option:max_pixels}",
            name=name,
            size=size >> 20,
        )
    found = _reader(format)(file.read(), name)
    return ("png" if format == "gif" else format), found


def _reader(format: str):
    from calotype.picture.codecs import heif, png, raster, webp

    return {
        "jpeg": raster.find_jpeg,
        "png": png.find_png,
        "webp": webp.find_webp,
        "bmp": raster.find_bmp,
        "gif": raster.find_gif,
        "avif": heif.find_avif,
        "heic": heif.find_heic,
    }[format]


def _told(picture: Picture, found: PictureFile, decoded: Pixels) -> Picture:
    """The picture upright, with its metadata checked and in order."""
    exif, orientation, exif_notes = _exif(found)
    packet, xmp_notes = _xmp(found.xmp)
    icc, icc_notes = _fitting(decoded.icc, picture.pixels.shape[2])
    dpi = found.dpi or (exif_blocks.resolution(exif) if exif else None)
    turn = 1 if found.is_upright else orientation
    drawn = dict(found.drawn)
    if exif and not drawn and (comment := exif_blocks.comment(exif)):
        drawn["parameters"] = comment
    dpi = dpi[::-1] if dpi and turn >= 5 else dpi
    metadata = Metadata(icc, exif_blocks.pack(exif) if exif else None, packet, dpi, drawn)
    return replace(
        picture,
        pixels=upright(picture.pixels, turn),
        alpha=None if picture.alpha is None else upright(picture.alpha, turn),
        metadata=metadata,
        notes=found.notes + decoded.notes + exif_notes + xmp_notes + icc_notes,
    )


def _exif(found: PictureFile) -> tuple[exif_blocks.Exif | None, int, tuple[str, ...]]:
    """The block in order, the orientation it told, and what to say."""
    if not found.exif:
        return None, 1, ()
    try:
        told = exif_blocks.parse(found.exif)
    except ValueError as fault:
        return None, 1, (f"its EXIF is damaged and left out ({fault})",)
    notes = ("some entries of its EXIF are damaged and left out",) if told.is_damaged else ()
    orientation = told.number(exif_blocks.ORIENTATION, 1)
    kept = exif_blocks.about_photo(told)
    is_told = kept.root or kept.photo or kept.gps
    return (kept if is_told else None), (orientation if 1 <= orientation <= 8 else 1), notes


def _xmp(packet: bytes | str | None) -> tuple[bytes | None, tuple[str, ...]]:
    if not packet:
        return None, ()
    packet = packet.encode() if isinstance(packet, str) else packet
    try:
        return xmp.upright(packet), ()
    except ValueError:
        return None, ("its XMP is damaged and left out",)


def _fitting(icc: bytes | None, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile if it is one for these pixels."""
    if not icc:
        return None, ()
    space = profile.space_of(icc)
    if space == {1: "L", 3: "RGB"}[channels]:
        return icc, ()
    what = "is damaged" if space is None else "is for other colours than the pixels'"
    return None, (f"its colour profile {what} and is left out",)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as stored -> as seen, by EXIF orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
