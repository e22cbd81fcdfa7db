"""Camera raw files and DNG, developed by LibRaw (the extra raw) as the camera was set, into 16 bits of sRGB."""

import struct
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO

import numpy as np

from calotype.errors import PictureError, Remedy
from calotype.picture.codecs.box_lengths import boxes
from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding
from calotype.picture.codecs.segments import read_segments
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata.color_space import ColorTags
from calotype.picture.metadata.exif import Exif

_FUJIFILM, _CANON = b"FUJIFILMCCD-RAW", bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_DNG_VERSION = 50706
_BASELINE_EXPOSURE = 50730  # of a DNG, in stops
_LAYOUT = {256, 257, 273, 278, 279, 322, 323, 324, 325}
_SRGB = (2.4, 12.92)  # exponent and slope of its curve
_FLIPS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's turns as EXIF orientations
_MAX_METADATA = 32 << 20


def open_raw(file: BinaryIO, name: str) -> PictureFile:
    """Reads header and metadata; `file` stays open for `decode`. LibRaw turns the picture upright.

    Raises:
        PictureError: damaged, of a camera that LibRaw does not know, or the extra raw is missing.
    """
    rawpy = _rawpy(name)
    with decoding(name):
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            exif, is_damaged = _exif(mapped)
            _check_length(file, mapped)
        file.seek(0)
        image = _called(rawpy, rawpy.imread, file)
        sizes = image.sizes
        height, width, flip = sizes.height, sizes.width, sizes.flip
        if not (height and width):
            raise ValueError("a picture without pixels")
    notes = ("some entries of its metadata are damaged and left out",) if is_damaged else ()
    if exif and not exif_blocks.is_note_movable(exif):
        exif = exif_blocks.without_note(exif)
        notes += ("its maker's note is not carried over: it refers to places in this file",)
    stops = exif.numbers("root", _BASELINE_EXPOSURE) if exif else []

    def decode() -> Pixels:
        with decoding(name):
            how = {
                "use_camera_wb": True,
                "no_auto_bright": True,
                "output_bps": 16,
                "output_color": rawpy.ColorSpace.sRGB,
                "gamma": _SRGB,
            }
            if stops and 0 < abs(stops[0]) <= 3:
                how["exp_shift"] = 2.0 ** stops[0]
            samples = _called(rawpy, image.postprocess, **how)
            return Pixels(np.ascontiguousarray(samples.reshape(*samples.shape[:2], -1)[:, :, :3]))

    return PictureFile(
        (width, height) if flip in (5, 6) else (height, width),
        decode,
        exif_blocks.pack(exif) if exif and exif.has_entries else None,
        is_upright=True,
        notes=notes,
        color_tags=ColorTags(is_srgb=True),
        orientation=_FLIPS.get(flip, 1),
    )


def _rawpy(name: str) -> Any:
    try:
        import rawpy
    except ImportError as fault:
        raise PictureError(
            "{name} is a camera's raw file, which needs the package rawpy; {remedy}",
            name=name,
            remedy=Remedy("install", "raw"),
        ) from fault
    return rawpy


def _called(rawpy: Any, function: Any, *args: Any, **options: Any) -> Any:
    """Calls LibRaw, whose errors become those of other decoders."""
    try:
        return function(*args, **options)
    except rawpy.LibRawError as fault:
        cause = fault.args[0] if fault.args else fault
        raise ValueError(cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)) from fault


def _exif(mapped: mmap) -> tuple[Exif | None, bool]:
    """The entries, where the file has them as a TIFF, as a JPEG or in Canon's boxes, and whether some are damaged."""
    try:
        if mapped[: len(_FUJIFILM)] == _FUJIFILM:
            start, length = struct.unpack_from(">II", mapped, 84)
            block = read_segments(mapped[start : start + min(length, _MAX_METADATA)]).exif
            exif = exif_blocks.parse(block) if block else None
        elif mapped[4:8] == b"ftyp":
            exif = _of_canon(mapped)
        else:
            exif = exif_blocks.parse(mapped)
    except (ValueError, struct.error):
        return None, False
    if exif is None:
        return None, False
    root = {tag: entry for tag, entry in exif.root.items() if tag not in _LAYOUT and entry.kind < exif_blocks.LONG8}
    return Exif(exif.order, root, exif.photo, exif.gps, exif.interop, note_offset=exif.note_offset), exif.is_damaged


def _check_length(file: BinaryIO, mapped: mmap) -> None:
    """Raises ValueError if strips or tiles of a DNG lie beyond the end of the file, which LibRaw fills."""
    import tifffile

    if mapped[:4] not in (b"II*\0", b"MM\0*") or _DNG_VERSION not in exif_blocks.parse(mapped).root:
        return
    file.seek(0)
    pages = list(tifffile.TiffFile(file, _multifile=False).pages)
    for page in [*pages, *(inner for outer in pages for inner in outer.pages or ())]:
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset + length > len(mapped):
                raise ValueError("the end is missing")


def _of_canon(mapped: mmap) -> Exif | None:
    """Of a CR3: the first directory, the photo's and GPS, each a TIFF of its own."""
    head = mapped[: min(len(mapped), 1 << 20)]
    for kind, start, end in boxes(head, 0, len(head)):
        if kind != b"moov":
            continue
        for inner, at, stop in boxes(head, start, min(end, len(head))):
            if inner == b"uuid" and head[at : at + 16] == _CANON:
                found = {name: head[a:b] for name, a, b in boxes(head, at + 16, stop)}
                parts = {name: exif_blocks.parse(found[name]) for name in (b"CMT1", b"CMT2", b"CMT4") if name in found}
                first = parts.get(b"CMT1", Exif())
                photo, gps = (parts[name].root if name in parts else {} for name in (b"CMT2", b"CMT4"))
                return Exif(first.order, first.root, photo, gps)
    return None
