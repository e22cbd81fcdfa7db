"""Names of results: no two collide, none is too long for the disk, none harms a terminal or a page."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from calotype.suffixes import REPLACED, SUFFIXES

NAME_MAX = 255  # bytes, on nearly every file system
ROOM = 24  # bytes kept free for "-compare.jpg" and for the sidecar's and a temporary file's ending
FORMATS = {suffix: format for suffix, format in SUFFIXES.items() if suffix not in REPLACED}  # of results


def natural(path: str | os.PathLike) -> tuple:
    """Sorts photo2 before photo10, whatever the case."""
    parts = re.split(r"([0-9]+)", str(path).casefold())
    return tuple((int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in parts), str(path)


def format_of(path: Path) -> str | None:
    """The format that a file's ending asks for, or None where it asks for none that we write."""
    return FORMATS.get(path.suffix.lower())


def ending(source: Path, format: str) -> str:
    """The ending of a result: of the wanted format, else the source's own where we write it, else the nearest."""
    if format != "auto" and format_of(source) != format:
        return next(suffix for suffix, name in FORMATS.items() if name == format)
    return source.suffix if format_of(source) else REPLACED.get(source.suffix.lower(), ".png")


def key(path: Path) -> str:
    """Equal for two paths that some file system would take for one."""
    return unicodedata.normalize("NFC", os.path.realpath(path.parent) + "/" + path.name).casefold()


def shortened(stem: str, ending: str, folder: Path) -> str:
    """`stem + ending`, where that is too long for the disk cut and told apart by a hash of the whole stem."""
    most = _name_max(folder) - ROOM
    if len(os.fsencode(stem + ending)) <= most:
        return stem + ending
    mark = "-" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    cut = os.fsencode(stem)[: most - len(mark) - len(os.fsencode(ending))]
    return cut.decode("utf-8", "ignore") + mark + ending


def _name_max(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return min(NAME_MAX, os.pathconf(folder, "PC_NAME_MAX"))
    except (OSError, AttributeError, ValueError):  # Windows has no pathconf
        return NAME_MAX


def beside(target: Path, what: str, ending: str) -> Path:
    """`photo.png` -> `photo-compare.jpg`, no longer than the disk takes."""
    return target.with_name(target.stem + what + ending)
