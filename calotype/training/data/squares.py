"""Training images without captions: any folder of them, as squares of one size, kept in memory."""

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
from calotype.training.data.dataset import check_memory, pictures_below

MIN_PICTURES = 8  # pictures needed for training
DEMO = ("smileys", "pictures.webp")
CELL, COUNT, COLUMNS = 64, 437, 24  # side, number and columns of the demo's sheet


@dataclass(frozen=True, eq=False)
class Images:
    """(N, 3, S, S) uint8, and its sha256."""

    pictures: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pictures.numpy()).hexdigest()

    def batch(self, indices: Tensor) -> Tensor:
        """(n, 3, S, S) float32 in [-1, 1]."""
        return self.pictures[indices].float() / 127.5 - 1


def of_folder(
    folder: Path, side: int, free: int, max_pixels: int, out: Path | None = None
) -> Iterator[Progress | Note | Images]:
    """The center crop of every picture in the folder and its subfolders, by Lanczos; transparent pixels become white.

    Yields progress, notes about pictures left out, and Images last.

    Args:
        free: free memory in bytes.
        out: the output folder, whose pictures are left out.

    Raises:
        CalotypeError: no such folder, too few pictures that can be read, or not enough memory.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your pictures", folder=folder)
    paths, results_note = pictures_below(folder, out)
    yield from [note(results_note)] if results_note else []
    pictures = Message("the {count} pictures of {folder}", count=len(paths), folder=folder)
    check_memory(len(paths), side, free, pictures, "resolution")
    squares, count, errors, small = torch.empty(len(paths), 3, side, side, dtype=torch.uint8), 0, [], 0
    for n, path in enumerate(paths, 1):
        try:
            picture = Picture.open(path, max_pixels)
        except CalotypeError as error:
            errors.append(copy.copy(error))  # without its traceback, whose frames hold pixels
            continue
        small += min(picture.pixels.shape[:2]) < side
        squares[count] = _square(picture, side)
        count += 1
        yield Progress(n, len(paths), "pictures")
    if count < MIN_PICTURES:
        values = {"folder": folder, "count": count, "fewest": MIN_PICTURES}
        if errors:
            raise CalotypeError(
                "{folder} has {count} readable pictures, at least {fewest} are needed; {fault}",
                fault=errors[0],
                **values,
            )
        raise CalotypeError(
            "{folder} has {count} readable pictures, at least {fewest} are needed ({suffixes})",
            suffixes=", ".join(SUFFIXES),
            **values,
        )
    if errors:
        yield note(
            "{count} pictures cannot be read and are left out, the first: {fault}", count=len(errors), fault=errors[0]
        )
    if small:
        yield note(
            "{count} pictures are smaller than {side} pixels and were enlarged; generated pictures will be as soft",
            count=small,
            side=side,
        )
    yield Images(squares[:count])


def of_demo(side: int) -> Images:
    """The bundled smileys; see `calotype/weights/smileys/CARD.md` for their licence."""
    sheet = Picture.open(shipped(*DEMO)).pixels
    cells = [divmod(n, COLUMNS) for n in range(COUNT)]
    crops = (sheet[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] for y, x in cells)
    return Images(torch.stack([_square(Picture(crop), side) for crop in crops]))


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
