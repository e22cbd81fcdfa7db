"""File names of results: formats and extensions, sorting, collisions, length limits."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calotype.suffixes import REPLACED, SUFFIXES
from calotype.tasks.output import Album

MAX_NAME_BYTES = 255  # on nearly every file system
RESERVED_BYTES = 24  # for "-compare.jpg" and the extensions of sidecars and temporary files
MASK = "-mask"  # in the names of masks
Beside = Sequence[Callable[[Path], Path]]  # of the path of a result: those of pictures that are written beside it
FORMATS = {suffix: format for suffix, format in SUFFIXES.items() if suffix not in REPLACED}  # of results


def natural(path: str | os.PathLike) -> tuple:
    """Sort key: photo2 before photo10, ignoring case."""
    runs = re.split(r"([0-9]+)", str(path).casefold())
    return tuple((int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in runs), str(path)


def format_of(path: Path) -> str | None:
    """The format of a file extension, or None if it is not one that Calotype writes."""
    return FORMATS.get(path.suffix.lower())


def ending(source: Path, format: str) -> str:
    """The extension of a result: of the given format, else the source's if it can be written, else the closest."""
    if format != "auto" and format_of(source) != format:
        return next(suffix for suffix, name in FORMATS.items() if name == format)
    return source.suffix if format_of(source) else REPLACED.get(source.suffix.lower(), ".png")


def key(path: Path) -> str:
    """Equal for two paths that are the same on some file system."""
    return unicodedata.normalize("NFC", os.path.realpath(path.parent) + "/" + path.name).casefold()


def shortened(stem: str, ending: str, folder: Path) -> str:
    """`stem + ending`; if too long for the file system, truncated and with a hash of the whole stem."""
    max_bytes = _name_max(folder) - RESERVED_BYTES
    if len(os.fsencode(stem + ending)) <= max_bytes:
        return stem + ending
    mark = "-" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    cut = os.fsencode(stem)[: max_bytes - len(mark) - len(os.fsencode(ending))]
    return cut.decode("utf-8", "ignore") + mark + ending


def _name_max(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return min(MAX_NAME_BYTES, os.pathconf(folder, "PC_NAME_MAX"))
    except (OSError, AttributeError, ValueError):  # Windows has no pathconf
        return MAX_NAME_BYTES


def beside(target: Path, suffix: str, ending: str) -> Path:
    """`photo.png` -> `photo-compare.jpg`."""
    return target.with_name(target.stem + suffix + ending)


def comparison_of(target: Path) -> Path:
    """Where before and after of a result are written side by side."""
    return beside(target, "-compare", ".jpg")


def mask_of(target: Path) -> Path:
    """Where the mask of what was repaired in a result is written."""
    return beside(target, MASK, ".png")


def uncertainty_of(target: Path) -> Path:
    """Where the picture of what was invented in a result is written."""
    return beside(target, "-uncertainty", ".png")


def pictures_beside(task: Any, album: Album) -> Beside:
    """Which pictures are written beside each result, by the functions that name them."""
    has_mask, has_uncertainty = (getattr(task, name, False) for name in ("has_mask", "has_uncertainty"))
    asked = {comparison_of: album.compare, mask_of: has_mask, uncertainty_of: has_uncertainty}
    return tuple(path_of for path_of, is_asked in asked.items() if is_asked)
