"""The pictures of a training set, as kohya's sd-scripts finds them in folders; nothing is moved, nothing written."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from calotype.errors import CalotypeError
from calotype.training.captions import read_caption

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".tif", ".tiff", ".heic")
_REPEATED = re.compile(r"(\d+)_(.*)", re.S)
REPEATS = ((10, 7), (50, 5), (100, 3))  # up to so many photos, so many repeats; one beyond. lora-scripts' advice


@dataclass(frozen=True)
class Photo:
    """One picture, how often an epoch shows it, and what it is said to show."""

    path: Path
    caption: str
    repeats: int = 1
    is_regular: bool = False  # drawn by the base model to hold the rest in place, not to be learnt


@dataclass(frozen=True)
class Found:
    """What lies in a folder, and sentences about what was taken for granted."""

    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()


def find_photos(folder: Path, extension: str = ".txt", is_regular: bool = False) -> Found:
    """`N_name` folders below `folder`, each shown N times; or, where there are none, the pictures in it themselves.

    A caption is the first line of the file beside the picture; without one it is the folder's name behind the number.

    Raises:
        CalotypeError: no such folder, no pictures in it, or a caption that cannot be read.
    """
    if not folder.is_dir():
        raise CalotypeError(f"there is no folder {folder}; give the folder with your photos")
    rooms = [(room, _REPEATED.fullmatch(room.name)) for room in sorted(folder.iterdir()) if room.is_dir()]
    named = [(room, int(told[1]), told[2]) for room, told in rooms if told and int(told[1]) > 0]
    photos = [photo for room, repeats, name in named for photo in _in(room, name, repeats, extension, is_regular)]
    notes = []
    if not named:
        photos = _in(folder, "", 1, extension, is_regular)
        repeats = 1 if is_regular else advised_repeats(len(photos))
        photos = [replace(photo, repeats=repeats) for photo in photos]
        if photos and repeats > 1:
            notes.append(
                f"each of the {len(photos)} photos is shown {repeats} times an epoch; name a folder N_name to choose"
            )
    elif loose := _pictures(folder):
        notes.append(f"{len(loose)} pictures outside the N_name folders are left out, the first is {loose[0].name}")
    if not photos:
        where = "in it" if not named else f"in its folders {', '.join(room.name for room, *_ in named[:3])}"
        raise CalotypeError(f"{folder} has no pictures {where}; put photos there ({', '.join(SUFFIXES)})")
    return Found(tuple(photos), tuple(notes))


def advised_repeats(count: int) -> int:
    return next((repeats for most, repeats in REPEATS if count <= most), 1)


def _in(room: Path, name: str, repeats: int, extension: str, is_regular: bool) -> list[Photo]:
    return [Photo(path, _caption(path, extension, name), repeats, is_regular) for path in _pictures(room)]


def _pictures(room: Path) -> list[Path]:
    return sorted(path for path in room.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _caption(path: Path, extension: str, otherwise: str) -> str:
    beside = path.with_suffix(extension)
    return read_caption(beside) if beside.is_file() else otherwise.strip()


def balanced(photos: tuple[Photo, ...], regular: tuple[Photo, ...]) -> tuple[Photo, ...]:
    """Regularisation pictures, repeated or cut: an epoch shows as many of them as of the others, as kohya does."""
    wanted = sum(photo.repeats for photo in photos)
    if not regular:
        return ()
    shown = [photo for photo in regular for _ in range(photo.repeats)]
    chosen: dict[Path, Photo] = {}
    for n in range(wanted):
        photo = shown[n % len(shown)]
        before = chosen.get(photo.path)
        chosen[photo.path] = replace(photo, repeats=before.repeats + 1 if before else 1)
    return tuple(chosen.values())
