"""JPEG XL: boxes and header are parsed here, libjxl decodes and encodes the pixels."""

import io
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calotype.errors import PictureError, Remedy
from calotype.picture.codecs import jxl_icc
from calotype.picture.codecs.box_lengths import boxes
from calotype.picture.codecs.decoded import (
    PictureFile,
    Pixels,
    check_page,
    decoding,
    left_out_channels,
    split,
    stretched,
    unpremultiply,
)
from calotype.picture.metadata import families
from calotype.picture.metadata.color_space import Cicp, ColorTags
from calotype.picture.metadata.exif import without_header

_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_MAX_METADATA = 64 << 20  # bytes of a box after decompression
_ALPHA, _BLACK = 0, 4  # types of extra channels
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_LENGTH = ((1, 9), (1, 13), (1, 18), (1, 30))  # of a side: the smallest, and bits of what is added to it
_D65, _SRGB, _P3, _TRANSFER_SRGB, _HDR = 1, 1, 11, 13, (16, 18)
_SHAPE = re.compile(r" shape=\(([\d, ]+)\)")


@dataclass(frozen=True)
class _JxlHeader:
    """What the codestream says about the picture."""

    size: tuple[int, int]  # height, width as stored
    orientation: int = 1
    bits: int = 8
    is_animated: bool = False
    extra_channels: tuple[int, ...] = ()  # their types
    is_premultiplied: bool = False
    color_tags: ColorTags | None = ColorTags(is_srgb=True)  # None: the ICC profile says it


@dataclass
class _Contents:
    codestream: bytes = b""
    exif: bytes | None = None
    xmp: bytes | None = None
    kinds: set[bytes] = field(default_factory=set)


def open_jxl(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a JPEG XL or an animation's frame, by default the first; libjxl turns it upright.

    Raises:
        PictureError: damaged or cut off, CMYK, or libjxl is missing.
    """
    _libjxl()
    with decoding(name):
        contents = _contents(data)
        header = _header(_Bits(contents.codestream))
    if _BLACK in header.extra_channels:
        raise PictureError("{name} is a JPEG XL in CMYK, which is not supported; save it as TIFF first", name=name)
    count = _frame_count(data, header) if header.is_animated else 1
    notes = check_page(page, count or 1, name)
    if not (count or page):
        notes = ("it is animated: the first frame is used",)
    height, width = header.size
    further = sum(kind != _ALPHA for kind in header.extra_channels)
    notes += left_out_channels(further)
    notes += (families.CREDENTIALS_NOTE,) if b"jumb" in contents.kinds else ()
    notes += (families.GAIN_MAP_NOTE,) if b"jhgm" in contents.kinds else ()
    return PictureFile(
        (height, width) if header.orientation < 5 else (width, height),
        lambda: _decode(data, header, name, max(page, 1) - 1),
        contents.exif,
        contents.xmp,
        is_upright=True,
        notes=notes,
        color_tags=header.color_tags or ColorTags(),
        orientation=header.orientation,
        count=count or 1,
    )


def _frame_count(data: bytes, header: _JxlHeader) -> int:
    """Frames that are shown; 0 if they can't be counted.

    imagecodecs skips from frame to frame, decoding none, and then compares the shape of all with that of `out`.
    """
    import imagecodecs

    for dtype in (np.uint8, np.uint16, np.float32, np.float16):  # it compares the type first
        try:
            imagecodecs.jpegxl_decode(data, out=np.empty(0, dtype))
        except (ValueError, RuntimeError) as fault:
            if shape := _SHAPE.search(str(fault)):
                is_plane = _is_grey(data) and not header.extra_channels
                is_single = shape[1].count(",") + 1 == (2 if is_plane else 3)
                return 1 if is_single else int(shape[1].split(",")[0])
    return 0


def _is_grey(data: bytes) -> bool:
    return _libjxl().probe(data).num_color_channels == 1


def _decode(data: bytes, header: _JxlHeader, name: str, frame: int) -> Pixels:
    with decoding(name):
        if header.is_animated:
            samples = _frame(data, header, frame)
        else:
            samples = _libjxl().decode_to_numpy(data, dtype="uint16" if header.bits > 8 else "uint8")[1]
        colour, alpha = split(samples)
        if alpha is not None and header.is_premultiplied:
            unpremultiply(colour, alpha)
        icc = _libjxl().probe(data).icc if header.color_tags is None else None
    return Pixels(colour, alpha, icc)


def _frame(data: bytes, header: _JxlHeader, number: int) -> np.ndarray:
    """Of an animation, of which the other library returns the last frame."""
    import imagecodecs

    samples = imagecodecs.jpegxl_decode(data, index=number)
    if header.extra_channels and _ALPHA not in header.extra_channels and _is_grey(data):
        samples = samples[0]  # the other channels lie behind it
    if samples.dtype.kind == "f":
        return np.rint(samples.clip(0, 1) * 65_535).astype(np.uint16)
    return stretched(samples, header.bits)


def encode_jxl(samples: np.ndarray, quality: int, icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """The file. `samples` is (H, W, 1 to 4) uint8 or uint16, alpha last and straight; quality 100 is lossless.

    The encoder takes no profile with its lossy pixels. Those of 8 bits in a profile are coded as a JPEG, of which JPEG
    XL holds the coefficients; others in a profile are lossless.
    """
    is_deep = samples.dtype == np.uint16
    if icc and quality < 100 and not is_deep and samples.shape[2] in (1, 3):
        codestream = _as_jpeg(samples, quality, icc)
    else:
        codestream = _encoded(samples, 100 if icc else quality)
        codestream = jxl_icc.with_profile(codestream, *_color_span(codestream), icc) if icc else codestream
    parts = [(b"ftyp", b"jxl \0\0\0\0jxl ")]
    parts += [(b"jxll", b"\x0a")] if is_deep else []  # level 10: lossless 16 bits
    parts += [(b"Exif", bytes(4) + exif)] if exif else []
    parts += [(b"xml ", xmp)] if xmp else []
    return _CONTAINER + b"".join(
        (8 + len(body)).to_bytes(4, "big") + kind + body for kind, body in (*parts, (b"jxlc", codestream))
    )


def _encoded(samples: np.ndarray, quality: int) -> bytes:
    library = _libjxl()
    speeds = library.EncoderSpeed
    # Lossless pixels at effort 3 take a seventh of the time of the usual 7, and their files are 4 % larger.
    how = (
        {"lossless": True, "speed": speeds.Falcon}
        if quality == 100
        else {"quality": 0.1 + 0.09 * (100 - quality), "speed": speeds.Hare}  # Butteraugli distance
    )
    return _contents(library.encode_from_numpy(np.ascontiguousarray(samples), **how)).codestream


def _as_jpeg(samples: np.ndarray, quality: int, icc: bytes) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    image.save(out, "jpeg", quality=quality, subsampling=0 if quality >= 90 else 2, icc_profile=icc)
    return _contents(_libjxl().jpeg_to_jxl(out.getvalue())).codestream


def _color_span(codestream: bytes) -> tuple[int, int]:
    """The first bit of the colour space in a codestream of `_encoded`, and the one after it."""
    bits = _Bits(codestream)
    _header(bits)
    return bits.color_span


def _libjxl() -> Any:
    try:
        import pyjpegxl
    except ImportError as fault:
        raise PictureError(
            "JPEG XL needs the package pyjpegxl ({fault}); {remedy}",
            fault=str(fault),
            remedy=Remedy("install_packages", "pyjpegxl"),
        ) from fault
    return pyjpegxl


def _contents(data: bytes) -> _Contents:
    """Codestream and metadata of a container, or of a bare codestream. Raises ValueError if it is cut off."""
    if not data.startswith(_CONTAINER):
        return _Contents(data)
    found, parts = _Contents(), []
    end = 0
    for kind, start, stop in boxes(data, 0, len(data)):
        if stop > len(data):
            raise ValueError("the end is missing")
        found.kinds.add(kind)
        body, end = memoryview(data)[start:stop], stop
        if kind == b"jxlc":
            parts = [(0, body)]
        if kind == b"jxlp":
            parts.append((int.from_bytes(body[:4], "big"), body[4:]))
        kind, metadata = _uncompressed(kind, body)
        if kind == b"Exif" and found.exif is None and len(metadata) > 4:
            found.exif = without_header(metadata[4 + int.from_bytes(metadata[:4], "big") :]) or None
        if kind == b"xml " and found.xmp is None:
            found.xmp = metadata or None
    numbers = [number & 0x7FFFFFFF for number, _ in parts]
    is_last = [number >> 31 for number, _ in parts]
    if end < len(data) or (parts and b"jxlc" not in found.kinds and (not is_last[-1] or sorted(numbers) != numbers)):
        raise ValueError("the end is missing")
    found.codestream = b"".join(part for _, part in parts)
    return found


def _uncompressed(kind: bytes, body: memoryview) -> tuple[bytes, bytes]:
    """The kind and content of a box of metadata, which may be compressed; empty for others."""
    if kind in (b"Exif", b"xml "):
        return kind, bytes(body)
    if kind != b"brob" or bytes(body[:4]) not in (b"Exif", b"xml "):
        return kind, b""
    import imagecodecs

    try:
        content = imagecodecs.brotli_decode(bytes(body[4:]), out=_MAX_METADATA)
    except (imagecodecs.BrotliError, ValueError, RuntimeError):
        content = b""
    return bytes(body[:4]), bytes(content)


class _Bits:
    """Reads a codestream's header, the lowest bit of each byte first."""

    def __init__(self, data: bytes):
        if data[:2] != b"\xff\x0a":
            raise ValueError("its header is missing")
        self._value, self._left = int.from_bytes(data[2:4096], "little"), 8 * (len(data[2:4096]))
        self.position = 16  # in the codestream
        self.color_span = (0, 0)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the end is missing")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        self.position += count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def choose(self, *choices: tuple[int, int]) -> int:
        """One of four numbers, each a base and the count of bits to add to it."""
        base, count = choices[self.take(2)]
        return base + self.take(count)

    def enum(self) -> int:
        return self.choose((0, 0), (1, 0), (2, 4), (18, 6))


def _header(bits: _Bits) -> _JxlHeader:
    """By ISO/IEC 18181-1, up to the colour space."""
    size = _side_lengths(bits)
    if bits.flag():  # everything else is as usual
        return _JxlHeader(size)
    orientation, is_animated = 1, False
    if bits.flag():
        orientation = 1 + bits.take(3)
        if bits.flag():
            _side_lengths(bits)  # on screen
        if bits.flag():
            _skip_preview(bits)
        is_animated = bits.flag()
        if is_animated:
            _skip_animation(bits)
    depth = _bit_depth(bits)
    bits.flag()  # 16 bits suffice for its buffers
    kinds, is_premultiplied = [], False
    for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12))):
        kind, is_associated = _extra_channel(bits)
        is_premultiplied |= is_associated and _ALPHA not in kinds
        kinds.append(kind)
    bits.flag()  # lossy
    start = bits.position
    color_tags = _color_tags(bits)
    bits.color_span = (start, bits.position)
    return _JxlHeader(size, orientation, depth, is_animated, tuple(kinds), is_premultiplied, color_tags)


def _side_lengths(bits: _Bits) -> tuple[int, int]:
    is_small = bits.flag()
    height = 8 * (1 + bits.take(5)) if is_small else bits.choose(*_LENGTH)
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        return height, height * over // under
    return height, 8 * (1 + bits.take(5)) if is_small else bits.choose(*_LENGTH)


def _skip_preview(bits: _Bits) -> None:
    lengths = ((16, 0), (32, 0), (1, 5), (33, 9)) if bits.flag() else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choose(*lengths)
    if bits.take(3) == 0:
        bits.choose(*lengths)


def _skip_animation(bits: _Bits) -> None:
    bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
    bits.flag()


def _bit_depth(bits: _Bits) -> int:
    if not bits.flag():
        return bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
    depth = bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
    bits.take(4)  # of the exponent
    return depth


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """The type of a channel besides colour, and whether the colours are multiplied by it."""
    if bits.flag():
        return _ALPHA, False
    kind = bits.enum()
    _bit_depth(bits)
    bits.choose((0, 0), (3, 0), (4, 0), (1, 3))  # subsampling
    bits.take(8 * bits.choose((0, 0), (0, 4), (16, 5), (48, 10)))  # name
    if kind == _ALPHA:
        return kind, bits.flag()
    if kind == 2:  # a spot colour
        bits.take(64)
    if kind == 5:  # of a sensor
        bits.choose((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, False


def _color_tags(bits: _Bits) -> ColorTags | None:
    """Of sRGB and of HDR; None for others, of which libjxl makes a profile."""
    if bits.flag():
        return ColorTags(is_srgb=True)
    has_icc, space = bits.flag(), bits.enum()
    if has_icc or space not in (0, 1):
        return None
    white, primaries = bits.enum(), _SRGB
    if white == 2:
        _skip_xy(bits, 1)
    if space == 0:
        primaries = bits.enum()
        if primaries == 2:
            _skip_xy(bits, 3)
    if bits.flag():
        bits.take(24)  # a power
        return None
    transfer = bits.enum()
    bits.enum()  # rendering intent
    if transfer in _HDR and white == _D65:
        return ColorTags(cicp=Cicp({_P3: 12}.get(primaries, primaries), transfer))
    is_srgb = (white, primaries, transfer) == (_D65, _SRGB, _TRANSFER_SRGB)
    return ColorTags(is_srgb=True) if is_srgb else None


def _skip_xy(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.choose((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
