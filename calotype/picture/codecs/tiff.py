"""TIFF: tifffile reads the pixels into one array; they are written strip by strip."""

import bisect
import struct
from collections.abc import Iterator
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO

import numpy as np

from calotype.errors import Message, PictureError
from calotype.picture.alpha import by_rows
from calotype.picture.codecs.decoded import (
    PictureFile,
    Pixels,
    check_page,
    decoding,
    left_out_channels,
    stretched,
    unpremultiply,
)
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import iptc as captions
from calotype.picture.metadata.exif import LONG, LONG8, UNDEFINED, Exif, ExifEntry, long, ratio, short
from calotype.picture.metadata.icc import lab_to_srgb, srgb
from calotype.picture.metadata.iptc import Iptc

# none, CCITT, LZW, JPEG, deflate, PackBits, LZMA, Zstandard, WebP
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB, _ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of ExtraSamples
_COMPLEX = Message("complex")
_UNSUPPORTED_SAMPLES = {2: Message("signed"), 3: Message("floating-point"), 5: _COMPLEX, 6: _COMPLEX}  # by SampleFormat
_DNG_VERSION, _SUB_IFDS, _MAKE = 50706, 330, 271
_SENSOR = (32803, 34892)  # PhotometricInterpretation: colour filter array, linear raw
_RAW_COMPRESSIONS = (32767, 34713, 65000, 65535)  # Sony's, Nikon's, Kodak's, Pentax'
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_CHECKED_PAGES = 4096
_STRIP = 1 << 18  # bytes, about
_CLASSIC = 0xFFFFFFFF - (1 << 24)  # bytes that 32-bit offsets can address, less some for metadata


def is_raw(file: BinaryIO) -> bool:
    """Whether a TIFF is a camera's raw file: DNG, or one of those of which LibRaw knows the maker's way of storing."""
    import tifffile

    _silence(tifffile)
    try:
        file.seek(0)
        page = tifffile.TiffFile(file, _multifile=False).pages[0].aspage()
        tags = set(page.tags.keys())
        has_sensor_pixels = int(page.photometric or 0) in _SENSOR or int(page.compression) in _RAW_COMPRESSIONS
    except Exception:  # noqa: BLE001  open_tiff will say what is damaged
        return False
    # the first directory of most raw files is a preview; that of an ordinary TIFF with a DNG's tag is the picture
    is_preview = page.is_reduced and _SUB_IFDS in tags and not tags.isdisjoint((_MAKE, _DNG_VERSION))
    return bool(has_sensor_pixels or is_preview)


def open_tiff(file: BinaryIO, name: str, number: int = 0) -> PictureFile:
    """Reads header and metadata of one page of a TIFF; `file` stays open for `decode`.

    Args:
        number: of the page, from 1, thumbnails and masks not counted; 0 takes the first.

    Raises:
        PictureError: damaged, cut off, or an unsupported type of samples.
    """
    import tifffile

    _silence(tifffile)
    with decoding(name), mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        first = exif_blocks.parse(mapped)
        file.seek(0)
        pages = tifffile.TiffFile(file, _multifile=False).pages
        numbers = _full_pages(pages)
    notes = check_page(number, len(numbers), name)
    with decoding(name), mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        index = numbers[max(number, 1) - 1]
        page = pages[index].aspage()
        exif = _of_page(mapped, page, first) if index else first
        length = len(mapped)
    with decoding(name):
        height, width = int(page.imagelength), int(page.imagewidth)
        icc, xmp = _bytes(page, 34675), _bytes(page, 700)
        _check_samples(page, name)
    with decoding(name):
        unknown = _check_segments(page, length)
    notes += ("some entries of its metadata are damaged and left out",) if exif.is_damaged else ()
    if not exif_blocks.is_note_movable(exif):
        exif = exif_blocks.without_note(exif)
        notes += ("its maker's note is not carried over: it refers to places in this file",)
    block = exif_blocks.pack(_without_layout(exif))
    dpi = exif_blocks.resolution(exif) if 282 in exif.root else None
    return PictureFile(
        (height, width),
        lambda: _decode(page, file, unknown, name, icc),
        block,
        xmp,
        dpi,
        notes=notes,
        count=len(numbers),
    )


def _of_page(mapped: mmap, page: Any, first: Exif) -> Exif:
    """The page's own entries; the photo's data, where it has none, are those of the first page, as in raw files."""
    exif = exif_blocks.parse(mapped, page.offset)
    if exif.photo or exif.gps:
        return exif
    return replace(exif, photo=first.photo, gps=first.gps, interop=first.interop, note_offset=first.note_offset)


def _silence(tifffile: Any) -> None:
    """tifffile logs damage that is reported here; without a handler its log goes to the terminal."""
    import logging

    log = tifffile.logger()
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _full_pages(pages: Any) -> list[int]:
    """The indices of the pages that are pictures, neither thumbnails nor masks; the first page where there is none."""
    count = len(pages)
    checked = [n for n in range(min(count, _CHECKED_PAGES)) if not pages[n].aspage().subfiletype & (_REDUCED | _MASK)]
    return [*checked, *range(_CHECKED_PAGES, count)] or [0]


def _without_layout(exif: Exif) -> Exif:
    """In a TIFF the first directory also describes size and layout, which do not belong into an Exif block."""
    root = {tag: entry for tag, entry in exif.root.items() if tag not in (256, 257) and entry.kind < LONG8}
    return replace(exif, root=root)


def _bytes(page: Any, tag: int) -> bytes | None:
    value = page.tags.valueof(tag)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, tuple) and all(isinstance(number, int) for number in value):
        value = bytes(number & 255 for number in value)
    return bytes(value) if isinstance(value, bytes) and value else None


def _check_segments(page: Any, length: int) -> list[int]:
    """Every strip or tile must lie within the file; tifffile fills a missing one with black.

    The sizes of strips are corrected first: some programs write 0, or that of a whole strip for the last one.

    Returns:
        The strips or tiles whose size is unknown, so that only decoding shows whether they are complete.
    """
    if page.imagelength <= 0 or page.imagewidth <= 0 or page.imagedepth != 1:
        raise ValueError("a picture without pixels")
    per_segment = (page.tilelength * page.tilewidth) if page.is_tiled else (page.rowsperstrip * page.imagewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    if page.is_tiled:
        across, down = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
        expected = across * down * planes
    else:
        expected = -(-page.imagelength // page.rowsperstrip) * planes
    if len(page.dataoffsets) < expected or per_segment > 4 * page.imagelength * page.imagewidth + (1 << 24):
        raise ValueError("strips or tiles are missing")
    sizes = _stored_sizes(page)
    unknown = [n for n, size in enumerate(sizes) if not size and int(page.compression) != 1]
    page.databytecounts = tuple(_segment_sizes(page, sizes, length))
    spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not spans or any(offset < 8 or size <= 0 or offset + size > length for offset, size in spans):
        raise ValueError("the end is missing")
    return unknown


def _stored_sizes(page: Any) -> tuple[int, ...]:
    """Bytes of each strip or tile as stored; 0 if unknown."""
    sizes = page.databytecounts if {279, 325, 514} & set(page.tags.keys()) else ()
    return sizes if len(sizes) == len(page.dataoffsets) else (0,) * len(page.dataoffsets)


def _segment_sizes(page: Any, sizes: tuple[int, ...], length: int) -> Iterator[int]:
    """Bytes of each strip or tile: as stored, as they must be, or up to the next one."""
    starts = sorted({*page.dataoffsets, length})
    for number, (offset, size) in enumerate(zip(page.dataoffsets, sizes, strict=True)):
        room = starts[min(bisect.bisect_right(starts, offset), len(starts) - 1)] - offset
        if int(page.compression) != 1:
            yield size or room
        elif int(page.photometric) == _YCBCR:  # its rows depend on the subsampling
            yield size
        else:
            needed = _unpacked_size(page, number)
            yield needed if size == 0 or size > needed or room >= needed else size


def _unpacked_size(page: Any, number: int) -> int:
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    if page.is_tiled:
        return -(-page.tilewidth * samples * page.bitspersample // 8) * page.tilelength
    strips = -(-page.imagelength // page.rowsperstrip)
    rows = min(page.rowsperstrip, page.imagelength - number % strips * page.rowsperstrip)
    return -(-page.imagewidth * samples * page.bitspersample // 8) * rows


def _check_unpacked(page: Any, file: BinaryIO, numbers: list[int]) -> None:
    """Decodes strips or tiles of unknown size.

    Raises:
        ValueError: one is not complete, or its kind of compression does not tell.
    """
    for number in numbers:
        file.seek(page.dataoffsets[number])
        if not _is_complete(page, file.read(page.databytecounts[number]), _unpacked_size(page, number)):
            raise ValueError("the end is missing")


def _is_complete(page: Any, data: bytes, needed: int) -> bool:
    import imagecodecs

    if page.fillorder != 1:
        return False
    if int(page.compression) in (8, 32946):  # deflate has a checksum
        return len(imagecodecs.zlib_decode(data)) >= needed
    decode = {5: imagecodecs.lzw_decode, 32773: imagecodecs.packbits_decode}.get(int(page.compression))
    if decode is None:
        return False
    first, second = (decode(data + filler * 4)[:needed] for filler in (b"\0", b"\xff"))
    return len(first) == needed and first == second  # nothing depends on what stands behind the data


def _check_samples(page: Any, name: str) -> None:
    """Refuses unsupported types of samples, colour and compression."""
    kind = _UNSUPPORTED_SAMPLES.get(int(page.sampleformat))
    bits = page.bitspersample
    if kind or not isinstance(bits, int) or bits > 16:
        kind = (kind or Message("{bits}-bit", bits=bits)) if isinstance(bits, int) else Message("mixed")
        raise PictureError(
            "{name} holds {kind} samples; save it with 8 or 16 bits per channel first", name=name, kind=kind
        )
    known = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB, _ICC_LAB)
    if int(page.photometric) not in known or int(page.compression) not in _COMPRESSIONS:
        raise PictureError(
            "{name} is a TIFF of a kind we do not read (colour kind {colour}, compression {compression}); "
            "save it with LZW compression first",
            name=name,
            colour=int(page.photometric),
            compression=int(page.compression),
        )


def _decode(page: Any, file: BinaryIO, unknown: list[int], name: str, icc: bytes | None) -> Pixels:
    with decoding(name):
        _check_unpacked(page, file, unknown)
        samples = page.asarray(squeeze=False)  # (planes, 1, H, W, samples)
        samples = np.moveaxis(samples[:, 0], 0, -2).reshape(*samples.shape[2:4], -1)
        return _pixels(page, samples, icc)


def _pixels(page: Any, samples: np.ndarray, icc: bytes | None) -> Pixels:
    """(H, W, samples as stored) -> grey or RGB, and alpha."""
    kind, bits = int(page.photometric), 1 if samples.dtype == bool else int(page.bitspersample)
    samples = samples.view(np.uint8) if samples.dtype == bool else samples
    if samples.dtype.byteorder == ">":
        samples = samples.astype(samples.dtype.newbyteorder("="))
    channels = 4 if kind == _CMYK else 3 if kind in (_RGB, _YCBCR, _LAB, _ICC_LAB) else 1
    if samples.shape[2] < channels:
        raise ValueError("channels are missing")
    alpha, is_associated, notes = _alpha(page, samples, channels)
    colour = np.ascontiguousarray(samples[:, :, :channels])
    if bits not in (8, 16):
        colour = colour if kind == _PALETTE else stretched(colour, bits)
        alpha = None if alpha is None else stretched(alpha, bits)
    if kind == _PALETTE:
        colour, alpha = _palette(page)[colour[:, :, 0]], alpha if alpha is None or bits <= 8 else _high_byte(alpha)
    if kind in (_LAB, _ICC_LAB):
        return Pixels(_from_lab(colour, kind), alpha, srgb(), ("Lab turned into sRGB", *notes))
    if alpha is not None and is_associated and kind != _PALETTE:
        unpremultiply(colour, alpha)
    if kind == _WHITE_IS_ZERO:
        np.invert(colour, out=colour)
    if kind == _CMYK or (kind == _YCBCR and int(page.compression) != 7):
        from calotype.picture.codecs.raster import converted

        pixels = converted(colour, {_CMYK: "CMYK", _YCBCR: "YCbCr"}[kind], icc)
        alpha = _high_byte(alpha) if alpha is not None and alpha.dtype != pixels.colour.dtype else alpha
        return replace(pixels, alpha=alpha, notes=pixels.notes + notes)
    return Pixels(colour, alpha, icc, notes)


def _alpha(page: Any, samples: np.ndarray, channels: int) -> tuple[np.ndarray | None, bool, tuple[str, ...]]:
    """Transparency, whether the colours are multiplied by it, and a note about channels that are left out.

    Only ExtraSamples says that a channel is transparency; without it, it may be infrared, or anything.
    """
    extra = [int(value) for value in page.extrasamples or ()][: samples.shape[2] - channels]
    at = next((n for n, kind in enumerate(extra) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
    count = samples.shape[2] - channels - (at is not None)
    notes = left_out_channels(count)
    if at is None:
        return None, False, notes
    return np.ascontiguousarray(samples[:, :, channels + at]), extra[at] == _ASSOCIATED, notes


def _from_lab(samples: np.ndarray, kind: int) -> np.ndarray:
    """CIE Lab as TIFF stores it, under D50 -> sRGB of the same type."""
    bits = samples.itemsize * 8
    unit = 1 << (bits - 8)  # of a and b
    lightest = 255 * unit if kind == _ICC_LAB else (1 << bits) - 1

    def converted(band: np.ndarray) -> np.ndarray:
        ab = band[:, :, 1:].astype(np.int32)
        # ICC's Lab has an offset, CIE's is signed
        ab = ab - 128 * unit if kind == _ICC_LAB else np.where(ab >= 128 * unit, ab - 256 * unit, ab)
        lab = np.concatenate([band[:, :, :1] * (100 / lightest), ab / unit], axis=2)
        return np.rint(lab_to_srgb(lab) * ((1 << bits) - 1)).astype(band.dtype)

    return by_rows(converted, samples)


def _high_byte(samples: np.ndarray) -> np.ndarray:
    return (samples >> 8).astype(np.uint8)


def _palette(page: Any) -> np.ndarray:
    """The palette as (colours, 3) uint8; TIFF stores it in 16 bits, some programs use only 8 of them."""
    table = np.asarray(page.colormap).reshape(3, -1).T
    return (table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8)


def write_tiff(
    file: BinaryIO,
    colour: np.ndarray,
    alpha: np.ndarray | None,
    icc: bytes | None,
    exif: Exif,
    xmp: bytes | None,
    dpi: tuple[float, float] | None,
    iptc: Iptc | None = None,
) -> None:
    """Writes the file strip by strip: deflate with the horizontal predictor, BigTIFF where it may exceed 4 GB.

    `colour` is (H, W, 1 or 3) uint8 or uint16, `alpha` (H, W), straight.
    """
    height, width, channels = colour.shape
    depth = channels + (alpha is not None)
    is_big = height * width * depth * colour.itemsize > _CLASSIC
    order = exif.order
    start = 16 if is_big else 8
    file.write(bytes(start))
    if note := exif_blocks.fixed_note(exif):
        file.write(bytes(note[0] - start) + note[1])  # before the strips, at the offset that its own offsets refer to
        start = note[0] + len(note[1])
    rows = max(1, min(height, _STRIP // (width * depth * colour.itemsize)))
    sizes = []
    for top in range(0, height, rows):
        alpha_rows = None if alpha is None else alpha[top : top + rows]
        strip = _strip(colour[top : top + rows], alpha_rows, order)
        file.write(strip)
        sizes.append(len(strip))
    end = start + sum(sizes)
    file.write(bytes(end % 2))
    entries = _layout(colour, depth, rows, start, sizes, order, is_big) | _extras(icc, xmp, dpi, iptc, order)
    block = exif_blocks.pack_directories(replace(exif, root=exif.root | entries), end + end % 2, is_big)
    file.write(block)
    file.seek(0)
    file.write(_header(order, is_big, end + end % 2))


def _header(order: str, is_big: bool, directory: int) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    if is_big:
        return mark + struct.pack(order + "HHHQ", 43, 8, 0, directory)
    return mark + struct.pack(order + "HI", 42, directory)


def _strip(colour: np.ndarray, alpha: np.ndarray | None, order: str) -> bytes:
    import imagecodecs

    samples = colour if alpha is None else np.concatenate([colour, alpha[:, :, None]], axis=2)
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]  # the horizontal predictor; overflow wraps as specified
    # libdeflate: a zlib stream, written twice as fast as by zlib and smaller
    return imagecodecs.deflate_encode(
        differences.astype(differences.dtype.newbyteorder(order), copy=False).tobytes(), 4
    )


def _layout(
    colour: np.ndarray, depth: int, rows: int, start: int, sizes: list[int], order: str, is_big: bool
) -> dict[int, ExifEntry]:
    height, width, channels = colour.shape
    offsets = list(_offsets(start, sizes))
    pointer, code = (LONG8, "Q") if is_big else (LONG, "I")
    entries = {
        256: long(order, width),
        257: long(order, height),
        258: short(order, *[colour.itemsize * 8] * depth),
        259: short(order, 8),
        262: short(order, _RGB if channels == 3 else _BLACK_IS_ZERO),
        273: ExifEntry(pointer, len(sizes), struct.pack(f"{order}{len(sizes)}{code}", *offsets)),
        274: short(order, 1),
        277: short(order, depth),
        278: long(order, rows),
        279: ExifEntry(pointer, len(sizes), struct.pack(f"{order}{len(sizes)}{code}", *sizes)),
        284: short(order, 1),
        317: short(order, 2),
    }
    return entries | ({338: short(order, 2)} if depth > channels else {})


def _extras(
    icc: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None, iptc: Iptc | None, order: str
) -> dict[int, ExifEntry]:
    entries: dict[int, ExifEntry] = {}
    if icc:
        entries[34675] = ExifEntry(UNDEFINED, len(icc), icc)
    if xmp:
        entries[700] = ExifEntry(1, len(xmp), xmp)
    if iptc:
        block = iptc.block + bytes(-len(iptc.block) % 4)
        entries[captions.TAG] = ExifEntry(LONG, len(block) // 4, block)  # words, as libtiff expects, but not swapped
        if iptc.digest:
            resources = captions.resources(iptc)
            entries[captions.RESOURCES_TAG] = ExifEntry(1, len(resources), resources)
    if dpi:
        entries |= {282: ratio(order, dpi[0]), 283: ratio(order, dpi[1]), 296: short(order, 2)}
    return entries


def _offsets(start: int, sizes: list[int]) -> Iterator[int]:
    for size in sizes:
        yield start
        start += size
