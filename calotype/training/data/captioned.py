"""Pictures with captions for a model that learns from nothing: a folder of them, or a tar as WebDataset packs it.

NAME.png and NAME.txt belong together; each line of the text is one caption, the first one the usual. Folders within are
groups, such as styles of drawing; a folder called N_group counts N times as much. A README.md tells of the set.
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
from calotype.training.data.dataset import check_room, is_picture, results_among

_WEIGHED = re.compile(r"(\d+)_(.*)", re.S)
LARGEST = 256 << 20  # bytes of a picture within a tar
TOLD = 3  # pictures left out that are named


@dataclass(frozen=True)
class Pair:
    """One picture's words."""

    name: str  # path within the set without its ending, "/" between
    captions: tuple[str, ...]
    group: str = ""
    weight: int = 1  # how often it is shown, beside the others


@dataclass(frozen=True, eq=False)
class CaptionedSet:
    """The whole set in memory, and sentences about what was left out."""

    pixels: Tensor  # (N, 3, S, S) uint8, sRGB as stored, transparency on white
    pairs: tuple[Pair, ...]
    about: str = ""  # its README.md
    notes: tuple[Message, ...] = ()


def read_pairs(
    source: Path, side: int, extension: str = ".txt", max_pixels: int = 10**9, out: Path | None = None
) -> Iterator[Progress | CaptionedSet]:
    """Yields progress, and the set last. Pictures are scaled to cover the square, and cut around their middle.

    Args:
        out: folder for results, which are not learnt from.

    Raises:
        CalotypeError: no such folder, no tar, nothing in it, no captions, not enough memory.
    """
    extension = extension if extension.startswith(".") else f".{extension}"
    with _opened(source) as files:
        results, note = results_among(files.names.keys(), source, out)
        named = {name: PurePosixPath(name) for name in files.names if is_picture(name) and name not in results}
        if not named:
            raise CalotypeError(
                "{source} has no pictures in it; put them there ({names})", source=source, names=", ".join(SUFFIXES)
            )
        pictures = Message("{count} pictures", count=len(named))
        check_room(len(named), side, memory.available(), pictures, "resolution")
        pixels = torch.empty(len(named), 3, side, side, dtype=torch.uint8)
        found: list[Pair] = []
        faults: list[CalotypeError] = []
        for n, (name, path) in enumerate(sorted(named.items()), 1):
            try:
                with files.at(name) as file:
                    pixels[len(found)] = squared(Picture.open(file, max_pixels), side)
                found.append(_pair(path, files, extension))
            except CalotypeError as fault:
                faults.append(copy.copy(fault))  # without its frames, which hold pixels
            yield Progress(n, len(named), "pictures")
        silent = [name for name, path in sorted(named.items()) if str(path.with_suffix(extension)) not in files.names]
        readme = next((name for name in files.names if name.lower() == "readme.md"), None)
        about = files.text(readme) if readme else ""
    if not found:
        raise CalotypeError(
            "{source} has no picture that can be read; the first: {fault}", source=source, fault=faults[0]
        )
    if not any(caption for pair in found for caption in pair.captions):
        raise CalotypeError(
            "{source} has no captions; write one into NAME{extension} beside each NAME.png",
            source=source,
            extension=extension,
        )
    notes = [note] if note else []
    notes += [Message("left out: {fault}", fault=fault) for fault in faults[:TOLD]]
    if 0 < len(silent) < len(named):
        notes.append(
            Message(
                "{count} of {total} pictures have no NAME{extension} and go by their folder's name, such as {name}",
                count=len(silent),
                total=len(named),
                extension=extension,
                name=silent[0],
            )
        )
    if len(faults) > TOLD:
        notes.append(Message("and {count} more pictures", count=len(faults) - TOLD))
    yield CaptionedSet(pixels[: len(found)], tuple(found), about, tuple(notes))


def held_back(pairs: Sequence[Pair], share: float, seed: int, names: Sequence[str] = ()) -> list[int]:
    """The places of the pictures to measure with: those that are named, or a share that the seed chooses, never all.

    Raises:
        CalotypeError: a name is not in the set, or nothing would be left to learn from.
    """
    if names:
        places = {pair.name: n for n, pair in enumerate(pairs)}
        plain = [name.strip() for name in names if name.strip()]
        missing = [name for name in plain if name not in places]
        if missing:
            raise CalotypeError(
                "{count} names of {option:held_out} are not in the set, such as {missing}; names are such as {name}",
                count=len(missing),
                missing=missing[0],
                name=pairs[0].name,
            )
        held = sorted({places[name] for name in plain})
    else:
        count = max(1, round(share * len(pairs))) if share else 0
        held = sorted(random.Random(seed).sample(range(len(pairs)), min(count, len(pairs) - 1)))
    if len(held) == len(pairs):
        raise CalotypeError(
            "{option:held_out} names all of the {count} pictures, so none is learnt from; name fewer", count=len(pairs)
        )
    return held


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
    weighed = _WEIGHED.fullmatch(path.parent.name)
    room = weighed[2] if weighed else path.parent.name
    captions = (room,)
    beside = str(path.with_suffix(extension))
    if beside in files.names:
        lines = tuple(line.strip() for line in files.text(beside).splitlines() if line.strip())
        captions = lines or captions
    return Pair(str(path.with_suffix("")), captions, room, max(1, int(weighed[1])) if weighed else 1)


@dataclass(frozen=True, eq=False)
class _Files:
    """A folder, or a tar; names have "/" between."""

    names: Mapping[str, object]
    where: Path
    archive: tarfile.TarFile | None = None
    room: Path | None = None  # for one picture of the archive at a time

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[Path]:
        if self.archive is None:
            yield self.where / name
            return
        path = self.room / PurePosixPath(name).name
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
        if member.size > LARGEST:
            raise CalotypeError(
                "{where}: {name} is too large ({size} MiB) for a picture",
                where=self.where,
                name=name,
                size=member.size >> 20,
            )
        try:
            data = self.archive.extractfile(member).read()
        except (tarfile.TarError, OSError, EOFError) as fault:
            raise CalotypeError(
                "{where} is damaged at {name} ({kind}); copy it again",
                where=self.where,
                name=name,
                kind=type(fault).__name__,
            ) from None
        if len(data) != member.size:
            raise CalotypeError("{where} ends within {name}; copy it again", where=self.where, name=name)
        return data


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[_Files]:
    if source.is_dir():
        paths = (path for path in files_below(source) if not path.name.startswith("."))
        yield _Files({path.relative_to(source).as_posix(): path for path in paths}, source)
        return
    if not source.exists():
        raise CalotypeError(
            "there is no {source}; give a folder of pictures with captions, or a .tar of them", source=source
        )
    try:
        archive = tarfile.open(source, "r:")  # noqa: SIM115 - closed below
        members = {
            m.name.removeprefix("./"): m
            for m in archive
            if m.isfile() and not PurePosixPath(m.name).name.startswith(".")
        }
    except (tarfile.TarError, OSError, EOFError, ValueError) as fault:
        raise CalotypeError(
            "{source} is no folder and no tar that can be read ({kind}); give a folder of pictures, or an "
            "uncompressed .tar",
            source=source,
            kind=type(fault).__name__,
        ) from None
    with archive, tempfile.TemporaryDirectory(prefix="calotype-") as room:
        yield _Files(members, source, archive, Path(room))


def repeated(captions: Sequence[str], count: int) -> list[str]:
    """So many captions, in turn."""
    return [captions[n % len(captions)] for n in range(count)]
