"""JPEG, BMP and GIF, decoded by Pillow, and the conversion of Pillow's images to arrays."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin

from calotype.errors import Message, PictureError
from calotype.picture import notes as about
from calotype.picture.codecs import jpeg_scans
from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, split, stretched
from calotype.picture.codecs.jpeg_ls import open_jpeg_ls
from calotype.picture.codecs.jpeg_scans import Frame
from calotype.picture.codecs.segments import read_segments
from calotype.picture.metadata import icc as profile

_MP_ENTRIES = 0xB002  # of the list of pictures in an MPO
_MAP = re.compile(rb"hdrgm:|HDRGainMap|21496:-1|GDepth:|depthmap|DepthMap")  # what is no picture says in its metadata
_DAMAGED_NOTE = (
    "its file is damaged: what is left of it was read, and parts may be missing, blurred, shifted or discoloured"
)
_READABLE_NOTE = "its file is damaged, but can be read: parts may be missing, blurred, shifted or discoloured"
_BAND = 1 << 22  # pixels converted at a time


def open_jpeg(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads the header of a JPEG, or of a picture in an MPO, by default the first.

    Raises:
        PictureError: damaged.
    """
    starts = _picture_starts(data)
    notes = check_page(page, len(starts), name)
    file = _open_single_jpeg(data[starts[max(page, 1) - 1] :] if page > 1 else data, name)
    return replace(file, notes=notes + file.notes, count=len(starts))


def open_jpeg_remains(data: bytes, name: str, page: int = 0) -> PictureFile:
    """As `open_jpeg`, of a damaged one: places that cannot be read stay as libjpeg leaves them, and a note says so.

    Raises:
        PictureError: nothing is left.
    """
    starts = _picture_starts(data)
    notes = check_page(page, len(starts), name)
    with decoding(name):
        data = data[starts[max(page, 1) - 1] :]
        data = jpeg_scans.with_readable_scans(data, jpeg_scans.frame_of(data))
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    file = _open_single_jpeg(data, name)

    def decode() -> Pixels:
        pixels = _decode(image, name, read_segments(data).icc)
        return replace(pixels, notes=(*pixels.notes, _DAMAGED_NOTE))

    return replace(file, decode=decode, notes=notes + file.notes, count=len(starts), is_remains=True)


def _picture_starts(data: bytes) -> list[int]:
    """Where the pictures of an MPO begin, without previews, gain maps and depth maps; of other JPEGs the start."""
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        listed = image._getmp() or {} if "mpoffset" in image.info else {}
        base, entries = image.info.get("mpoffset", 0), listed.get(_MP_ENTRIES, ())
    except Exception:  # noqa: BLE001  what is damaged is said when the picture is opened
        return [0]
    starts = [0]
    for entry in entries[1:]:
        start = base + entry["DataOffset"]
        is_picture = "Thumbnail" not in entry["Attribute"]["MPType"] and data[start : start + 3] == b"\xff\xd8\xff"
        if is_picture and not _MAP.search(data, start, start + (1 << 16)):
            starts.append(start)
    return starts


def _open_single_jpeg(data: bytes, name: str) -> PictureFile:
    with decoding(name):
        frame = jpeg_scans.frame_of(data)
    if frame.kind == jpeg_scans.JPEG_LS:
        return open_jpeg_ls(data, frame, name)
    if kind := jpeg_scans.NOT_READ.get(frame.kind):
        raise PictureError(
            "{name} is a JPEG of a kind that is not read ({kind}); save it as PNG or TIFF first", name=name, kind=kind
        )
    with decoding(name):
        # The plugin itself, not Image.open: Pillow's pixel limit is one per process, ours is an argument.
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg_scans.as_8_bits(data, frame)))
    info = image.info
    segments = read_segments(data)

    def decode() -> Pixels:
        return _decode_jpeg(image, data, frame, segments.icc, name)

    dpi = _positive(info.get("dpi")) if info.get("jfif_unit") in (1, 2) else None
    return segments.file((image.height, image.width), decode, dpi)


def _decode_jpeg(image: Image.Image, data: bytes, frame: Frame, icc: bytes | None, name: str) -> Pixels:
    notes = ()
    with decoding(name):
        if jpeg_scans.has_end_mark(data):
            notes = (_READABLE_NOTE,) if jpeg_scans.has_damage(data, frame) else ()
        else:
            data = jpeg_scans.with_end_mark(data, frame)
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg_scans.as_8_bits(data, frame)))
    if frame.bits != 8:
        return _decode_deep_jpeg(image, data, frame, icc, name)
    pixels = _decode(image, name, icc)
    return replace(pixels, notes=(*pixels.notes, *notes))


def _decode_deep_jpeg(image: Image.Image, data: bytes, frame: Frame, icc: bytes | None, name: str) -> Pixels:
    """9 to 16 bits, which Pillow does not decode."""
    import imagecodecs

    if image.mode not in ("L", "RGB"):
        raise PictureError(
            "{name} is a {bits}-bit JPEG in {mode}, which is not supported; save it as TIFF first",
            name=name,
            bits=frame.bits,
            mode=image.mode,
        )
    with decoding(name):
        colour, alpha = split(stretched(imagecodecs.jpeg8_decode(data), frame.bits))
        return Pixels(colour, alpha, icc)


def open_bmp(data: bytes, name: str) -> PictureFile:
    """Reads the header of a BMP. Raises CalotypeError if it is damaged."""
    with decoding(name):
        image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    dpi = _positive(image.info.get("dpi"))
    return PictureFile((image.height, image.width), lambda: _decode(image, name, None), dpi=dpi)


def open_gif(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads the header of a GIF's frame, by default the first. Raises CalotypeError if it is damaged."""
    with decoding(name):
        image = GifImagePlugin.GifImageFile(io.BytesIO(data))
        count = image.n_frames
        left, top, right, bottom = image.tile[0][1] if image.tile else (0, 0, *image.size)
    notes = check_page(page, count, name)

    def decode() -> Pixels:
        if page > 1:
            with decoding(name):
                image.seek(page - 1)  # the canvas with all frames up to this one
            return _decode(image, name, None)
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
        count=count,
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
        raise ValueError(Message("samples of type {mode}", mode=mode))
    return Pixels(_array(image, target), None, icc)


def converted(samples: np.ndarray, mode: str, icc: bytes | None) -> Pixels:
    """(H, W, C) of CMYK (0: no ink) or YCbCr -> RGB, through the profile where there is one; of 16 bits 8 are used."""
    notes = ()
    if samples.dtype == np.uint16:
        samples, notes = (samples >> 8).astype(np.uint8), (about.OF_16_BITS.format(mode=mode),)
    height, width, _ = samples.shape
    image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(samples), "raw", mode, 0, 1)
    pixels = from_pillow(image, icc)
    return replace(pixels, notes=notes + pixels.notes)


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
        (f"{title} turned into sRGB by rule of thumb: it has no {title} profile",),
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
