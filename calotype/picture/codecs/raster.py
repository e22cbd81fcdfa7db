"""JPEG, BMP and GIF, decoded by Pillow, and the conversion of Pillow's images to arrays."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin

from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding, split
from calotype.picture.codecs.segments import read_segments
from calotype.picture.metadata import icc as profile

_BAND = 1 << 22  # pixels converted at a time


def open_jpeg(data: bytes, name: str) -> PictureFile:
    """Reads the header of a JPEG; of an MPO its first picture.

    Raises:
        PictureError: damaged, or cut off anywhere before its end mark.
    """
    with decoding(name):
        _check_end(data)
        # The plugin itself, not Image.open: Pillow's pixel limit is one per process, ours is an argument.
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    info = image.info
    notes = ("it holds more than one picture: the first is used",) if "mpoffset" in info else ()
    segments = read_segments(data)

    def decode() -> Pixels:
        with decoding(name):
            _check_complete(data)
        return _decode(image, name, info.get("icc_profile"))

    return PictureFile(
        (image.height, image.width),
        decode,
        segments.exif,
        segments.xmp,
        _positive(info.get("dpi")) if info.get("jfif_unit") in (1, 2) else None,
        notes=notes + segments.notes,
        extended_xmp=segments.extended,
        iptc=segments.iptc,
        comment=segments.comment,
        texts={"comment": segments.comment} if segments.comment else {},
    )


def _check_end(data: bytes) -> None:
    """Checks the markers for the end mark: libjpeg fills truncated entropy-coded data with grey."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at : at + 2] == b"\xff\xff":
            at += 1
        if at < 0 or at + 2 > len(data):
            raise ValueError("the end mark is missing")
        marker = data[at + 1]
        if marker == 0xD9:
            return
        at += 2
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == 0xDA:  # a scan: its data hold no marker but restarts
            following = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, at)
            at = following.start() if following else len(data)


def _check_complete(data: bytes) -> None:
    """Refuses truncated data that has an end mark (recovered files): libjpeg fills it with grey and only warns.

    Decoding at an eighth of the size is enough for the warning, which Pillow does not pass on.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as fault:  # other warnings are harmless, other faults are found by Pillow
        if "premature end" in str(fault).lower():
            raise


def open_bmp(data: bytes, name: str) -> PictureFile:
    """Reads the header of a BMP. Raises CalotypeError if it is damaged."""
    with decoding(name):
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    dpi = _positive(image.info.get("dpi"))
    return PictureFile((image.height, image.width), lambda: _decode(image, name, None), dpi=dpi)


def open_gif(data: bytes, name: str) -> PictureFile:
    """Reads the header of a GIF's first frame. Raises CalotypeError if it is damaged."""
    with decoding(name):
        image = GifImagePlugin.GifImageFile(io.BytesIO(data))
        is_animated = image.is_animated
        left, top, right, bottom = image.tile[0][1] if image.tile else (0, 0, *image.size)
    notes = ("it is animated: the first frame is used",) if is_animated else ()

    def decode() -> Pixels:
        pixels = _decode(image, name, None)
        if right - left == image.width and bottom - top == image.height:
            return pixels
        alpha = np.zeros((image.height, image.width), np.uint8)  # what the first frame does not cover is empty
        alpha[top:bottom, left:right] = 255 if pixels.alpha is None else pixels.alpha[top:bottom, left:right]
        return replace(pixels, alpha=alpha)

    return PictureFile(
        (image.height, image.width),
        decode,
        xmp=image.info.get("xmp"),
        notes=notes,
        texts=_comment(image.info.get("comment")),
    )


def _decode(image: Image.Image, name: str, icc: bytes | None) -> Pixels:
    with decoding(name):
        image.load()
        return from_pillow(image, icc)


def from_pillow(image: Image.Image, icc: bytes | None) -> Pixels:
    """A loaded image as arrays: grey stays grey, palettes become RGB, CMYK and Lab become sRGB.

    Raises:
        ValueError: an unsupported mode (32-bit integers, floats).
    """
    mode, notes = image.mode, ()
    if mode in ("CMYK", "LAB", "YCbCr"):
        transform, icc, notes = _into_srgb(mode, icc)
        return Pixels(_array(image, "RGB", transform), None, icc, notes)
    if image.has_transparency_data or mode in ("LA", "PA", "La", "RGBa"):
        target = "LA" if mode in ("1", "L", "LA", "La") else "RGBA"
        colour, alpha = split(_array(image, target))
        return Pixels(colour, alpha, icc)
    target = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "I;16": "I;16", "I;16B": "I;16"}.get(mode)
    if target is None:
        raise ValueError(f"samples of type {mode}")
    return Pixels(_array(image, target), None, icc)


def _into_srgb(mode: str, icc: bytes | None) -> tuple[Callable, bytes | None, tuple[str, ...]]:
    """A function that converts CMYK, Lab or YCbCr to RGB, the profile of its result, and notes."""
    if mode == "YCbCr":
        return (lambda band: band.convert("RGB")), icc, ()
    transform = profile.to_srgb(icc, mode)
    title = {"LAB": "Lab"}.get(mode, mode)
    if transform is not None:
        by = "" if mode == "LAB" else " through its profile"
        return transform, profile.srgb(), (f"{title} turned into sRGB{by}",)
    return (
        (lambda band: band.convert("RGB")),
        profile.srgb(),
        (f"{title} turned into sRGB by rule of thumb: it has no profile",),
    )


def _array(image: Image.Image, mode: str, transform: Callable | None = None) -> np.ndarray:
    """(H, W, C) of the image in another mode, band by band: Pillow's own conversion would hold three more copies."""
    channels = Image.getmodebands(mode)
    out = np.empty((image.height, image.width, channels), np.uint16 if mode == "I;16" else np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        band = transform(band) if transform else band if band.mode == mode else band.convert(mode)
        out[top : top + rows] = np.asarray(band).reshape(band.height, band.width, channels)
    return out


def _comment(comment: bytes | None) -> dict[str, str]:
    """GIF's comment, in which some programs store generation parameters."""
    return {"comment": comment.decode("utf-8", "replace").strip("\0")} if comment else {}


def _positive(dpi: tuple | None) -> tuple[float, float] | None:
    if not dpi or not all(0 < float(value) < 1e6 for value in dpi):
        return None
    return round(float(dpi[0]), 2), round(float(dpi[1]), 2)  # BMP counts in dots per metre
