"""Writes pictures: the file appears complete or not at all; what the format cannot store is noted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from calotype.errors import DoesNotFit, listed
from calotype.files import atomic_file
from calotype.picture import decoder
from calotype.picture.codecs import formats
from calotype.picture.codecs.formats import Format
from calotype.picture.codecs.segments import write_segments, written_comment
from calotype.picture.decoder import open_file
from calotype.picture.fit import EncoderInput, fitted
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import xmp
from calotype.picture.picture import Picture, read_header

LARGE = ("png", "tiff")  # formats for pictures that are too large for others


def save(
    picture: Picture,
    path: Path,
    *,
    format: str,
    quality: int = 95,
    strip_location: bool = False,
    record: str = "",
    is_new: bool = False,
) -> tuple[str, ...]:
    """Writes the picture, with its metadata and the record; the same input gives the same bytes.

    The file is written under a temporary name beside `path` and renamed when it is complete; on failure it is deleted.
    `format` is one of tasks.FORMATS without auto. `quality`, 1 to 100, is for JPEG, AVIF, HEIC, WebP and JPEG XL (the
    last two are lossless at 100); from 90 on, JPEG, AVIF and HEIC keep chroma at full resolution. With `is_new` no file
    is replaced, not even one that another program creates at the same moment.

    Returns:
        Sentences about what the format cannot store.
    Raises:
        DoesNotFit: too large for the format.
        CalotypeError: a folder that cannot be written to, a full disk.
        FileExistsError: with `is_new`, there is something at `path`.
    """
    path = Path(path)
    known = formats.KNOWN[format]
    check_size(picture.pixels.shape[:2], format, path.name)
    with atomic_file(path, is_new) as file:
        content, notes = fitted(picture, known, quality, strip_location, record)
        _WRITERS[format](content, file)
    return notes


def read_record(path: Path) -> str | None:
    """The record that `save` wrote into a file, None where there is none.

    Raises:
        PictureError: the file is missing or not a picture.
    """
    return decoder.read(read_record_here, Path(path), max_pixels=1 << 40)


def read_record_here(path: Path, max_pixels: int) -> str | None:
    """As `read_record`, in this process."""
    with open_file(path) as file:
        image_file = read_header(file, path.name, max_pixels)[1]
    for packet in (image_file.xmp, image_file.extended_xmp):
        try:
            record = xmp.record_in(packet) if packet else None
        except ValueError:
            continue
        if record is not None:
            return record
    return None


def check_size(size: tuple[int, int], format: str, name: str) -> None:
    """Raises DoesNotFit if the format cannot store a picture of this height and width."""
    height, width = size
    if not _holds(formats.KNOWN[format], size):
        raise DoesNotFit(
            "{path} would be {width}x{height}, too large for {title}; {names} can hold it",
            path=name,
            width=width,
            height=height,
            title=formats.KNOWN[format].title,
            names=listed((formats.KNOWN[name].title for name in LARGE if _holds(formats.KNOWN[name], size)), " or "),
        )


def large_format(size: tuple[int, int]) -> str:
    """PNG, or TIFF for what PNG cannot hold."""
    return next((format for format in LARGE if _holds(formats.KNOWN[format], size)), LARGE[-1])


def _holds(known: Format, size: tuple[int, int]) -> bool:
    return max(size) <= known.max_side and size[0] * size[1] <= known.max_pixels


def _to_pillow(content: EncoderInput):
    from PIL import Image

    samples = content.samples
    return Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)


class _WriteOnly:
    """A file without `fileno`: given a descriptor, Pillow writes to it directly and loses the reason of a failure."""

    def __init__(self, file: BinaryIO):
        self.write, self.flush = file.write, file.flush


def _save_with_pillow(content: EncoderInput, file: BinaryIO, format: str, **options: Any) -> None:
    _to_pillow(content).save(_WriteOnly(file), format, **options)


def _jpeg(content: EncoderInput, file: BinaryIO) -> None:
    subsampling = 0 if content.quality >= 90 else 2  # 4:4:4 or 4:2:0
    options = content.pillow_metadata | ({"dpi": content.dpi} if content.dpi and max(content.dpi) < 65_535 else {})
    options["extra"] = write_segments(options.pop("xmp", None), content.extended_xmp, content.iptc)
    if content.comment:
        options["comment"] = written_comment(content.comment)
    _save_with_pillow(content, file, "jpeg", quality=content.quality, subsampling=subsampling, **options)


def _webp(content: EncoderInput, file: BinaryIO) -> None:
    options = (
        {"lossless": True, "exact": True, "quality": 75} if content.quality == 100 else {"quality": content.quality}
    )
    _save_with_pillow(content, file, "webp", method=4, **options, **content.pillow_metadata)


def _avif(content: EncoderInput, file: BinaryIO) -> None:
    # Pillow rewrites a block that has an orientation; ours is 1, which is also the default.
    root = {tag: entry for tag, entry in content.exif.root.items() if tag != exif_blocks.ORIENTATION}
    content = replace(content, exif=replace(content.exif, root=root))
    is_grey = content.samples.shape[2] == 1
    subsampling = "4:0:0" if is_grey else "4:4:4" if content.quality >= 90 else "4:2:0"
    # Automatic tiling depends on the number of threads, and so would the file.
    _save_with_pillow(
        content,
        file,
        "avif",
        quality=content.quality,
        subsampling=subsampling,
        autotiling=False,
        **content.pillow_metadata,
    )


def _heic(content: EncoderInput, file: BinaryIO) -> None:
    from calotype.picture.codecs.heif import encode_heic

    file.write(encode_heic(content.samples, content.quality, content.icc, exif_blocks.pack(content.exif), content.xmp))


def _jxl(content: EncoderInput, file: BinaryIO) -> None:
    from calotype.picture.codecs.jxl import encode_jxl

    file.write(encode_jxl(content.samples, content.quality, content.icc, exif_blocks.pack(content.exif), content.xmp))


def _bmp(content: EncoderInput, file: BinaryIO) -> None:
    _save_with_pillow(content, file, "bmp", **({"dpi": content.dpi} if content.dpi else {}))


def _png(content: EncoderInput, file: BinaryIO) -> None:
    from calotype.picture.codecs.png import INFOTEXT, encode_png

    for chunk in encode_png(
        content.samples,
        content.icc,
        exif_blocks.pack(content.exif),
        content.xmp,
        content.dpi,
        {INFOTEXT: content.infotext, "Comment": content.comment, **content.texts},
    ):
        file.write(chunk)


def _tiff(content: EncoderInput, file: BinaryIO) -> None:
    from calotype.picture.codecs.tiff import write_tiff

    write_tiff(file, content.colour, content.alpha, content.icc, content.exif, content.xmp, content.dpi, content.iptc)


_WRITERS: dict[str, Callable[[EncoderInput, BinaryIO], None]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "bmp": _bmp,
    "avif": _avif,
    "heic": _heic,
    "jxl": _jxl,
}
