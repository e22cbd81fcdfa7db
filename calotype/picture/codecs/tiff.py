"""TIFF: tifffile reads the pixels into one array; we write them strip by strip."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO

import numpy as np

from calotype.errors import Message, PictureError
from calotype.picture.codecs.decoded import PictureFile, Pixels, decoding, stretched, unmultiplied
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata.exif import LONG, LONG8, UNDEFINED, Exif, ExifEntry, long, ratio, short

# none, CCITT, LZW, JPEG, deflate, PackBits, LZMA, Zstandard, WebP
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COMPLEX = Message("complex")
_NO_PHOTO = {2: Message("signed"), 3: Message("floating-point"), 5: _COMPLEX, 6: _COMPLEX}  # by SampleFormat
_STRIP = 1 << 18  # bytes, about
_CLASSIC = 0xFFFFFFFF - (1 << 24)  # bytes that 32-bit offsets can reach, with room for metadata


def find_tiff(file: BinaryIO, name: str) -> PictureFile:
    """Header and metadata of a TIFF's first full page; `file` stays open for `decode`.

    Raises:
        PictureError: damaged, cut off, a camera's raw file, or samples that are no picture's.
    """
    import tifffile

    _silence(tifffile)
    with decoding(name):
        with mmap(file.fileno(), 0, access=ACCESS_READ) as whole:
            told = exif_blocks.parse(whole)
            length = len(whole)
        pages = tifffile.TiffFile(file, _multifile=False).pages
        page, number = _full_page(pages)
        count = len(pages)
    if 50706 in told.root or page is None:
        raise PictureError("{name} is a camera's raw file; develop it first and give the developed picture", name=name)
    with decoding(name):
        _check_segments(page, length)
        height, width = int(page.imagelength), int(page.imagewidth)
        icc, xmp = _bytes(page, 34675), _bytes(page, 700)
        _check_samples(page, name)
    notes = (f"page {number} of {count} is used",) if count > 1 else ()
    notes += ("some entries of its metadata are damaged and left out",) if told.is_damaged else ()
    notes += ("its IPTC captions are not carried over",) if 33723 in told.root else ()
    block = exif_blocks.pack(_about_photo(told))
    dpi = exif_blocks.resolution(told) if 282 in told.root else None
    return PictureFile((height, width), lambda: _decode(page, name, icc), block, xmp, dpi, notes=notes)


def _silence(tifffile: Any) -> None:
    """tifffile logs damage that we raise or say ourselves; without a handler that goes to the terminal."""
    import logging

    log = tifffile.logger()
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _full_page(pages: Any) -> tuple[Any, int]:
    """The first page that is no thumbnail; none where only previews are on the outside, as in raw files."""
    for number, page in enumerate(pages, 1):
        page = page.aspage()
        if not page.is_reduced:
            return page, number
        if number >= 16:
            break
    first = pages[0].aspage()
    return (None, 0) if 330 in first.tags else (first, 1)


def _about_photo(told: Exif) -> Exif:
    """In a TIFF the first directory also tells size and layout; of these an Exif block says nothing."""
    layout = set(exif_blocks.PIXEL_SIZES) - set(told.photo)
    root = {tag: entry for tag, entry in told.root.items() if tag not in layout and entry.kind < LONG8}
    return replace(told, root=root)


def _bytes(page: Any, tag: int) -> bytes | None:
    value = page.tags.valueof(tag)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        value = bytes(part & 255 for part in value)
    return bytes(value) if isinstance(value, bytes) and value else None


def _check_segments(page: Any, length: int) -> None:
    """Every strip or tile must lie in the file; tifffile would fill a missing one with black."""
    spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not spans or any(offset < 8 or size <= 0 or offset + size > length for offset, size in spans):
        raise ValueError("the end is missing")
    if page.imagelength <= 0 or page.imagewidth <= 0 or page.imagedepth != 1:
        raise ValueError("a picture without pixels")
    per_segment = (page.tilelength * page.tilewidth) if page.is_tiled else (page.rowsperstrip * page.imagewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    if page.is_tiled:
        across, down = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
        wanted = across * down * planes
    else:
        wanted = -(-page.imagelength // page.rowsperstrip) * planes
    if len(spans) < wanted or per_segment > 4 * page.imagelength * page.imagewidth + (1 << 24):
        raise ValueError("strips or tiles are missing")


def _check_samples(page: Any, name: str) -> None:
    """Says clearly what kinds of TIFF are no photo."""
    kind = _NO_PHOTO.get(int(page.sampleformat))
    bits = page.bitspersample
    if kind or not isinstance(bits, int) or bits > 16:
        kind = (kind or Message("{bits}-bit", bits=bits)) if isinstance(bits, int) else Message("mixed")
        raise PictureError(
            "{name} holds {kind} samples; save it with 8 or 16 bits per channel first", name=name, kind=kind
        )
    known = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB)
    if int(page.photometric) not in known or int(page.compression) not in _COMPRESSIONS:
        raise PictureError(
            "{name} is a TIFF of a kind we do not read (colour kind {colour}, compression {compression}); "
            "save it with LZW compression first",
            name=name,
            colour=int(page.photometric),
            compression=int(page.compression),
        )


def _decode(page: Any, name: str, icc: bytes | None) -> Pixels:
    with decoding(name):
        samples = page.asarray(squeeze=False)  # (planes, 1, H, W, samples)
        samples = np.moveaxis(samples[:, 0], 0, -2).reshape(*samples.shape[2:4], -1)
        return _pixels(page, samples, icc)


def _pixels(page: Any, samples: np.ndarray, icc: bytes | None) -> Pixels:
    """(H, W, samples as stored) -> what they mean."""
    kind, bits = int(page.photometric), 1 if samples.dtype == bool else int(page.bitspersample)
    samples = samples.view(np.uint8) if samples.dtype == bool else samples
    if samples.dtype.byteorder == ">":
        samples = samples.astype(samples.dtype.newbyteorder("="))
    if kind == _PALETTE:
        return Pixels(np.ascontiguousarray(_table(page)[samples[:, :, 0]]), None, icc)
    samples = stretched(samples, bits) if bits not in (8, 16) else samples
    wide = 1 if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 4 if kind == _CMYK else 3
    if samples.shape[2] < wide:
        raise ValueError("channels are missing")
    if kind == _WHITE_IS_ZERO:
        np.invert(samples[:, :, :1], out=samples[:, :, :1])
    if kind in (_CMYK, _LAB) or (kind == _YCBCR and int(page.compression) != 7):
        return _through_pillow(samples[:, :, :wide], {_CMYK: "CMYK", _LAB: "LAB", _YCBCR: "YCbCr"}[kind], icc)
    return _with_alpha(page, samples, wide, icc)


def _with_alpha(page: Any, samples: np.ndarray, wide: int, icc: bytes | None) -> Pixels:
    extra = tuple(int(value) for value in page.extrasamples or ())
    if samples.shape[2] == wide:
        return Pixels(np.ascontiguousarray(samples), None, icc)
    colour = np.ascontiguousarray(samples[:, :, :wide])
    if extra[:1] not in ((1,), (2,)) and not (not extra and samples.shape[2] == wide + 1):
        return Pixels(colour, None, icc, ("a further channel that is no transparency is left out",))
    alpha = np.ascontiguousarray(samples[:, :, wide])
    if extra[:1] == (1,):
        unmultiplied(colour, alpha)
    return Pixels(colour, alpha, icc)


def _table(page: Any) -> np.ndarray:
    """The palette as (colours, 3) uint8; TIFF writes it in 16 bits, some programs put 8 into them."""
    table = np.asarray(page.colormap).reshape(3, -1).T
    return (table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8)


def _through_pillow(samples: np.ndarray, mode: str, icc: bytes | None) -> Pixels:
    from PIL import Image

    from calotype.picture.codecs.raster import from_pillow

    notes = ()
    if samples.dtype == np.uint16:
        samples, notes = (samples >> 8).astype(np.uint8), (f"of its 16 bits in {mode} 8 are used",)
    height, width, _ = samples.shape
    data = np.ascontiguousarray(samples)
    image = Image.frombuffer(mode, (width, height), data, "raw", mode, 0, 1)
    pixels = from_pillow(image, icc)
    return replace(pixels, notes=notes + pixels.notes)


def write_tiff(
    file: BinaryIO,
    colour: np.ndarray,
    alpha: np.ndarray | None,
    icc: bytes | None,
    told: Exif,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
) -> None:
    """Writes the file strip by strip: deflate with the horizontal predictor, BigTIFF where it may pass 4 GB.

    `colour` is (H, W, 1 or 3) uint8 or uint16, `alpha` (H, W), straight.
    """
    height, width, channels = colour.shape
    depth = channels + (alpha is not None)
    is_big = height * width * depth * colour.itemsize > _CLASSIC
    order = told.order
    start = 16 if is_big else 8
    file.write(bytes(start))
    rows = max(1, min(height, _STRIP // (width * depth * colour.itemsize)))
    sizes = []
    for top in range(0, height, rows):
        part = None if alpha is None else alpha[top : top + rows]
        strip = _strip(colour[top : top + rows], part, order)
        file.write(strip)
        sizes.append(len(strip))
    end = start + sum(sizes)
    file.write(bytes(end % 2))
    entries = _layout(colour, depth, rows, start, sizes, order, is_big) | _extras(icc, xmp, dpi, order)
    block = exif_blocks.pack_directories(replace(told, root=told.root | entries), end + end % 2, is_big)
    file.write(block)
    file.seek(0)
    file.write(_head(order, is_big, end + end % 2))


def _head(order: str, is_big: bool, directory: int) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    if is_big:
        return mark + struct.pack(order + "HHHQ", 43, 8, 0, directory)
    return mark + struct.pack(order + "HI", 42, directory)


def _strip(colour: np.ndarray, alpha: np.ndarray | None, order: str) -> bytes:
    import imagecodecs

    samples = colour if alpha is None else np.concatenate([colour, alpha[:, :, None]], axis=2)
    steps = samples.copy()
    steps[:, 1:] -= samples[:, :-1]  # the horizontal predictor; overflow wraps as the format says
    # libdeflate: a zlib stream like any other, twice as quick as zlib and smaller
    return imagecodecs.deflate_encode(steps.astype(steps.dtype.newbyteorder(order), copy=False).tobytes(), 4)


def _layout(
    colour: np.ndarray, depth: int, rows: int, start: int, sizes: list[int], order: str, is_big: bool
) -> dict[int, ExifEntry]:
    height, width, channels = colour.shape
    offsets = list(_running(start, sizes))
    wide, code = (LONG8, "Q") if is_big else (LONG, "I")
    entries = {
        256: long(order, width),
        257: long(order, height),
        258: short(order, *[colour.itemsize * 8] * depth),
        259: short(order, 8),
        262: short(order, _RGB if channels == 3 else _BLACK_IS_ZERO),
        273: ExifEntry(wide, len(sizes), struct.pack(f"{order}{len(sizes)}{code}", *offsets)),
        274: short(order, 1),
        277: short(order, depth),
        278: long(order, rows),
        279: ExifEntry(wide, len(sizes), struct.pack(f"{order}{len(sizes)}{code}", *sizes)),
        284: short(order, 1),
        317: short(order, 2),
    }
    return entries | ({338: short(order, 2)} if depth > channels else {})


def _extras(icc: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None, order: str) -> dict[int, ExifEntry]:
    entries: dict[int, ExifEntry] = {}
    if icc:
        entries[34675] = ExifEntry(UNDEFINED, len(icc), icc)
    if xmp:
        entries[700] = ExifEntry(1, len(xmp), xmp)
    if dpi:
        entries |= {282: ratio(order, dpi[0]), 283: ratio(order, dpi[1]), 296: short(order, 2)}
    return entries


def _running(start: int, sizes: list[int]) -> Iterator[int]:
    for size in sizes:
        yield start
        start += size
