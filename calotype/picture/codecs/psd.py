"""PSD and PSB: the flattened picture that Photoshop stores behind the layers, 8 and 16 bit."""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from calotype.errors import Message, PictureError
from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding, left_out_channels
from calotype.picture.codecs.raster import converted
from calotype.picture.metadata import families
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.exif import without_header
from calotype.picture.metadata.icc import lab_to_srgb, srgb

_BITMAP, _GREY, _INDEXED, _RGB, _CMYK, _MULTICHANNEL, _DUOTONE, _LAB = 0, 1, 2, 3, 4, 7, 8, 9
_COLOURS = {_BITMAP: 1, _GREY: 1, _INDEXED: 1, _RGB: 3, _CMYK: 4, _DUOTONE: 1, _LAB: 3}  # channels by colour mode
_RESOLUTION, _ICC, _TRANSPARENT_INDEX, _VERSION, _EXIF, _XMP = 1005, 1039, 1047, 1057, 1058, 1060  # resources
_LONG_BLOCKS = (b"LMsk", b"Lr16", b"Lr32", b"Layr", b"Mt16", b"Mt32", b"Mtrn", b"Alph", b"FMsk")  # in PSB
_LONG_BLOCKS += (b"lnk2", b"FEid", b"FXid", b"PxSD")
_CHANNEL_NAMES = (1006, 1045, 1053)
_RAW, _PACKBITS, _ZIP, _ZIP_PREDICTED = range(4)
_MAX_RESOURCES = 256 << 20
_SIDE = {1: 30_000, 2: 300_000}


@dataclass(frozen=True)
class _Head:
    version: int  # 2: PSB
    channels: int
    height: int
    width: int
    bits: int
    mode: int
    palette: bytes
    has_layers: bool
    has_picture: bool  # something follows the layers
    has_transparency: bool  # the first channel behind the colours is it
    is_on_white: bool  # the colours are laid on white by it
    pixels: int  # where they begin


def open_psd(file: BinaryIO, name: str) -> PictureFile:
    """Reads header and metadata; `file` stays open for `decode`.

    Raises:
        PictureError: damaged, cut off, without a flattened picture, or of an unsupported kind.
    """
    with decoding(name):
        head, resources = _read_head(file)
    if head.bits == 32 or head.mode not in _COLOURS:
        kind = Message("floating-point samples") if head.bits == 32 else Message("several channels without colours")
        raise PictureError("{name} holds {kind}; save it in RGB with 8 or 16 bits first", name=name, kind=kind)
    flag = resources.get(_VERSION, b"")
    if (len(flag) > 4 and not flag[4]) or not head.has_picture:
        raise PictureError(
            "{name} has layers and no flattened picture; save it in Photoshop with Maximize Compatibility", name=name
        )
    stored = captions.in_resources(resources.get(0, b""))
    iptc, iptc_notes = captions.read(*stored) if stored else (None, ())
    return PictureFile(
        (head.height, head.width),
        lambda: _decode(file, head, resources, name),
        without_header(resources.get(_EXIF, b"")) or None,
        resources.get(_XMP),
        _dpi(resources.get(_RESOLUTION, b"")),
        notes=((families.LAYERS_NOTE,) if head.has_layers else ()) + iptc_notes,
        iptc=iptc,
    )


def _read_head(file: BinaryIO) -> tuple[_Head, dict[int, bytes]]:
    """The header and the resources by number, all of them as they are under 0."""
    version, channels, height, width, bits, mode = struct.unpack(">4xH6xHIIHH", _exactly(file, 26))
    if version not in _SIDE or not (0 < width <= _SIDE[version] and 0 < height <= _SIDE[version]):
        raise ValueError("a picture without pixels")
    if bits not in (1, 8, 16, 32) or channels < _COLOURS.get(mode, 1) or channels > 56 or (bits == 1) != (mode == 0):
        raise ValueError("its channels are damaged")
    palette = _exactly(file, _length(file))
    block = _exactly(file, _length(file))
    resources = {0: block} | dict(reversed(list(captions.resources_in(block))))
    end = _length(file, version) + file.tell()
    count = _layer_count(file, end, version)
    further, is_named = channels - _COLOURS.get(mode, channels), not resources.keys().isdisjoint(_CHANNEL_NAMES)
    is_on_white = count < 0 and further > 0
    # Photoshop names the channels that are saved selections; other programs store transparency without layers
    has_transparency = is_on_white or (count == 0 and further == 1 and not is_named)
    size = file.seek(0, os.SEEK_END)
    if size < end:
        raise ValueError("the end is missing")
    return _Head(
        version,
        channels,
        height,
        width,
        bits,
        mode,
        palette,
        has_layers=abs(count) > 1,
        has_picture=count == 0 or size > end + 2,
        has_transparency=has_transparency,
        is_on_white=is_on_white,
        pixels=end,
    ), resources


def _layer_count(file: BinaryIO, end: int, version: int) -> int:
    """Of the section that ends there; negative if the first channel behind the colours is transparency.

    Photoshop keeps layers of 16 bits in a block of their own at the end of the section.
    """
    if end < file.tell() + 4 * version + 2:
        return 0
    length = _length(file, version)
    if length >= 2:
        return struct.unpack(">h", _exactly(file, 2))[0]
    if end < file.tell() + 4:
        return 0
    at = file.tell() + 4 + _length(file)  # behind the mask
    while at + 12 <= end:
        file.seek(at)
        signature, kind = _exactly(file, 4), _exactly(file, 4)
        if signature not in (b"8BIM", b"8B64"):
            return 0
        length = _length(file, version if kind in _LONG_BLOCKS else 1)
        if kind in (b"Lr16", b"Lr32", b"Layr") and length >= 2:
            return struct.unpack(">h", _exactly(file, 2))[0]
        at = file.tell() + length + -length % 4
    return 0


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(min(length, _MAX_RESOURCES))
    if len(data) < length:
        raise ValueError("the end is missing")
    return data


def _length(file: BinaryIO, version: int = 1) -> int:
    return int.from_bytes(_exactly(file, 4 * version), "big")


def _decode(file: BinaryIO, head: _Head, resources: dict[int, bytes], name: str) -> Pixels:
    with decoding(name):
        file.seek(head.pixels)
        colours = _COLOURS[head.mode]
        channels = colours + head.has_transparency
        samples = _planes(file, head, channels)
        further = left_out_channels(head.channels - channels)
        alpha = np.ascontiguousarray(samples[colours]) if head.has_transparency else None
        colour = np.ascontiguousarray(np.moveaxis(samples[:colours], 0, 2))
        if alpha is not None and head.is_on_white and head.mode in (_RGB, _GREY, _DUOTONE, _CMYK):
            _remove_white(colour, alpha)
        pixels = _in_colour(colour, head, resources)
        if head.mode == _INDEXED and len(resources.get(_TRANSPARENT_INDEX, b"")) >= 2:
            alpha = np.where(colour[:, :, 0] == int.from_bytes(resources[_TRANSPARENT_INDEX][:2], "big"), 0, 255)
            alpha = alpha.astype(np.uint8)
        if alpha is not None and alpha.dtype != pixels.colour.dtype:
            alpha = (alpha >> 8).astype(np.uint8)
    return Pixels(pixels.colour, alpha, pixels.icc, pixels.notes + further)


def _in_colour(samples: np.ndarray, head: _Head, resources: dict[int, bytes]) -> Pixels:
    """(H, W, channels of the mode) -> grey or RGB."""
    icc = resources.get(_ICC)
    if head.mode == _BITMAP:
        return Pixels(samples)
    if head.mode == _INDEXED:
        table = np.frombuffer(head.palette[:768].ljust(768, b"\0"), np.uint8).reshape(3, 256).T
        return Pixels(np.ascontiguousarray(table[samples[:, :, 0]]), None, icc)
    if head.mode == _CMYK:
        return converted(np.invert(samples), "CMYK", icc)  # 0 is full ink
    if head.mode == _LAB:
        return Pixels(_from_lab(samples), None, srgb(), ("Lab turned into sRGB",))
    notes = ("its duotone inks are left out",) if head.mode == _DUOTONE else ()
    return Pixels(samples, None, icc, notes)


def _from_lab(samples: np.ndarray) -> np.ndarray:
    """CIE Lab, a and b with an offset -> sRGB of the same type."""
    bits = samples.itemsize * 8
    max_value, unit = (1 << bits) - 1, 1 << (bits - 8)
    out = np.empty_like(samples)
    rows = max(1, (1 << 20) // samples.shape[1])
    for top in range(0, len(samples), rows):
        band = samples[top : top + rows].astype(np.float32)
        lab = np.concatenate([band[:, :, :1] * (100 / max_value), band[:, :, 1:] / unit - 128], axis=2)
        out[top : top + rows] = np.rint(lab_to_srgb(lab) * max_value)
    return out


def _remove_white(colour: np.ndarray, alpha: np.ndarray) -> None:
    """The flattened picture is laid on white: colours without it, in place; under full transparency they stay white."""
    max_value = np.iinfo(colour.dtype).max
    rows = max(1, (1 << 20) // colour.shape[1])
    for top in range(0, len(colour), rows):
        opacity = alpha[top : top + rows, :, None].astype(np.float32) / max_value
        band = colour[top : top + rows].astype(np.float32)
        band = np.where(opacity > 0, max_value - (max_value - band) / np.maximum(opacity, 1 / max_value), band)
        colour[top : top + rows] = np.rint(band.clip(0, max_value))


def _planes(file: BinaryIO, head: _Head, count: int) -> np.ndarray:
    """(count, H, W) of the first channels, uint8 or uint16."""
    row = -(-head.width * head.bits // 8)
    compression = int.from_bytes(_exactly(file, 2), "big")
    if compression == _RAW:
        data = file.read(row * head.height * count)
    elif compression == _PACKBITS:
        data = b"".join(_packed_rows(file, head, row, count))
    elif compression in (_ZIP, _ZIP_PREDICTED):
        data = zlib.decompressobj().decompress(file.read(), row * head.height * count)
    else:
        raise ValueError("an unknown compression")
    if len(data) < row * head.height * count:
        raise ValueError("the end is missing")
    if head.bits == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(count, head.height, row), axis=2)
        return (1 - bits[:, :, : head.width]) * np.uint8(255)  # 1 is black
    samples = np.frombuffer(data, np.uint8 if head.bits == 8 else ">u2").reshape(count, head.height, head.width)
    if compression == _ZIP_PREDICTED:
        samples = np.cumsum(samples, axis=2, dtype=np.uint8 if head.bits == 8 else np.uint16)
    return samples.astype(samples.dtype.newbyteorder("="))


def _packed_rows(file: BinaryIO, head: _Head, length: int, count: int) -> Iterator[bytes]:
    import imagecodecs

    size = 2 * head.version
    table = _exactly(file, size * head.height * head.channels)
    lengths = np.frombuffer(table, f">u{size}")[: head.height * count]
    for number in lengths.tolist():
        packed = file.read(number)
        unpacked = imagecodecs.packbits_decode(packed) if len(packed) == number else b""
        if len(unpacked) < length:
            raise ValueError("the end is missing")
        yield unpacked[:length]


def _dpi(body: bytes) -> tuple[float, float] | None:
    """From fixed-point numbers, in dots per inch whichever unit is shown."""
    if len(body) < 16:
        return None
    x, y = struct.unpack_from(">I", body)[0] / 65_536, struct.unpack_from(">I", body, 8)[0] / 65_536
    return (round(x, 2), round(y, 2)) if x > 0 and y > 0 else None
