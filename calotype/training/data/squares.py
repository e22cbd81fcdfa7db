"""Pictures to learn from without words: any folder of them, as squares of one size, kept in memory."""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from calotype.checkpoints.bundled import shipped
from calotype.errors import CalotypeError, Message
from calotype.ops.color import to_tensor
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.suffixes import SUFFIXES
from calotype.tasks import Note, Progress, note
from calotype.training.data.dataset import check_room, pictures_below

FEWEST = 8  # pictures from which anything can be learnt
DEMO = ("smileys", "pictures.webp")
CELL, COUNT, COLUMNS = 64, 437, 24  # of the demo's sheet


@dataclass(frozen=True, eq=False)
class Images:
    """(N, 3, S, S) uint8, and a fingerprint of it."""

    pictures: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pictures.numpy()).hexdigest()

    def taken(self, numbers: Tensor) -> Tensor:
        """Some of them, (n, 3, S, S) float32 in [-1, 1]."""
        return self.pictures[numbers].float() / 127.5 - 1


def of_folder(
    folder: Path, side: int, free: int, max_pixels: int, out: Path | None = None
) -> Iterator[Progress | Note | Images]:
    """Every picture in the folder and below it: its middle square, by Lanczos; transparency becomes white.

    Yields progress, sentences about what is left out, and the Gallery last.

    Args:
        free: bytes of memory.
        out: folder for results, which are not learnt from.

    Raises:
        CalotypeError: no such folder, too few pictures that can be read, or more than memory holds.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your pictures", folder=folder)
    paths, left_out = pictures_below(folder, out)
    yield from [note(left_out)] if left_out else []
    pictures = Message("the {count} pictures of {folder}", count=len(paths), folder=folder)
    check_room(len(paths), side, free, pictures, "resolution")
    squares, count, faults, small = torch.empty(len(paths), 3, side, side, dtype=torch.uint8), 0, [], 0
    for n, path in enumerate(paths, 1):
        try:
            picture = Picture.open(path, max_pixels)
        except CalotypeError as fault:
            faults.append(copy.copy(fault))  # without its frames, which hold pixels
            continue
        small += min(picture.pixels.shape[:2]) < side
        squares[count] = _square(picture, side)
        count += 1
        yield Progress(n, len(paths), "pictures")
    if count < FEWEST:
        values = {"folder": folder, "count": count, "fewest": FEWEST}
        if faults:
            raise CalotypeError(
                "{folder} has {count} pictures that can be read, and it takes {fewest} or more; {fault}",
                fault=faults[0],
                **values,
            )
        raise CalotypeError(
            "{folder} has {count} pictures that can be read, and it takes {fewest} or more ({suffixes})",
            suffixes=", ".join(SUFFIXES),
            **values,
        )
    if faults:
        yield note(
            "{count} pictures cannot be read and are left out, the first: {fault}", count=len(faults), fault=faults[0]
        )
    if small:
        yield note(
            "{count} pictures are smaller than {side} pixels and were enlarged; forgeries will be as soft",
            count=small,
            side=side,
        )
    yield Images(squares[:count])


def of_demo(side: int) -> Images:
    """The smileys that ship; `calotype/weights/smileys/CARD.md` says whose they are."""
    sheet = Picture.open(shipped(*DEMO)).pixels
    places = [divmod(n, COLUMNS) for n in range(COUNT)]
    cells = (sheet[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] for y, x in places)
    return Images(torch.stack([_square(Picture(cell), side) for cell in cells]))


def _square(picture: Picture, side: int) -> Tensor:
    """(3, side, side) uint8."""
    pixels = picture.on_white().pixels
    height, width = pixels.shape[:2]
    edge = min(height, width)
    rows, columns = (slice((size - edge) // 2, (size - edge) // 2 + edge) for size in (height, width))
    x = _scaled(pixels[rows, columns], side)
    return (x.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def _scaled(pixels, side: int) -> Tensor:
    """(E, E, C) to (3, side, side) in [0, 1]."""
    if len(pixels) == side:
        return to_tensor(pixels)
    return resized_region(pixels, (side, side), slice(0, side), slice(0, side))
