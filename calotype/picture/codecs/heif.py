"""HEIC and AVIF. Their decoders apply or report the orientation; that of the EXIF is ignored."""

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from calotype.errors import DoesNotFit, Message
from calotype.picture.codecs.box_lengths import trimmed
from calotype.picture.codecs.boxes import color_tags, left_out, orientation
from calotype.picture.codecs.decoded import (
    FIRST,
    PictureFile,
    Pixels,
    check_page,
    decoding,
    split,
    stretched,
    unpremultiply,
)
from calotype.picture.codecs.raster import from_pillow
from calotype.picture.metadata.color_space import Cicp, ColorTags
from calotype.picture.metadata.exif import without_header

_MAX_BYTES = (16 << 20) - (1 << 16)  # libde265, which reads HEIC, takes no larger picture


def open_heic(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a picture in a HEIC, by default the primary one; libheif turns it upright.

    Raises:
        PictureError: damaged or cut off.
    """
    import pillow_heif

    with decoding(name):
        data = trimmed(data)
        file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        count, primary = len(file), file.primary_index
    notes = check_page(page, count, name, Message("the primary one") if primary else FIRST)
    with decoding(name):
        number = page - 1 if page else primary
        image = file[number]
        width, height = image.size
        info, bits = image.info, int(image.info.get("bit_depth", 8))

    def decode() -> Pixels:
        with decoding(name):
            samples = np.asarray(image)
            if samples.dtype == np.uint16:
                samples = stretched(samples >> (16 - bits), bits)
            colour, alpha = split(samples)
            if alpha is not None and image.premultiplied_alpha:
                unpremultiply(colour, alpha)
        return Pixels(colour, alpha, info.get("icc_profile"))

    exif = without_header(info.get("exif") or b"") or None
    return PictureFile(
        (height, width),
        decode,
        exif,
        info.get("xmp"),
        is_upright=True,
        notes=notes + left_out(data),
        color_tags=color_tags(data) if number == primary else _color_tags(info.get("nclx_profile")),
        orientation=orientation(data) if number == primary else None,
        count=count,
    )


def _color_tags(nclx: Mapping[str, Any] | None) -> ColorTags:
    """Of a picture that is not the primary one."""
    if not nclx:
        return ColorTags()
    return ColorTags(cicp=Cicp(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])))


def open_avif(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of an AVIF's primary picture, or of a frame, by default the first.

    Raises:
        PictureError: damaged or cut off.
    """
    from PIL import AvifImagePlugin

    with decoding(name):
        data = trimmed(data)
        try:
            image, notes = AvifImagePlugin.AvifImageFile(io.BytesIO(data)), ()
        except ValueError as fault:
            if "Exif" not in str(fault):
                raise
            # libavif refuses a picture whose EXIF is malformed: hide that item
            data = re.sub(rb"(infe.{8})Exif", rb"\1none", data, flags=re.DOTALL)
            image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
            notes = ("its EXIF is damaged and left out",)
        count = image.n_frames
    notes += check_page(page, count, name)
    number = max(page, 1) - 1
    info, bits = dict(image.info), _depth(data)

    def decode() -> Pixels:
        with decoding(name):
            if bits == 8:
                image.seek(number)
                image.load()
                return from_pillow(image, info.get("icc_profile"))
            return _decode_deep(data, number, bits, info.get("icc_profile"), len(image.getbands()))

    exif = without_header(info.get("exif") or b"") or None
    return PictureFile(
        (image.height, image.width),
        decode,
        exif,
        info.get("xmp"),
        notes=notes + left_out(data),
        color_tags=color_tags(data),
        orientation=orientation(data),
        count=count,
    )


def _decode_deep(data: bytes, number: int, bits: int, icc: bytes | None, bands: int) -> Pixels:
    """10 and 12 bits, which Pillow would cut to 8."""
    import imagecodecs

    samples = imagecodecs.avif_decode(data, index=number)
    samples = samples if samples.dtype == np.uint8 else stretched(samples, bits)
    colour, alpha = split(samples)
    if bands == 1 and colour.shape[2] == 3:
        colour = np.ascontiguousarray(colour[:, :, :1])
    return Pixels(colour, alpha, icc)


def _depth(data: bytes) -> int:
    """Bits per sample, from the first AV1 configuration record."""
    at = data.find(b"av1C", 0, 1 << 20)
    flags = data[at + 6] if at >= 0 and at + 6 < len(data) else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def encode_heic(samples: np.ndarray, quality: int, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """The file. `samples` is (H, W, 1 to 4) uint8 or uint16; 16 bits are reduced to 10.

    Raises:
        DoesNotFit: a shape that the encoder refuses, or too many bytes for decoders.
    """
    import pillow_heif

    height, width, channels = samples.shape
    deep = ";16" if samples.dtype == np.uint16 else ""
    mode = ("L", "LA", "RGB", "RGBA")[channels - 1] + deep
    file = pillow_heif.HeifFile()
    file.add_frombytes(mode, (width, height), memoryview(samples).cast("B"))
    out = io.BytesIO()
    metadata = {key: value for key, value in (("icc_profile", icc), ("exif", exif), ("xmp", xmp)) if value}
    chroma = 444 if quality >= 90 else 420
    try:
        file.save(out, quality=quality, chroma=chroma, **metadata)
    except RuntimeError as fault:  # x265 has its own limits for long thin pictures
        raise DoesNotFit(
            "HEIC's encoder does not take {width}x{height} pixels; PNG or TIFF can hold them",
            width=width,
            height=height,
        ) from fault
    if out.tell() > _MAX_BYTES:
        raise DoesNotFit(
            "a HEIC of {width}x{height} pixels at quality {quality} is larger than decoders read; PNG or TIFF can hold "
            "it, or take a smaller {option:quality}",
            width=width,
            height=height,
            quality=quality,
        )
    return out.getvalue()
