"""The images of a training set, found in folders as kohya's sd-scripts finds them; nothing is moved or written."""

import random
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from calotype.errors import CalotypeError, Message, listed
from calotype.files import files_below, walk
from calotype.suffixes import SUFFIXES
from calotype.training.data.captions import read_caption

_SAMPLES = r"sample/[^/]+_(e?\d{6,}(_\d\d+(_\d+)?)?|held_out)\.png|[^/]+-snapshots/(verdicts-)?\d{8,}\.png"
_TRAINING_OUTPUT = re.compile(rf"(.*/)?({_SAMPLES})", re.S)
_FIGURES = "-figures"  # `train restorer --evaluate` writes NAME-figures.jpg and NAME-figures.json
_REPEATS_IN_NAME = re.compile(r"(\d+)_(.*)|(\d{1,3})", re.S)  # a folder named 2019 is a year, not a number of repeats
MAX_DEPTH = 3  # levels of folders in which pictures are looked for that a message names
MAX_NAMED = 3  # folders in a message
MEMORY_FRACTION = 0.7  # fraction of the free memory that cached pictures may take
REPEATS = ((10, 7), (50, 5), (100, 3))  # (max photos, repeats), 1 beyond; as lora-scripts advises


@dataclass(frozen=True)
class Example:
    """One picture with its caption and its number of repeats per epoch."""

    path: Path
    caption: str
    repeats: int = 1
    is_regularization: bool = False  # prior preservation (kohya's reg images)
    has_caption_file: bool = True  # False: the caption is the folder's name
    subset: int = 0  # index of the subset that it is from
    mask: Path | None = None  # picture of the parts that are trained


@dataclass(frozen=True)
class Folder:
    """A folder with pictures."""

    folder: Path
    name: str = ""  # default caption: the folder's name without the number
    repeats: int = 0  # 0: not given by its name

    @property
    def pictures(self) -> list[Path]:
        return pictures_in(self.folder)


@dataclass(frozen=True)
class Dataset:
    """The examples found in a folder, and notes about defaults and files left out."""

    photos: tuple[Example, ...]
    notes: tuple[Message, ...] = ()


def find_photos(
    folder: Path, extension: str = ".txt", is_regularization: bool = False, has_wildcards: bool = False
) -> Dataset:
    """The pictures in the `N_name` or `N` subfolders, each with N repeats; without such subfolders, those in `folder`.

    The caption is the first line of the caption file beside the picture; without one, the folder's name without the
    number. With wildcards it is all lines, and each step chooses one.

    Raises:
        CalotypeError: no such folder, no pictures in it, or a caption that cannot be read.
    """
    extension = extension if extension.startswith(".") else f".{extension}"
    folders = find_folders(folder)
    named = [subfolder for subfolder in folders if subfolder.repeats]
    errors: list[CalotypeError] = []
    examples = [
        example
        for subfolder in folders
        for example in read_examples(subfolder, extension, is_regularization, has_wildcards, errors)
    ]
    if errors and not examples:
        raise errors[0]
    notes = [Message("left out: {fault}", fault=error) for error in errors]
    if not named:
        repeats = 1 if is_regularization else advised_repeats(len(examples))
        examples = [replace(example, repeats=repeats) for example in examples]
        if examples and repeats > 1:
            notes.append(
                Message(
                    "each of the {count} photos is shown {repeats} times an epoch; name a folder N_name to choose",
                    count=len(examples),
                    repeats=repeats,
                )
            )
    elif loose := pictures_in(folder):
        notes.append(
            Message(
                "{count} pictures outside the N_name folders are left out, the first is {name}",
                count=len(loose),
                name=loose[0].name,
            )
        )
    if named and (unnamed := folders_with_pictures(folder, {subfolder.folder for subfolder in named})):
        notes.append(
            Message(
                "left out: {folders}, as the name has no number of repeats; name it such as {repeats}_{name}",
                folders=listed(with_count(folder, path, count) for path, count in unnamed[:MAX_NAMED]),
                repeats=named[0].repeats,
                name=unnamed[0][0].name,
            )
        )
    if not examples and named:
        raise CalotypeError(
            "{folder} has no pictures in its folders {names}; put photos there ({suffixes})",
            folder=folder,
            names=", ".join(subfolder.folder.name for subfolder in named[:3]),
            suffixes=", ".join(SUFFIXES),
        )
    if not examples and (elsewhere := folders_with_pictures(folder)):
        raise CalotypeError(
            "{folder} has no pictures in it, but {folders}; give {example}, or name the folder N_name, where N is the "
            "number of repeats, from 1",
            folder=folder,
            folders=listed(with_count(folder, path, count) for path, count in elsewhere[:MAX_NAMED]),
            example=elsewhere[0][0] if elsewhere[0][0].parent == folder else elsewhere[0][0].parent,
        )
    if not examples:
        raise CalotypeError(
            "{folder} has no pictures in it; put photos there ({suffixes})",
            folder=folder,
            suffixes=", ".join(SUFFIXES),
        )
    return Dataset(tuple(examples), tuple(notes))


def folders_with_pictures(folder: Path, known: Collection[Path] = ()) -> list[tuple[Path, int]]:
    """Subfolders with pictures, with their number, at most MAX_DEPTH levels below; those in `known` are left out."""

    def depth(path: Path) -> int:
        return len(path.relative_to(folder).parts)

    below = walk(folder, lambda path: path not in known and depth(path) <= MAX_DEPTH)
    folders = [(path, count) for path, _ in below if path != folder and (count := len(pictures_in(path)))]
    return sorted(folders, key=lambda entry: (depth(entry[0]), entry[0]))


def with_count(folder: Path, path: Path, count: int) -> Message:
    return Message("{count} in {path}", count=count, path=path.relative_to(folder))


def pictures_below(folder: Path, out: Path | None = None) -> tuple[list[Path], Message | None]:
    """Every picture in a folder and its subfolders, sorted, and a note about the results that are left out.

    Args:
        out: the output folder; if it is a subfolder, everything in it is left out.
    """
    files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    results, note = results_among(files, folder, out)
    return sorted(path for name, path in files.items() if is_picture(name) and name not in results), note


def results_among(names: Collection[str], folder: Path, out: Path | None = None) -> tuple[set[str], Message | None]:
    """The pictures among `names` (paths relative to the folder) that are results, and a note about them.

    Args:
        out: the output folder; if it is a subfolder, everything in it is a result.
    """
    pictures = {name for name in names if is_picture(name)}
    training_output, in_out = _training_output(names) & pictures, set()
    if out and folder.resolve() in out.resolve().parents:
        inner = out.resolve().relative_to(folder.resolve())
        in_out = {name for name in pictures if Path(name).is_relative_to(inner)}
    counts = [Message("{count} in {folder}", count=len(in_out), folder=out)] if in_out else []
    if elsewhere := training_output - in_out:
        counts.append(Message("{count} drawn during training", count=len(elsewhere)))
    note = Message("pictures left out because they are results: {results}", results=listed(counts)) if counts else None
    return training_output | in_out, note


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _training_output(names: Collection[str]) -> set[str]:
    """Samples, contact sheets and GIFs beside a metrics log, and face comparisons beside their JSON file."""
    logs = [name for name in names if name.endswith(".log.jsonl")]
    runs = {PurePosixPath(name).parent for name in logs}
    matches = (_TRAINING_OUTPUT.fullmatch(name) for name in names)
    samples = {match[0] for match in matches if match and PurePosixPath(match[1] or ".") in runs}
    sheets = {f"{name.removesuffix('.json')}.jpg" for name in names if name.endswith(f"{_FIGURES}.json")}
    films = {f"{name.removesuffix('.log.jsonl')}.gif" for name in logs}
    return samples | (sheets | films).intersection(names)


def check_memory(count: int, side: int, free: int, pictures: Message, option: str) -> None:
    """Raises CalotypeError if `count` square 8-bit pictures do not fit into MEMORY_FRACTION of the free memory.

    Args:
        free: free memory in bytes.
        pictures: how the message names them, e.g. "the 12 pictures of FOLDER".
        option: the option that makes them smaller.
    """
    required, available = count * 3 * side**2, MEMORY_FRACTION * free
    if required > available:
        raise CalotypeError(
            "{pictures} take {needed:.1f} GiB at {side} pixels, and with {free:.1f} free they may take "
            "{most:.1f}; give a smaller {option} or fewer pictures",
            option=option,
            pictures=pictures,
            needed=required / 2**30,
            side=side,
            free=free / 2**30,
            most=available / 2**30,
        )


def find_folders(folder: Path) -> list[Folder]:
    """The `N_name` and `N` subfolders of `folder`; without such subfolders, the folder itself.

    Raises:
        CalotypeError: no such folder.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your photos", folder=folder)
    matches = [
        (subfolder, _REPEATS_IN_NAME.fullmatch(subfolder.name))
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir()
    ]
    folders = [
        Folder(subfolder, (match[2] or "").strip(), int(match[1] or match[3])) for subfolder, match in matches if match
    ]
    return [subfolder for subfolder in folders if subfolder.repeats] or [Folder(folder)]


def advised_repeats(count: int) -> int:
    return next((repeats for max_count, repeats in REPEATS if count <= max_count), 1)


def read_examples(
    folder: Folder, extension: str, is_regularization: bool, has_wildcards: bool, errors: list[CalotypeError]
) -> list[Example]:
    """The examples whose captions can be read; appends the other captions' errors to `errors`."""
    examples = []
    for path in folder.pictures:
        try:
            caption, has_caption_file = _caption(path, extension, folder.name, has_wildcards)
        except CalotypeError as error:
            errors.append(error)
            continue
        examples.append(Example(path, caption, folder.repeats or 1, is_regularization, has_caption_file))
    return examples


def pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def split_validation(
    photos: tuple[Example, ...], fraction: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Splits photos into (train, validation), at least one of each, chosen by the seed; the order is kept.

    Raises:
        CalotypeError: fewer than two photos.
    """
    if not fraction:
        return photos, ()
    if len(photos) < 2:
        raise CalotypeError("{option:validation_split} needs at least two photos: one to train on, one for validation")
    count = min(max(1, round(fraction * len(photos))), len(photos) - 1)
    chosen = set(random.Random(seed).sample(range(len(photos)), count))
    splits = (
        [photo for n, photo in enumerate(photos) if (n in chosen) == is_validation] for is_validation in (False, True)
    )
    train, validation = map(tuple, splits)
    return train, validation


def _caption(path: Path, extension: str, fallback: str, has_wildcards: bool) -> tuple[str, bool]:
    """The caption, and whether it is from a caption file."""
    caption_file = path.with_suffix(extension)
    return (read_caption(caption_file, has_wildcards), True) if caption_file.is_file() else (fallback, False)


def balanced(photos: tuple[Example, ...], regularization: tuple[Example, ...]) -> tuple[Example, ...]:
    """Regularization images with repeats that add up to those of the training images, counted as sd-scripts does.

    They are taken in order with their own repeats until there are enough; the last one keeps all of its repeats. If
    all of them are too few, repeats are added to each in turn.
    """
    target, chosen, count = sum(photo.repeats for photo in photos), [], 0
    for photo in regularization:
        if count >= target:
            break
        chosen.append(photo)
        count += photo.repeats
    extra, remainder = divmod(max(0, target - count), max(1, len(chosen)))
    return tuple(replace(photo, repeats=photo.repeats + extra + (n < remainder)) for n, photo in enumerate(chosen))
