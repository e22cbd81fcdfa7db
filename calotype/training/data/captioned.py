"""Captioned images for training a diffusion model from scratch: a folder, or a tar as WebDataset packs it.

NAME.png and NAME.txt belong together; each line of the text is one caption, the first is the default one. Subfolders
are groups, such as drawing styles; a folder named N_group has weight N. A README.md describes the set.
"""

import contextlib
import copy
import random
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from calotype import memory
from calotype.errors import CalotypeError, Message
from calotype.files import decoded, files_below, read_text
from calotype.ops.color import to_tensor
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.suffixes import SUFFIXES
from calotype.tasks import Progress
from calotype.training.data.buckets import fit
from calotype.training.data.dataset import check_memory, is_picture, results_among

_WEIGHTED_NAME = re.compile(r"(\d+)_(.*)", re.S)
MAX_FILE_BYTES = 256 << 20  # of a picture within a tar
MAX_NAMED = 3  # pictures left out that get a note of their own


@dataclass(frozen=True)
class Pair:
    """Captions of one image."""

    name: str  # path within the set without its suffix, separated by "/"
    captions: tuple[str, ...]
    group: str = ""
    weight: int = 1  # how often it is sampled, relative to the others


@dataclass(frozen=True, eq=False)
class CaptionedSet:
    """The whole set in memory, and notes about what was left out."""

    pixels: Tensor  # (N, 3, S, S) uint8, sRGB as stored, transparency on white
    pairs: tuple[Pair, ...]
    about: str = ""  # its README.md
    notes: tuple[Message, ...] = ()


def read_pairs(
    source: Path, side: int, extension: str = ".txt", max_pixels: int = 10**9, out: Path | None = None
) -> Iterator[Progress | CaptionedSet]:
    """Yields progress, and the set last. Images are scaled to cover the square, and center-cropped.

    Args:
        out: the output folder, whose pictures are left out.

    Raises:
        CalotypeError: no such folder, not a tar, no pictures, no captions, not enough memory.
    """
    extension = extension if extension.startswith(".") else f".{extension}"
    with _opened(source) as files:
        results, note = results_among(files.names.keys(), source, out)
        pictures = {name: PurePosixPath(name) for name in files.names if is_picture(name) and name not in results}
        if not pictures:
            raise CalotypeError(
                "{source} has no pictures in it; put them there ({names})", source=source, names=", ".join(SUFFIXES)
            )
        counted = Message("{count} pictures", count=len(pictures))
        check_memory(len(pictures), side, memory.available(), counted, "resolution")
        pixels = torch.empty(len(pictures), 3, side, side, dtype=torch.uint8)
        pairs: list[Pair] = []
        errors: list[CalotypeError] = []
        for n, (name, path) in enumerate(sorted(pictures.items()), 1):
            try:
                with files.at(name) as file:
                    pixels[len(pairs)] = squared(Picture.open(file, max_pixels), side)
                pairs.append(_pair(path, files, extension))
            except CalotypeError as error:
                errors.append(copy.copy(error))  # without its traceback, whose frames hold pixels
            yield Progress(n, len(pictures), "pictures")
        uncaptioned = [
            name for name, path in sorted(pictures.items()) if str(path.with_suffix(extension)) not in files.names
        ]
        readme = next((name for name in files.names if name.lower() == "readme.md"), None)
        about = files.text(readme) if readme else ""
    if not pairs:
        raise CalotypeError(
            "{source} has no picture that can be read; the first: {fault}", source=source, fault=errors[0]
        )
    if not any(caption for pair in pairs for caption in pair.captions):
        raise CalotypeError(
            "{source} has no captions; write one into NAME{extension} beside each NAME.png",
            source=source,
            extension=extension,
        )
    notes = [note] if note else []
    notes += [Message("left out: {fault}", fault=error) for error in errors[:MAX_NAMED]]
    if 0 < len(uncaptioned) < len(pictures):
        notes.append(
            Message(
                "{count} of {total} pictures, such as {name}, have no NAME{extension}; their caption is "
                "their folder's name",
                count=len(uncaptioned),
                total=len(pictures),
                extension=extension,
                name=uncaptioned[0],
            )
        )
    if len(errors) > MAX_NAMED:
        notes.append(Message("and {count} more pictures", count=len(errors) - MAX_NAMED))
    yield CaptionedSet(pixels[: len(pairs)], tuple(pairs), about, tuple(notes))


def validation_indices(pairs: Sequence[Pair], fraction: float, seed: int, names: Sequence[str] = ()) -> list[int]:
    """Indices of the validation images: the named ones, or a random fraction, never all.

    Raises:
        CalotypeError: a name is not in the set, or no training images would be left.
    """
    if names:
        indices = {pair.name: n for n, pair in enumerate(pairs)}
        requested = [name.strip() for name in names if name.strip()]
        missing = [name for name in requested if name not in indices]
        if missing:
            raise CalotypeError(
                "{count} names of {option:held_out} are not in the set, such as {missing}; names are such as {name}",
                count=len(missing),
                missing=missing[0],
                name=pairs[0].name,
            )
        validation = sorted({indices[name] for name in requested})
    else:
        count = max(1, round(fraction * len(pairs))) if fraction else 0
        validation = sorted(random.Random(seed).sample(range(len(pairs)), min(count, len(pairs) - 1)))
    if len(validation) == len(pairs):
        raise CalotypeError(
            "{option:held_out} names all {count} pictures, so there is none to train on; name fewer", count=len(pairs)
        )
    return validation


def squared(picture: Picture, side: int) -> Tensor:
    """(3, side, side) uint8."""
    pixels = picture.on_white().pixels
    height, width = pixels.shape[:2]
    wide, high = fit((width, height), [(side, side)]).scaled
    left, top = (wide - side) // 2, (high - side) // 2
    if (width, height) == (wide, high):
        x = to_tensor(pixels[top : top + side, left : left + side])
    else:
        x = resized_region(pixels, (high, wide), slice(top, top + side), slice(left, left + side))
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def _pair(path: PurePosixPath, files: "_Files", extension: str) -> Pair:
    match = _WEIGHTED_NAME.fullmatch(path.parent.name)
    group = match[2] if match else path.parent.name
    captions = (group,)
    caption_file = str(path.with_suffix(extension))
    if caption_file in files.names:
        lines = tuple(line.strip() for line in files.text(caption_file).splitlines() if line.strip())
        captions = lines or captions
    return Pair(str(path.with_suffix("")), captions, group, max(1, int(match[1])) if match else 1)


@dataclass(frozen=True, eq=False)
class _Files:
    """Files of a folder or a tar, by their path in it, separated by "/"."""

    names: Mapping[str, object]
    where: Path
    archive: tarfile.TarFile | None = None
    scratch: Path | None = None  # folder for one extracted picture at a time

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[Path]:
        if self.archive is None:
            yield self.where / name
            return
        path = self.scratch / PurePosixPath(name).name
        path.write_bytes(self._bytes(name))
        try:
            yield path
        finally:
            path.unlink()

    def text(self, name: str) -> str:
        if self.archive is None:
            return read_text(self.where / name)
        return decoded(self._bytes(name), f"{self.where}: {name}")

    def _bytes(self, name: str) -> bytes:
        member = self.names[name]
        if member.size > MAX_FILE_BYTES:
            raise CalotypeError(
                "{where}: {name} is too large ({size} MiB) for a picture",
                where=self.where,
                name=name,
                size=member.size >> 20,
            )
        try:
            data = self.archive.extractfile(member).read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise CalotypeError(
                "{where} is damaged at {name} ({kind}); copy it again",
                where=self.where,
                name=name,
                kind=type(error).__name__,
            ) from None
        if len(data) != member.size:
            raise CalotypeError("{where} is truncated at {name}; copy it again", where=self.where, name=name)
        return data


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[_Files]:
    if source.is_dir():
        paths = (path for path in files_below(source) if not path.name.startswith("."))
        yield _Files({path.relative_to(source).as_posix(): path for path in paths}, source)
        return
    if not source.exists():
        raise CalotypeError(
            "{source} does not exist; give a folder of pictures with captions, or a .tar of them", source=source
        )
    try:
        archive = tarfile.open(source, "r:")  # noqa: SIM115 - closed below
        members = {
            m.name.removeprefix("./"): m
            for m in archive
            if m.isfile() and not PurePosixPath(m.name).name.startswith(".")
        }
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise CalotypeError(
            "{source} is neither a folder nor a readable tar ({kind}); give a folder of pictures, or an "
            "uncompressed .tar",
            source=source,
            kind=type(error).__name__,
        ) from None
    with archive, tempfile.TemporaryDirectory(prefix="calotype-") as scratch:
        yield _Files(members, source, archive, Path(scratch))


def repeated(captions: Sequence[str], count: int) -> list[str]:
    """`count` captions, cycling through them."""
    return [captions[n % len(captions)] for n in range(count)]
