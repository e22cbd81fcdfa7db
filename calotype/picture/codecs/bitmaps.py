"""TGA, PCX, DCX, ICO and QOI, whose headers are read here and whose pixels Pillow and imagecodecs decode."""

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import BmpImagePlugin, PcxImagePlugin, TgaImagePlugin

from calotype.errors import Message
from calotype.picture.codecs.decoded import PictureFile, Pixels, check_page, decoding, split, unpremultiply
from calotype.picture.codecs.raster import from_pillow
from calotype.picture.metadata.color_space import ColorTags

_QOI_END = bytes(7) + b"\1"
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_ALPHA, _PREMULTIPLIED = (0, 1), 4  # kinds of TGA's attributes


def open_qoi(data: bytes, name: str) -> PictureFile:
    """Reads the header of a QOI. Raises PictureError if it is damaged or cut off."""
    with decoding(name):
        width, height, channels, space = struct.unpack_from(">IIBB", data, 4)
        if not (width and height) or channels not in (3, 4) or space > 1:
            raise ValueError("a picture without pixels")

    def decode() -> Pixels:
        import imagecodecs

        with decoding(name):
            if _QOI_END not in data[14:]:
                raise ValueError("the end is missing")
            return Pixels(*split(imagecodecs.qoi_decode(data)))

    # a widespread encoder writes that pixels with transparency are linear, whatever they are
    tags = ColorTags(gamma=1.0) if space == 1 and channels == 3 else ColorTags(is_srgb=True)
    return PictureFile((height, width), decode, color_tags=tags)


def open_tga(data: bytes, name: str) -> PictureFile:
    """Reads header and footer of a TGA. Raises PictureError if it is damaged or cut off."""
    with decoding(name):
        image = TgaImagePlugin.TgaImageFile(io.BytesIO(data))
        _check_tga_length(data)
        kind = _tga_attributes(data)

    def decode() -> Pixels:
        with decoding(name):
            image.load()
            pixels = from_pillow(image, None)
            if pixels.alpha is None:
                return pixels
            if kind in _NO_ALPHA or (kind is None and not pixels.alpha.any()):
                return replace(pixels, alpha=None)
            if kind == _PREMULTIPLIED:
                unpremultiply(pixels.colour, pixels.alpha)
            return pixels

    comment = _tga_comment(data)
    return PictureFile(
        (image.height, image.width), decode, comment=comment, texts={"comment": comment} if comment else {}
    )


def _check_tga_length(data: bytes) -> None:
    """Raises ValueError if pixels without compression are missing; Pillow notices it in those with it."""
    skipped, has_palette, kind = data[0], data[1], data[2]
    length, bits = struct.unpack_from("<HB", data, 5)
    width, height, depth = struct.unpack_from("<HHB", data, 12)
    needed = 18 + skipped + has_palette * length * -(-bits // 8)
    needed += width * height * -(-depth // 8) if kind < 8 else 0
    if len(data) < needed:
        raise ValueError("the end is missing")


def _tga_extension(data: bytes) -> bytes:
    """The extension area of a TGA 2.0, empty where there is none."""
    if not data.endswith(_TGA_FOOTER):
        return b""
    at = struct.unpack_from("<I", data, len(data) - 26)[0]
    area = data[at : at + 495]
    return area if at and len(area) == 495 and area[:2] == b"\xef\x01" else b""


def _tga_attributes(data: bytes) -> int | None:
    """What the fourth channel is, by the extension area; None where the file does not say that it is transparency."""
    area = _tga_extension(data)
    if area:
        return area[494]
    return 3 if data[17] & 15 else None


def _tga_comment(data: bytes) -> str:
    area = _tga_extension(data)
    lines = [area[at : at + 81].split(b"\0")[0].decode("latin-1").strip() for at in range(82, 406, 81)] if area else []
    return "\n".join(line for line in lines if line)


def open_pcx(data: bytes, name: str) -> PictureFile:
    """Reads the header of a PCX. Raises PictureError if it is damaged or cut off."""
    with decoding(name):
        image = PcxImagePlugin.PcxImageFile(io.BytesIO(data))
        dpi = struct.unpack_from("<HH", data, 12)

    def decode() -> Pixels:
        with decoding(name):
            image.load()
            return from_pillow(image, None)

    is_dpi = all(30 <= value <= 4800 for value in dpi)  # some programs store the size of the screen
    return PictureFile((image.height, image.width), decode, dpi=tuple(map(float, dpi)) if is_dpi else None)


def open_dcx(data: bytes, name: str, page: int = 0) -> PictureFile:
    """A list of PCX pictures, as fax programs write them. Raises PictureError if it is damaged or cut off."""
    with decoding(name):
        offsets = list(struct.unpack_from(f"<{min(1023, len(data) // 4 - 1)}I", data, 4))
        offsets = offsets[: offsets.index(0)] if 0 in offsets else offsets
        if not offsets:
            raise ValueError("a file without pictures")
    notes = check_page(page, len(offsets), name)
    start = offsets[max(page, 1) - 1]
    end = min((offset for offset in offsets if offset > start), default=len(data))
    file = open_pcx(data[start:end], name)
    return replace(file, notes=notes + file.notes, count=len(offsets))


def open_ico(data: bytes, name: str, page: int = 0) -> PictureFile:
    """Reads the list of an ICO or CUR; the largest picture is the main one.

    Raises:
        PictureError: damaged or cut off.
    """
    with decoding(name):
        count = struct.unpack_from("<H", data, 4)[0]
        entries = [struct.unpack_from("<BBBBHHII", data, 6 + 16 * n) for n in range(count)]
        if not entries:
            raise ValueError("a file without pictures")
        # by size, then by colours; 0 stands for 256. A cursor has its hot spot in place of the bits
        depth = 5 if data[2] == 1 else 6
        sizes = [((entry[0] or 256) * (entry[1] or 256), entry[depth]) for entry in entries]
    notes = check_page(page, count, name, Message("the largest"))
    number = page - 1 if page else max(range(count), key=lambda n: sizes[n])
    _, *_, length, offset = entries[number]
    body = data[offset : offset + length]
    if body.startswith(_PNG):
        from calotype.picture.codecs.png import open_png

        file = open_png(body, name)
        return replace(file, notes=notes + file.notes, count=count)
    with decoding(name):
        if len(body) < length:
            raise ValueError("the end is missing")
        width, height = struct.unpack_from("<II", body, 4)
        if not width or height < 2:
            raise ValueError("a picture without pixels")
    return PictureFile((height // 2, width), lambda: _decode_icon(body, name), notes=notes, count=count)


def _decode_icon(body: bytes, name: str) -> Pixels:
    """A BMP without file header, of double height: colours, then a mask of one bit, 1 where they are hidden."""
    with decoding(name):
        image = BmpImagePlugin.DibImageFile(io.BytesIO(body))
        bits = struct.unpack_from("<H", body, 14)[0]
        width, height = image.width, image.height // 2
        row = -(-width * bits // 32) * 4
        image._size = (width, height)
        tile = image.tile[0]
        image.tile = [(tile[0], (0, 0, width, height), *tile[2:])]
        start = tile[2]
        image.load()
        pixels = from_pillow(image, None)
        if bits == 32:
            fourth = np.frombuffer(body, np.uint8, row * height, start).reshape(height, width, 4)[::-1, :, 3]
            if fourth.any():
                return replace(pixels, alpha=np.ascontiguousarray(fourth))
        mask_row = -(-width // 32) * 4
        if len(body) < start + row * height + mask_row * height:  # some programs write none, or shorter rows
            return pixels
        mask = np.frombuffer(body, np.uint8, mask_row * height, start + row * height).reshape(height, mask_row)[::-1]
        is_empty = np.unpackbits(mask, axis=1)[:, :width]
        return replace(pixels, alpha=(1 - is_empty) * np.uint8(255) if is_empty.any() else None)
