"""PNG, chunk by chunk; libpng (through imagecodecs) decodes and encodes the pixels, 8 and 16 bit."""

import contextlib
import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from calotype.dialects.readers import KEYWORDS
from calotype.errors import Message
from calotype.picture import notes as about
from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, plain_text, split
from calotype.picture.metadata import families
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.color_space import Cicp, ColorTags
from calotype.picture.metadata.exif import without_header
from calotype.picture.metadata.iptc import Iptc

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # in the order that the decoder expects
_END = b"\0\0\0\0IEND\xaeB`\x82"
_BLOCK = (b"Exif\0\0", b"II*\0", b"MM\0*")
_XMP_KEY = b"XML:com.adobe.xmp"
INFOTEXT = "parameters"  # the keyword under which A1111 and similar programs store generation parameters
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the kind of colour
_KIND = re.compile(rb"[A-Za-z]{4}")
_WHOLE_NOTE = "its file is damaged, but not its pixels"
_WRONG_NOTE = "its file is damaged: all of it was read, but parts may be wrong"
_STEP = 256  # bytes of a damaged file that are decompressed at a time
_MAX_TEXT_BYTES = 32 << 20  # of a decompressed chunk
_PQ = bytes((9, 16, 0, 1))  # as cICP: BT.2020, PQ, RGB, full range
_INCH = 0.0254  # metres


def open_png(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads header and metadata of a PNG and checks every checksum; of an animated one by default its still picture.

    Raises:
        PictureError: damaged or cut off.
    """
    with decoding(name):
        decodable, chunks, notes = _sort_chunks(data)
        width, height = struct.unpack_from(">II", chunks[b"IHDR"][0])
        if not (0 < width < 1 << 31 and 0 < height < 1 << 31) or b"IDAT" not in chunks:
            raise ValueError("a picture without pixels")
    count = _count(chunks)
    notes += check_page(page, count, name)
    icc = _profile(chunks)
    iptc, iptc_notes = _captions(chunks)
    notes += (families.CREDENTIALS_NOTE,) if b"caBX" in chunks else ()
    if _text(chunks, "Creation Time"):
        notes += ("its text entry Creation Time is not carried over",)

    def decode() -> Pixels:
        import imagecodecs

        with decoding(name):
            if page > 1:
                return _frame(data, page - 1, icc)
            colour, alpha = split(imagecodecs.png_decode(decodable))
        return Pixels(colour, alpha, icc)

    texts = {key: text for key in KEYWORDS if (text := _text(chunks, key))}
    comment = _text(chunks, "Comment")
    is_generated = bool(_text(chunks, INFOTEXT)) or comment.startswith("{")
    return PictureFile(
        (height, width),
        decode,
        _exif(chunks),
        _xmp(chunks),
        _dpi(chunks),
        notes=notes + iptc_notes,
        color_tags=_color_tags(chunks),
        texts=texts,
        iptc=iptc,
        comment="" if is_generated else comment,
        count=count,
        captions={} if is_generated else {key: text for key in captions.KEYWORDS if (text := _text(chunks, key))},
    )


def open_png_remains(data: bytes, name: str, page: int = 0) -> PictureFile:
    """As `open_png`, of a damaged one, whose rows are read up to the damage; a note says how many.

    Raises:
        PictureError: nothing is left, or it is interlaced, so that what is left are single pixels.
    """
    with decoding(name):
        if page > 1:
            raise ValueError("the end is missing")
        data, has_palette = _with_sound_chunks(data)
    file = open_png(data, name)

    def decode() -> Pixels:
        with decoding(name):
            filled, fraction, is_right = _filled(data)
        pixels = open_png(filled, name).decode()
        note = about.DAMAGED_ROWS.format(percent=int(100 * fraction))
        if fraction == 1:
            note = _WHOLE_NOTE if is_right and has_palette else _WRONG_NOTE
        return replace(pixels, notes=(*pixels.notes, note))

    return replace(file, decode=decode, is_remains=True)


def _with_sound_chunks(data: bytes) -> tuple[bytes, bool]:
    """The file up to where no chunk follows, with new checksums for pixels and palette, and whether the palette, if
    there is one, is undamaged."""
    at, parts, has_palette = len(_SIGNATURE), [_SIGNATURE], True
    while _KIND.match(kind := data[at + 4 : at + 8]) and kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        chunk = data[at:end]
        if kind in (b"PLTE", b"IDAT"):
            chunk = _chunk(kind, data[at + 8 : min(end - 4, len(data))])
        elif end > len(data) or (not kind[0] & 0x20 and _is_damaged(chunk)):
            break
        has_palette &= kind != b"PLTE" or chunk == data[at:end]
        parts.append(chunk)
        at = end
    return b"".join([*parts, _END]), has_palette


def _is_damaged(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")


def _filled(data: bytes) -> tuple[bytes, float, bool]:
    """The PNG with zeros for the rows that are missing, the fraction of rows that are there, and whether all are right.

    Raises:
        ValueError: there are none, or they are interlaced.
    """
    chunks = list(_chunks(data))
    width, height, bits, kind_of_colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    length = 1 + (width * bits * _CHANNELS[kind_of_colour] + 7) // 8  # of a row with the number of its filter
    rows, is_right = _rows(b"".join(body for kind, body, _, _ in chunks if kind == b"IDAT"), length, height)
    if is_interlaced or not rows:
        raise ValueError("the end is missing")
    filled = _chunk(b"IDAT", zlib.compress(rows + bytes(length * height - len(rows)), 1))
    before = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", chunks)
    file = b"".join([_SIGNATURE, *(raw for _, _, raw, _ in before), filled, _END])
    return file, len(rows) / (length * height), is_right


def _rows(compressed: bytes, length: int, height: int) -> tuple[bytearray, bool]:
    """The whole rows that can be decompressed before the data are damaged, `height` at most, and whether the checksum
    of all is right."""
    decompressor, out = zlib.decompressobj(), bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(0, len(compressed), _STEP):
            before, step = decompressor.copy(), compressed[at : at + _STEP]
            try:
                out += decompressor.decompress(step)
            except zlib.error:
                for n in range(len(step)):  # up to the fault, which loses what its step yields
                    out += before.decompress(step[n : n + 1])
            if decompressor.eof or len(out) > length * height:
                break
    filters = out[: length * height : length]
    count = next((row for row, filter in enumerate(filters) if filter > 4), min(len(out) // length, height))
    return out[: count * length], decompressor.eof


def _sort_chunks(data: bytes) -> tuple[bytes, dict[bytes, list[bytes]], tuple[str, ...]]:
    """A PNG of the pixel chunks alone for the decoder, the bodies of all chunks by kind, and notes."""
    pixel_chunks, chunks, notes = {}, {}, ()
    for kind, body, raw, is_intact in _chunks(data):
        is_critical = not kind[0] & 0x20
        if is_critical and not (is_intact and kind in _PIXEL_CHUNKS):
            reason = "entry {entry} is unknown" if is_intact else "entry {entry} is damaged"
            raise ValueError(Message(reason, entry=kind.decode("latin-1")))
        if not is_intact:
            notes += (about.DAMAGED_ENTRY.format(entry=kind.decode("latin-1")),)
            continue
        if kind in _PIXEL_CHUNKS:
            pixel_chunks.setdefault(kind, []).append(raw)
        chunks.setdefault(kind, []).append(body if kind != b"IDAT" else b"")
    if b"IEND" not in pixel_chunks:
        pixel_chunks[b"IEND"] = [_END]
        notes += ("its end is missing, but not its pixels",)
    parts = [raw for kind in _PIXEL_CHUNKS for raw in pixel_chunks.get(kind, ())[: None if kind == b"IDAT" else 1]]
    return b"".join([_SIGNATURE, *parts]), chunks, notes


def _count(chunks: dict[bytes, list[bytes]]) -> int:
    """The frames of an animation, and its still picture if that is not the first of them."""
    if b"acTL" not in chunks or b"fcTL" not in chunks:
        return 1
    kinds = list(chunks)  # in the order of the file
    return len(chunks[b"fcTL"]) + (kinds.index(b"fcTL") > kinds.index(b"IDAT"))


def _frame(data: bytes, number: int, icc: bytes | None) -> Pixels:
    """The canvas of an animation with its frames up to this one, in 8 bits."""
    from PIL import PngImagePlugin

    from calotype.picture.codecs.raster import from_pillow

    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    is_deep = data[24] == 16
    image.seek(number)
    image.load()
    pixels = from_pillow(image, icc)
    return replace(pixels, notes=(*pixels.notes, *(("of its 16 bits 8 are used",) if is_deep else ())))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, body, the whole chunk, and whether its checksum is right; ends after IEND, or where the file is cut off.

    The decoder finds out whether pixels are missing where the file ends between chunks, or in one without pixels.
    """
    at = len(_SIGNATURE)
    if data[at + 4 : at + 8] != b"IHDR" or int.from_bytes(data[at : at + 4], "big") != 13:
        raise ValueError("its header is missing")
    while True:
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            if data[at + 4 : at + 8] == b"IDAT":
                raise ValueError("the end is missing")
            return
        raw = data[at:end]
        yield raw[4:8], raw[8:-4], raw, zlib.crc32(raw[4:-4]) == int.from_bytes(raw[-4:], "big")
        if raw[4:8] == b"IEND":
            return
        at = end


def _decompressed(data: bytes) -> bytes | None:
    """Decompressed data; None where it is damaged or larger than `_MAX_TEXT_BYTES`."""
    try:
        decompressor = zlib.decompressobj()
        out = decompressor.decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return out if decompressor.eof else None


def _profile(chunks: dict[bytes, list[bytes]]) -> bytes | None:
    for body in chunks.get(b"iCCP", ()):
        _, _, rest = body.partition(b"\0")
        return _decompressed(rest[1:])
    return None


def _color_tags(chunks: dict[bytes, list[bytes]]) -> ColorTags:
    """From cICP (or the profile's name that stood for it), sRGB, gAMA and cHRM; those of a wrong length are ignored."""
    cicp, gamma, corners = (chunks.get(kind, [b""])[0] for kind in (b"cICP", b"gAMA", b"cHRM"))
    profile_name = chunks.get(b"iCCP", [b""])[0].partition(b"\0")[0]
    cicp = _PQ if profile_name == b"ITUR_2100_PQ_FULL" and not cicp else cicp
    numerator = int.from_bytes(gamma, "big")
    values = struct.unpack(">8i", corners) if len(corners) == 32 else ()
    return ColorTags(
        cicp=Cicp(cicp[0], cicp[1], bool(cicp[3])) if len(cicp) == 4 and cicp[2] == 0 else None,
        is_cicp_first=True,
        is_srgb=b"sRGB" in chunks,
        gamma=numerator / 100_000 if len(gamma) == 4 and 10_000 <= numerator <= 1_000_000 else None,
        chromaticities=tuple(value / 100_000 for value in values) if len(values) == 8 else None,
    )


def _exif(chunks: dict[bytes, list[bytes]]) -> bytes | None:
    """From eXIf, or from the hexadecimal text that ImageMagick writes."""
    for body in chunks.get(b"eXIf", ()):
        return without_header(body)
    raw = _raw_profile(chunks, "exif") or _raw_profile(chunks, "APP1")
    return without_header(raw) if raw.startswith(_BLOCK) else None


def _xmp(chunks: dict[bytes, list[bytes]]) -> bytes | None:
    for body in chunks.get(b"iTXt", ()):
        key, _, rest = body.partition(b"\0")
        parts = rest[2:].split(b"\0", 2)
        if key == _XMP_KEY and len(parts) == 3:
            return _decompressed(parts[2]) if rest[0] else parts[2]
    raw = _raw_profile(chunks, "xmp") or _raw_profile(chunks, "APP1").partition(b"http://ns.adobe.com/xap/1.0/\0")[2]
    return raw or None


def _captions(chunks: dict[bytes, list[bytes]]) -> tuple[Iptc | None, tuple[str, ...]]:
    """IPTC captions in ImageMagick's hexadecimal text: datasets, or Photoshop's resources with them."""
    raw = _raw_profile(chunks, "iptc") or _raw_profile(chunks, "8bim")
    if raw.startswith(b"\x1c"):
        return captions.read(raw)
    stored = captions.in_resources(raw.removeprefix(b"Photoshop 3.0\0"))
    return captions.read(*stored) if stored else (None, ())


def _raw_profile(chunks: dict[bytes, list[bytes]], kind: str) -> bytes:
    """`\\nexif\\n   1234\\n4578...`: a name, a length, then hexadecimal digits; empty where there is none."""
    parts = _text(chunks, f"Raw profile type {kind}").split(None, 2)
    try:
        return bytes.fromhex(parts[2]) if len(parts) == 3 else b""
    except ValueError:
        return b""


def _text(chunks: dict[bytes, list[bytes]], keyword: str) -> str:
    """A text by its keyword, from tEXt, zTXt or iTXt; empty where there is none."""
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        for body in chunks.get(kind, ()):
            key, _, rest = body.partition(b"\0")
            if key.decode("latin-1") != keyword:
                continue
            if kind == b"tEXt":
                return plain_text(rest)
            parts = (rest[1:],) if kind == b"zTXt" else rest[2:].split(b"\0", 2)
            is_compressed = kind == b"zTXt" or rest[:1] == b"\1"
            text = (_decompressed(parts[-1]) or b"") if is_compressed else parts[-1]
            return plain_text(text) if kind == b"zTXt" else text.decode("utf-8", "replace")
    return ""


def _dpi(chunks: dict[bytes, list[bytes]]) -> tuple[float, float] | None:
    for body in chunks.get(b"pHYs", ()):
        if len(body) == 9 and body[8] == 1:
            x, y = struct.unpack_from(">II", body)
            return (round(x * _INCH, 2), round(y * _INCH, 2)) if x >= 1 and y >= 1 else None
    return None


def encode_png(
    samples: np.ndarray,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
    texts: Mapping[str, str] = MappingProxyType({}),
) -> list[memoryview]:
    """The file, as consecutive buffers. `samples` is (H, W, 1 to 4) uint8 or uint16, alpha last and straight."""
    import imagecodecs

    # Level 3 takes a third of the time of zlib's usual 6; the file grows by 4 %.
    file = memoryview(imagecodecs.png_encode(samples if samples.shape[2] > 1 else samples[:, :, 0], level=3))
    after_header = len(_SIGNATURE) + 12 + 13
    metadata = b""
    if icc:
        metadata += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
    if dpi:
        metadata += _chunk(b"pHYs", struct.pack(">IIB", *(min(round(value / _INCH), 0x7FFFFFFF) for value in dpi), 1))
    if exif:
        metadata += _chunk(b"eXIf", exif)
    if xmp:
        metadata += _chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + xmp)
    metadata += b"".join(_text_chunk(key, text) for key, text in texts.items() if text)
    return [file[:after_header], memoryview(metadata), file[after_header:]]


def _text_chunk(key: str, text: str) -> bytes:
    """tEXt where the text is Latin-1, as A1111 writes it; iTXt otherwise, or if it could be taken for UTF-8."""
    try:
        latin = text.encode("latin-1")
    except UnicodeEncodeError:
        latin = b""
    if plain_text(latin) == text:
        return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + latin)
    return _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
