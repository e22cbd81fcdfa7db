"""Writing a picture: what the format cannot hold is said, the file appears whole or not at all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from calotype.errors import PictureError
from calotype.files import whole_file
from calotype.picture.codecs import formats
from calotype.picture.codecs.formats import Format
from calotype.picture.fit import Ready, fitted
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import xmp
from calotype.picture.picture import Picture, look, opened


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

    The file is written beside its place and moved there when it is whole; nothing is left behind when that fails.
    `format` is one of tasks.FORMATS without auto. `quality`, 1 to 100, is for JPEG, WebP (100: lossless), AVIF and
    HEIC; from 90 on, JPEG, AVIF and HEIC keep colour at full resolution. With `is_new` nothing is replaced, also not
    what another program puts there at the same moment.

    Returns:
        Sentences about what the format could not keep.
    Raises:
        CalotypeError: too large for the format, a folder that cannot be written to, a full disk.
        FileExistsError: with `is_new`, something lies there.
    """
    path = Path(path)
    known = formats.KNOWN[format]
    _check_size(picture, known, path)
    with whole_file(path, is_new) as file:
        ready, notes = fitted(picture, known, quality, strip_location, record)
        _WRITERS[format](ready, file)
    return notes


def read_record(path: Path) -> str | None:
    """The record that `save` put into a file, None where there is none.

    Raises:
        PictureError: no file, or not a picture.
    """
    path = Path(path)
    with opened(path) as file:
        packet = look(file, path.name, 1 << 40)[1].xmp
    try:
        return xmp.record_in(packet) if packet else None
    except ValueError:
        return None


def _check_size(picture: Picture, known: Format, path: Path) -> None:
    height, width, _ = picture.pixels.shape
    if max(height, width) <= known.side and height * width <= known.pixels:
        return
    fit = [f.title for f in formats.KNOWN.values() if max(height, width) <= f.side and height * width <= f.pixels]
    fit = [title for title in ("PNG", "TIFF") if title in fit]
    raise PictureError(
        "{path} would be {width}x{height}, too large for {title}; {names} can hold it",
        path=path.name,
        width=width,
        height=height,
        title=known.title,
        names=" or ".join(fit),
    )


def _pillow(ready: Ready):
    from PIL import Image

    samples = ready.samples
    return Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)


class _Unnumbered:
    """A file that only writes: given a file's number, Pillow writes by itself and loses the reason of a failure."""

    def __init__(self, file: BinaryIO):
        self.write, self.flush = file.write, file.flush


def _encoded(ready: Ready, file: BinaryIO, format: str, **how: Any) -> None:
    _pillow(ready).save(_Unnumbered(file), format, **how)


def _jpeg(ready: Ready, file: BinaryIO) -> None:
    colour = 0 if ready.quality >= 90 else 2  # 4:4:4 or 4:2:0
    dpi = {"dpi": ready.dpi} if ready.dpi and max(ready.dpi) < 65_535 else {}
    _encoded(ready, file, "jpeg", quality=ready.quality, subsampling=colour, **dpi, **ready.told)


def _webp(ready: Ready, file: BinaryIO) -> None:
    how = {"lossless": True, "exact": True, "quality": 75} if ready.quality == 100 else {"quality": ready.quality}
    _encoded(ready, file, "webp", method=4, **how, **ready.told)


def _avif(ready: Ready, file: BinaryIO) -> None:
    # Pillow rewrites a block that tells an orientation; ours is 1, which is also what none means.
    root = {tag: entry for tag, entry in ready.exif.root.items() if tag != exif_blocks.ORIENTATION}
    ready = replace(ready, exif=replace(ready.exif, root=root))
    grey = ready.samples.shape[2] == 1
    colour = "4:0:0" if grey else "4:4:4" if ready.quality >= 90 else "4:2:0"
    # Tiles by threads would make the file depend on the machine.
    _encoded(ready, file, "avif", quality=ready.quality, subsampling=colour, autotiling=False, **ready.told)


def _heic(ready: Ready, file: BinaryIO) -> None:
    from calotype.picture.codecs.heif import heic_bytes

    file.write(heic_bytes(ready.samples, ready.quality, ready.icc, exif_blocks.pack(ready.exif), ready.xmp))


def _bmp(ready: Ready, file: BinaryIO) -> None:
    _encoded(ready, file, "bmp", **({"dpi": ready.dpi} if ready.dpi else {}))


def _png(ready: Ready, file: BinaryIO) -> None:
    from calotype.picture.codecs.png import png_pieces

    for piece in png_pieces(
        ready.samples, ready.icc, exif_blocks.pack(ready.exif), ready.xmp, ready.dpi, ready.infotext
    ):
        file.write(piece)


def _tiff(ready: Ready, file: BinaryIO) -> None:
    from calotype.picture.codecs.tiff import write_tiff

    write_tiff(file, ready.colour, ready.alpha, ready.icc, ready.exif, ready.xmp, ready.dpi)


_WRITERS: dict[str, Callable[[Ready, BinaryIO], None]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "bmp": _bmp,
    "avif": _avif,
    "heic": _heic,
}
