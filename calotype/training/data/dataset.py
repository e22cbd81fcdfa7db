"""The pictures of a training set, as kohya's sd-scripts finds them in folders; nothing is moved, nothing written."""

import random
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from calotype.errors import CalotypeError, Message, listed
from calotype.files import files_below
from calotype.suffixes import SUFFIXES
from calotype.training.data.captions import read_caption

_DRAWN = r"sample/[^/]+_(e?\d{6,}(_\d\d+(_\d+)?)?|held_out)\.png|[^/]+-snapshots/(verdicts-)?\d{8,}\.png"
_MADE = re.compile(rf"(.*/)?({_DRAWN})", re.S)
_COMPARED = "-figures"  # NAME-figures.jpg is what `train restorer --evaluate` shows, and NAME-figures.json says
_REPEATED = re.compile(r"(\d+)_(.*)|(\d{1,3})", re.S)  # a folder called 2019 is a year
ROOM = 0.7  # share of the free memory that pictures which stay there may take
REPEATS = ((10, 7), (50, 5), (100, 3))  # up to so many photos, so many repeats; one beyond. lora-scripts' advice


@dataclass(frozen=True)
class Example:
    """One picture, how often an epoch shows it, and what it is said to show."""

    path: Path
    caption: str
    repeats: int = 1
    is_regular: bool = False  # drawn by the base model to hold the rest in place, not to be learnt
    is_told: bool = True  # the caption is from a file beside it, not the folder's name


@dataclass(frozen=True)
class Folder:
    """A folder with pictures."""

    folder: Path
    name: str = ""  # what the pictures in it show: what its own name says behind the number
    repeats: int = 0  # 0: its name does not say

    @property
    def pictures(self) -> list[Path]:
        return _pictures(self.folder)


@dataclass(frozen=True)
class Dataset:
    """What lies in a folder, and sentences about what was taken for granted."""

    photos: tuple[Example, ...]
    notes: tuple[Message, ...] = ()


def find_photos(
    folder: Path, extension: str = ".txt", is_regular: bool = False, has_wildcards: bool = False
) -> Dataset:
    """`N_name` or `N` folders in `folder`, each shown N times; or, where there are none, the pictures in it themselves.

    A caption is the first line of the file beside the picture; without one it is the folder's name behind the number.
    With wildcards it is all lines, of which each step chooses one.

    Raises:
        CalotypeError: no such folder, no pictures in it, or a caption that cannot be read.
    """
    extension = extension if extension.startswith(".") else f".{extension}"
    rooms = find_rooms(folder)
    named = [room for room in rooms if room.repeats]
    faults: list[CalotypeError] = []
    photos = [photo for room in rooms for photo in _in(room, extension, is_regular, has_wildcards, faults)]
    if faults and not photos:
        raise faults[0]
    notes = [Message("left out: {fault}", fault=fault) for fault in faults]
    if not named:
        repeats = 1 if is_regular else advised_repeats(len(photos))
        photos = [replace(photo, repeats=repeats) for photo in photos]
        if photos and repeats > 1:
            notes.append(
                Message(
                    "each of the {count} photos is shown {repeats} times an epoch; name a folder N_name to choose",
                    count=len(photos),
                    repeats=repeats,
                )
            )
    elif loose := _pictures(folder):
        notes.append(
            Message(
                "{count} pictures outside the N_name folders are left out, the first is {name}",
                count=len(loose),
                name=loose[0].name,
            )
        )
    if not photos and named:
        raise CalotypeError(
            "{folder} has no pictures in its folders {names}; put photos there ({suffixes})",
            folder=folder,
            names=", ".join(room.folder.name for room in named[:3]),
            suffixes=", ".join(SUFFIXES),
        )
    if not photos:
        raise CalotypeError(
            "{folder} has no pictures in it; put photos there ({suffixes})",
            folder=folder,
            suffixes=", ".join(SUFFIXES),
        )
    return Dataset(tuple(photos), tuple(notes))


def pictures_below(folder: Path, out: Path | None = None) -> tuple[list[Path], Message | None]:
    """Every picture in a folder and below it, by name, and what to say of those left out: nobody learns from results.

    Args:
        out: where results go; all in it is left out where that is a folder below.
    """
    files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    results, note = results_among(files, folder, out)
    return sorted(path for name, path in files.items() if is_picture(name) and name not in results), note


def results_among(names: Collection[str], folder: Path, out: Path | None = None) -> tuple[set[str], Message | None]:
    """Of the files in a folder, by their paths in it, the pictures that are results, and what to say of them.

    Args:
        out: where results go; all in it is left out where that is a folder below.
    """
    found = {name for name in names if is_picture(name)}
    drawn, within = _drawn_in_training(names) & found, set()
    if out and folder.resolve() in out.resolve().parents:
        inner = out.resolve().relative_to(folder.resolve())
        within = {name for name in found if Path(name).is_relative_to(inner)}
    parts = [Message("{count} in {folder}", count=len(within), folder=out)] if within else []
    if others := drawn - within:
        parts.append(Message("{count} drawn in training", count=len(others)))
    note = Message("pictures left out, for they are results: {results}", results=listed(parts)) if parts else None
    return drawn | within, note


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _drawn_in_training(names: Collection[str]) -> set[str]:
    """A run's samples, sheets and film are beside its metrics log, faces compared beside their figures."""
    logs = [name for name in names if name.endswith(".log.jsonl")]
    runs = {PurePosixPath(name).parent for name in logs}
    matches = (_MADE.fullmatch(name) for name in names)
    drawn = {match[0] for match in matches if match and PurePosixPath(match[1] or ".") in runs}
    sheets = {f"{name.removesuffix('.json')}.jpg" for name in names if name.endswith(f"{_COMPARED}.json")}
    films = {f"{name.removesuffix('.log.jsonl')}.gif" for name in logs}
    return drawn | (sheets | films).intersection(names)


def check_room(count: int, side: int, free: int, pictures: Message, option: str) -> None:
    """Raises CalotypeError where so many square pictures of 8 bits do not fit into what they may take of the memory.

    Args:
        free: bytes.
        pictures: which ones, such as "the 12 pictures of here".
        option: makes them smaller.
    """
    needed, most = count * 3 * side**2, ROOM * free
    if needed > most:
        raise CalotypeError(
            "{pictures} take {needed:.1f} GiB at {side} pixels, and with {free:.1f} free they may take "
            "{most:.1f}; give a smaller {option} or fewer pictures",
            option=option,
            pictures=pictures,
            needed=needed / 2**30,
            side=side,
            free=free / 2**30,
            most=most / 2**30,
        )


def find_rooms(folder: Path) -> list[Folder]:
    """The `N_name` and `N` folders in `folder`, or, where there are none, the folder itself.

    Raises:
        CalotypeError: no such folder.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your photos", folder=folder)
    told = [(room, _REPEATED.fullmatch(room.name)) for room in sorted(folder.iterdir()) if room.is_dir()]
    rooms = [Folder(room, (name[2] or "").strip(), int(name[1] or name[3])) for room, name in told if name]
    return [room for room in rooms if room.repeats] or [Folder(folder)]


def advised_repeats(count: int) -> int:
    return next((repeats for most, repeats in REPEATS if count <= most), 1)


def _in(
    room: Folder, extension: str, is_regular: bool, has_wildcards: bool, faults: list[CalotypeError]
) -> list[Example]:
    """Those whose captions can be read; why the others cannot goes into `faults`."""
    found = []
    for path in room.pictures:
        try:
            caption, is_told = _caption(path, extension, room.name, has_wildcards)
        except CalotypeError as fault:
            faults.append(fault)
            continue
        found.append(Example(path, caption, room.repeats or 1, is_regular, is_told))
    return found


def _pictures(room: Path) -> list[Path]:
    return sorted(path for path in room.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def held_back(photos: tuple[Example, ...], share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The photos to learn from, and those to measure with: at least one of each, chosen by the seed; in their order.

    Raises:
        CalotypeError: there are not two.
    """
    if not share:
        return photos, ()
    if len(photos) < 2:
        raise CalotypeError(
            "{option:validation_split} needs two photos at least: one to learn from, one to measure with"
        )
    count = min(max(1, round(share * len(photos))), len(photos) - 1)
    chosen = set(random.Random(seed).sample(range(len(photos)), count))
    parts = ([photo for n, photo in enumerate(photos) if (n in chosen) == is_held] for is_held in (False, True))
    learnt, held = map(tuple, parts)
    return learnt, held


def _caption(path: Path, extension: str, otherwise: str, has_wildcards: bool) -> tuple[str, bool]:
    """The caption, and whether a file beside the picture has it."""
    beside = path.with_suffix(extension)
    return (read_caption(beside, has_wildcards), True) if beside.is_file() else (otherwise, False)


def balanced(photos: tuple[Example, ...], regular: tuple[Example, ...]) -> tuple[Example, ...]:
    """Regularisation pictures, as often in an epoch as the others all together, counted as sd-scripts does.

    They come in their order with their own repeats, until there are enough; the last of them is not cut. Where all of
    them are too few, each in turn is shown once more.
    """
    wanted, chosen, count = sum(photo.repeats for photo in photos), [], 0
    for photo in regular:
        if count >= wanted:
            break
        chosen.append(photo)
        count += photo.repeats
    more, first = divmod(max(0, wanted - count), max(1, len(chosen)))
    return tuple(replace(photo, repeats=photo.repeats + more + (n < first)) for n, photo in enumerate(chosen))
