"""PNG, chunk by chunk; libpng (through imagecodecs) does the pixels, 8 and 16 bit alike."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding, split

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # in the order the decoder wants
_XMP_KEY = b"XML:com.adobe.xmp"
INFOTEXT = "parameters"  # the keyword under which A1111 and its kin keep what a picture was drawn with
_PERSONAL = {b"Title", b"Author", b"Description", b"Copyright", b"Comment", b"Creation Time"}
_MOST_TEXT = 32 << 20  # what a compressed chunk may unfold to
_INCH = 0.0254  # metres


def find_png(data: bytes, name: str) -> PictureFile:
    """Header and metadata of a PNG, every checksum checked; of an animated one its still picture.

    Raises:
        PictureError: damaged or cut off.
    """
    with decoding(name):
        kept, said, notes = _sorted(data)
        width, height = struct.unpack_from(">II", said[b"IHDR"][0])
        if not (0 < width < 1 << 31 and 0 < height < 1 << 31) or b"IDAT" not in said:
            raise ValueError("a picture without pixels")
    icc = _profile(said)
    if icc is None and b"sRGB" not in said and b"gAMA" in said and len(said[b"gAMA"][0]) == 4:
        gamma = int.from_bytes(said[b"gAMA"][0], "big") / 100_000
        if abs(gamma - 1 / 2.2) > 0.05:
            notes += (f"its gamma of {gamma:.3f} is not carried over: PNG's gAMA without a profile",)
    texts = sorted(_told_by_text(said))
    notes += (f"its text entries ({', '.join(texts)}) are not carried over",) if texts else ()

    def decode() -> Pixels:
        import imagecodecs

        with decoding(name):
            colour, alpha = split(imagecodecs.png_decode(kept))
        return Pixels(colour, alpha, icc)

    told = {key: _text(said, key) for key in (INFOTEXT, "Software", "Description", "Comment")}
    drawn = {key: text for key, text in told.items() if text} if told[INFOTEXT] or told["Comment"] else {}
    return PictureFile((height, width), decode, _exif(said), _xmp(said), _dpi(said), notes=notes, drawn=drawn)


def _sorted(data: bytes) -> tuple[bytes, dict[bytes, list[bytes]], tuple[str, ...]]:
    """What the decoder needs as a file of its own, all chunks by kind, and what to say."""
    kept, said, notes = {}, {}, ()
    for kind, body, raw, is_sound in _chunks(data):
        is_critical = not kind[0] & 0x20
        if is_critical and not (is_sound and kind in _PIXEL_CHUNKS):
            raise ValueError(f"entry {kind.decode('latin-1')} is {'unknown' if is_sound else 'damaged'}")
        if not is_sound:
            notes += (f"a damaged {kind.decode('latin-1')} entry is left out",)
            continue
        if kind in _PIXEL_CHUNKS:
            kept.setdefault(kind, []).append(raw)
        said.setdefault(kind, []).append(body if kind != b"IDAT" else b"")
    if b"acTL" in said:
        notes += ("it is animated: the first frame is used",)
    pieces = [raw for kind in _PIXEL_CHUNKS for raw in kept.get(kind, ())[: None if kind == b"IDAT" else 1]]
    return b"".join([_SIGNATURE, *pieces]), said, notes


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, body, the whole chunk, and whether its checksum is right; ends after IEND."""
    at = len(_SIGNATURE)
    if data[at + 4 : at + 8] != b"IHDR" or int.from_bytes(data[at : at + 4], "big") != 13:
        raise ValueError("its header is missing")
    while True:
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data) or end > len(data):
            raise ValueError("the end is missing")
        raw = data[at:end]
        yield raw[4:8], raw[8:-4], raw, zlib.crc32(raw[4:-4]) == int.from_bytes(raw[-4:], "big")
        if raw[4:8] == b"IEND":
            return
        at = end


def _unfolded(data: bytes) -> bytes | None:
    """Decompressed, None where it is damaged or unfolds to more than any metadata has."""
    try:
        unfolder = zlib.decompressobj()
        out = unfolder.decompress(data, _MOST_TEXT)
    except zlib.error:
        return None
    return out if unfolder.eof else None


def _profile(said: dict[bytes, list[bytes]]) -> bytes | None:
    for body in said.get(b"iCCP", ()):
        _, _, rest = body.partition(b"\0")
        return _unfolded(rest[1:])
    return None


def _exif(said: dict[bytes, list[bytes]]) -> bytes | None:
    """From eXIf, or from the hexadecimal text that ImageMagick writes."""
    for body in said.get(b"eXIf", ()):
        return body.removeprefix(b"Exif\0\0")
    for kind in (b"zTXt", b"tEXt"):
        for body in said.get(kind, ()):
            key, _, text = body.partition(b"\0")
            if key in (b"Raw profile type exif", b"Raw profile type APP1"):
                raw = _unhexed(text if kind == b"tEXt" else _unfolded(text[1:]) or b"")
                if raw.startswith(b"Exif\0\0"):
                    return raw[6:]
    return None


def _unhexed(text: bytes) -> bytes:
    """`\\nexif\\n   1234\\n4578...`: a name, a length, then hexadecimal digits."""
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return b""


def _xmp(said: dict[bytes, list[bytes]]) -> bytes | None:
    for body in said.get(b"iTXt", ()):
        key, _, rest = body.partition(b"\0")
        parts = rest[2:].split(b"\0", 2)
        if key == _XMP_KEY and len(parts) == 3:
            return _unfolded(parts[2]) if rest[0] else parts[2]
    return None


def _text(said: dict[bytes, list[bytes]], wanted: str) -> str:
    """A text by its keyword, from tEXt, zTXt or iTXt; empty where there is none."""
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        for body in said.get(kind, ()):
            key, _, rest = body.partition(b"\0")
            if key.decode("latin-1") != wanted:
                continue
            if kind == b"tEXt":
                return rest.decode("latin-1")
            parts = (rest[1:],) if kind == b"zTXt" else rest[2:].split(b"\0", 2)
            is_folded = kind == b"zTXt" or rest[:1] == b"\1"
            return ((_unfolded(parts[-1]) or b"") if is_folded else parts[-1]).decode("utf-8", "replace")
    return ""


def _told_by_text(said: dict[bytes, list[bytes]]) -> set[str]:
    """The keywords by which a person may have told something."""
    keys = {body.partition(b"\0")[0] for kind in (b"tEXt", b"zTXt", b"iTXt") for body in said.get(kind, ())}
    return {key.decode("latin-1") for key in keys & _PERSONAL}


def _dpi(said: dict[bytes, list[bytes]]) -> tuple[float, float] | None:
    for body in said.get(b"pHYs", ()):
        if len(body) == 9 and body[8] == 1:
            x, y = struct.unpack_from(">II", body)
            return (round(x * _INCH, 2), round(y * _INCH, 2)) if x >= 1 and y >= 1 else None
    return None


def png_pieces(
    samples: np.ndarray,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
    infotext: str = "",
) -> list[memoryview]:
    """The file, piece by piece. `samples` is (H, W, 1 to 4) uint8 or uint16, alpha last and straight."""
    import imagecodecs

    # Level 3 takes a third of the time of zlib's usual 6; the file grows by 4 %.
    file = memoryview(imagecodecs.png_encode(samples if samples.shape[2] > 1 else samples[:, :, 0], level=3))
    after_header = len(_SIGNATURE) + 12 + 13
    told = b""
    if icc:
        told += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
    if dpi:
        told += _chunk(b"pHYs", struct.pack(">IIB", *(min(round(value / _INCH), 0x7FFFFFFF) for value in dpi), 1))
    if exif:
        told += _chunk(b"eXIf", exif)
    if xmp:
        told += _chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + xmp)
    if infotext:
        told += _text_chunk(INFOTEXT, infotext)
    return [file[:after_header], memoryview(told), file[after_header:]]


def _text_chunk(key: str, text: str) -> bytes:
    """tEXt where its letters allow it, as A1111 writes it; iTXt otherwise."""
    try:
        return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
