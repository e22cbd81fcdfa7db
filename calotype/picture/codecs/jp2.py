"""JPEG 2000: boxes and the codestream's header are parsed here, OpenJPEG (through imagecodecs) decodes the pixels."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from calotype.errors import PictureError
from calotype.picture.codecs.box_lengths import boxes
from calotype.picture.codecs.decoded import (
    PictureFile,
    Pixels,
    check_page,
    decoding,
    left_out_channels,
    stretched,
    unpremultiply,
)
from calotype.picture.codecs.raster import converted, from_pillow
from calotype.picture.metadata import families
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.color_space import ColorTags
from calotype.picture.metadata.exif import without_header

_SIZE, _TILE, _END = b"\xff\x51", b"\xff\x90", b"\xff\xd9"  # markers
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))
_IPTC = (bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), bytes.fromhex("09a14e97c0b442e0bebf36df6f0ce36f"))
_GEO = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_CMYK, _SRGB, _GREY, _YCC = 12, 16, 17, 18  # enumerated colour spaces
_SPACES = {0: "bi-level", 13: "YCCK", 14: "CIE Lab", 15: "bi-level", 19: "CIE Jab", 20: "e-sRGB", 21: "ROMM RGB"}
_OPACITY, _PREMULTIPLIED = 1, 2  # types of channels


@dataclass(frozen=True)
class _Codestream:
    """The header of a codestream."""

    size: tuple[int, int]  # height, width
    bits: tuple[int, ...]  # of each component
    is_subsampled: bool


@dataclass
class _Boxes:
    codestreams: list[tuple[int, int]] = field(default_factory=list)  # start, end
    space: int | None = None  # enumerated
    icc: bytes | None = None
    channels: dict[int, int] = field(default_factory=dict)  # their types, where they are not colours
    palette_columns: int = 0
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    notes: tuple[str, ...] = ()


def open_jp2(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a JPEG 2000, in boxes or bare.

    Raises:
        PictureError: damaged or cut off, or samples or colours of an unsupported kind.
    """
    with decoding(name):
        found = _read_boxes(data)
        notes = found.notes + check_page(page, len(found.codestreams), name)
        start, end = found.codestreams[max(page, 1) - 1]
        stream = _header(data[start:end])
    if max(stream.bits) > 16:
        kind = f"{max(stream.bits)}-bit"
        raise PictureError(
            "{name} holds {kind} samples; save it with 8 or 16 bits per channel first", name=name, kind=kind
        )
    if found.space in _SPACES and found.space != 0 and found.icc is None:
        raise PictureError(
            "{name} is a JPEG 2000 in {space}, which is not supported; save it in RGB first",
            name=name,
            space=_SPACES[found.space],
        )
    iptc, iptc_notes = captions.read(found.iptc) if found.iptc else (None, ())
    header = data[:start] if len(found.codestreams) == 1 else b""
    return PictureFile(
        stream.size,
        lambda: _decode(data if header else data[start:end], header, data[start:end], stream, found, name),
        found.exif,
        found.xmp,
        found.dpi,
        notes=notes + iptc_notes,
        color_tags=ColorTags(is_srgb=found.space in (_SRGB, _GREY, _YCC)),
        iptc=iptc,
        count=len(found.codestreams),
    )


def _decode(file: bytes, header: bytes, codestream: bytes, stream: _Codestream, found: _Boxes, name: str) -> Pixels:
    """`header`: what of the file is before the codestream."""
    import imagecodecs

    with decoding(name):
        end = _end_of_tiles(codestream)
        if codestream[end - 2 : end] != _END and codestream[end : end + 2] != _END:
            file = _box_header_to_end(header) + codestream[:end] + _END
        if stream.is_subsampled:
            return _through_pillow(file, found.icc)
        samples = imagecodecs.jpeg2k_decode(_without_colour(file))
        samples = samples[:, :, None] if samples.ndim == 2 else samples
        return _pixels(_unsigned(samples, stream), stream, found)


def _box_header_to_end(header: bytes) -> bytes:
    """The boxes before the codestream; its own box now reaches to the end of the file."""
    if header[-12:-8] == b"jp2c":  # a length of 64 bits
        header = header[:-8]
    return header[:-8] + bytes(4) + b"jp2c" if header else b""


def _without_colour(file: bytes) -> bytes:
    """The file without its colour boxes, by which the decoder would convert to sRGB, 8 bits at a time."""
    data = bytearray(file)
    for kind, start, end in boxes(file, 0, len(file)):
        for inner, at, _ in boxes(file, start, min(end, len(file))) if kind == b"jp2h" else ():
            if inner == b"colr":
                data[at - 4 : at] = b"free"
    return bytes(data)


def _pixels(samples: np.ndarray, stream: _Codestream, found: _Boxes) -> Pixels:
    """(H, W, components) -> grey or RGB, and alpha."""
    bits = max(stream.bits) if not found.palette_columns else 8 * samples.itemsize
    samples = stretched(samples, bits)
    channels = samples.shape[2]
    if found.space == _CMYK or (found.icc or b"")[16:20] == b"CMYK":
        colours = 4
    elif channels - len(found.channels) >= 3 and found.space != _GREY:
        colours = 3
    else:
        colours = 1
    kinds = {n: kind for n, kind in found.channels.items() if kind in (_OPACITY, _PREMULTIPLIED) and n < channels}
    if not found.channels and channels == colours + 1:
        kinds = {colours: _OPACITY}  # many writers do not say what it is
    alpha = np.ascontiguousarray(samples[:, :, min(kinds)]) if kinds else None
    colour = np.ascontiguousarray(samples[:, :, :colours])
    further = channels - colours - (alpha is not None)
    notes = left_out_channels(further)
    if alpha is not None and kinds[min(kinds)] == _PREMULTIPLIED:
        unpremultiply(colour, alpha)
    if found.space == _YCC and colours == 3:
        colour = _from_ycc(colour)
    if colours == 4:
        pixels = converted(colour, "CMYK", found.icc)
        alpha = (alpha >> 8).astype(np.uint8) if alpha is not None and alpha.dtype == np.uint16 else alpha
        return Pixels(pixels.colour, alpha, pixels.icc, pixels.notes + notes)
    return Pixels(colour, alpha, found.icc, notes)


def _unsigned(samples: np.ndarray, stream: _Codestream) -> np.ndarray:
    if samples.dtype.kind == "u":
        return samples
    lowest = 1 << (max(stream.bits) - 1)
    return (samples.astype(np.int32) + lowest).astype(np.uint8 if samples.itemsize == 1 else np.uint16)


def _from_ycc(samples: np.ndarray) -> np.ndarray:
    """sYCC, full range, -> sRGB of the same type."""
    max_value = np.iinfo(samples.dtype).max
    luma, blue, red = (samples[:, :, n].astype(np.float32) for n in range(3))
    blue, red = blue - (max_value + 1) / 2, red - (max_value + 1) / 2
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=2)
    return np.rint(rgb.clip(0, max_value)).astype(samples.dtype)


def _through_pillow(file: bytes, icc: bytes | None) -> Pixels:
    """Components of different sizes, which Pillow enlarges; of 16 bits it keeps 8."""
    from PIL import Jpeg2KImagePlugin

    image = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(file))
    image.load()
    return from_pillow(image, icc)


def _header(codestream: bytes) -> _Codestream:
    if codestream[2:4] != _SIZE or len(codestream) < 42:
        raise ValueError("its header is missing")
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    count = struct.unpack_from(">H", codestream, 40)[0]
    components = [codestream[at : at + 3] for at in range(42, 42 + 3 * count, 3)]
    if not count or len(components[-1]) < 3 or right <= left or bottom <= top:
        raise ValueError("a picture without pixels")
    bits = tuple((component[0] & 0x7F) + 1 for component in components)
    is_subsampled = any(component[1:] != b"\1\1" for component in components)
    return _Codestream((bottom - top, right - left), bits, is_subsampled)


def _end_of_tiles(codestream: bytes) -> int:
    """The end of the last tile-part, before or, where its length is unknown, behind the end mark, which may be missing.

    Raises:
        ValueError: a tile or a part of one is missing; OpenJPEG decodes a part of the file with a grey bottom.
    """
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", codestream, 8)
    if not width or not height:
        raise ValueError("tiles without pixels")
    expected = -(-(right - left) // width) * -(-(bottom - top) // height)
    at = 2
    while codestream[at : at + 2] != _TILE:  # segments of the main header
        if at + 4 > len(codestream) or codestream[at] != 0xFF:
            raise ValueError("its tiles are missing")
        at += 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
    parts: dict[int, int] = {}  # of each tile
    expected_parts: dict[int, int] = {}  # 0: not known
    while codestream[at : at + 2] == _TILE:
        number, length, _, count = struct.unpack_from(">HIBB", codestream, at + 4)
        end = at + length if length else len(codestream.rstrip(b"\0"))
        if end > len(codestream) or 0 < length < 14 or (not length and codestream[end - 2 : end] != _END):
            raise ValueError("the end is missing")
        parts[number] = parts.get(number, 0) + 1
        expected_parts[number] = max(count, expected_parts.get(number, 0))
        at = end
    has_end = _END in (codestream[at : at + 2], codestream[at - 2 : at])
    if len(parts) < expected or not (has_end or all(parts[n] >= count for n, count in expected_parts.items())):
        raise ValueError("the end is missing")
    return at


def _read_boxes(data: bytes) -> _Boxes:
    found = _Boxes()
    if data[:2] == b"\xff\x4f":
        found.codestreams = [(0, len(data))]
        return found
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"jp2c":
            found.codestreams.append((start, min(end, len(data))))
        if end > len(data):
            break
        body = data[start:end]
        if kind == b"jp2h":
            _read_header_boxes(body, found)
        if kind == b"xml " and b"rdf:RDF" in body and found.xmp is None:
            found.xmp = body
        if kind == b"uuid":
            _read_uuid(body[:16], body[16:], found)
        if kind == b"jumb" and families.CREDENTIALS_NOTE not in found.notes:
            found.notes += (families.CREDENTIALS_NOTE,)
    if not found.codestreams:
        raise ValueError("the end is missing")
    return found


def _read_uuid(number: bytes, body: bytes, found: _Boxes) -> None:
    if number == _XMP:
        found.xmp = body
    if number in _EXIF and found.exif is None:
        found.exif = without_header(body.removeprefix(b"EXIF\0\0")) or None
    if number in _IPTC:
        stored = captions.in_resources(body)
        found.iptc = stored[0] if stored else body
    if number == _GEO:
        found.notes += ("its map coordinates (GeoJP2) are not carried over",)
    if number == _C2PA:
        found.notes += (families.CREDENTIALS_NOTE,)


def _read_header_boxes(header: bytes, found: _Boxes) -> None:
    """Colour, channels and resolution; the first colour box that is understood counts."""
    for kind, start, end in _inner(header):
        body = header[start:end]
        if kind == b"colr" and len(body) >= 3 and found.space is None and found.icc is None:
            if body[0] == 1 and len(body) >= 7:
                found.space = int.from_bytes(body[3:7], "big")
            if body[0] in (2, 3):
                found.icc = body[3:]
        if kind == b"pclr" and len(body) >= 3:
            found.palette_columns = body[2]
        if kind == b"cdef":
            count = int.from_bytes(body[:2], "big")
            entries = [struct.unpack_from(">HHH", body, 2 + 6 * n) for n in range(count) if 8 + 6 * n <= len(body)]
            found.channels = {channel: type_ for channel, type_, _ in entries if type_}
        if kind == b"res ":
            found.dpi = _resolution(body) or found.dpi


def _resolution(body: bytes) -> tuple[float, float] | None:
    """Dots per inch from the resolution of capture or, better, of display."""
    inner = {kind: body[start:end] for kind, start, end in _inner(body)}
    value = inner.get(b"resd") or inner.get(b"resc") or b""
    if len(value) < 10:
        return None
    over_y, under_y, over_x, under_x, power_y, power_x = struct.unpack_from(">4H2b", value)
    if not (over_x and under_x and over_y and under_y and abs(power_x) < 12 and abs(power_y) < 12):
        return None
    per_metre = over_x / under_x * 10.0**power_x, over_y / under_y * 10.0**power_y
    return tuple(round(value * 0.0254, 2) for value in per_metre)


def _inner(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a box. A box of unknown length would be the last one."""
    return ((kind, start, min(end, len(body))) for kind, start, end in boxes(body, 0, len(body)))
