"""High-resolution images, and random patches of them for training super-resolution networks."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calotype.errors import CalotypeError
from calotype.ops.color import max_value, to_tensor
from calotype.ops.degrade.kernels import Kernel, blur, weights
from calotype.picture import Picture
from calotype.suffixes import SUFFIXES
from calotype.tasks import Note, Progress, note
from calotype.training.data.dataset import pictures_below

MAX_CACHED_BYTES = 2 << 30  # of pixels; images beyond that are read again each time
MIN_SIDE = 32  # pixels; smaller pictures are left out


@dataclass(frozen=True, eq=False)
class HighRes:
    """One high-resolution image; its pixels are cached or read again."""

    path: Path
    sha256: str
    cached: np.ndarray | None  # (H, W, C) uint8 or uint16
    max_pixels: int

    @property
    def pixels(self) -> np.ndarray:
        return self.cached if self.cached is not None else _read(self.path, self.sha256, self.max_pixels)


def open_images(folder: Path, max_pixels: int, out: Path | None = None) -> Iterator[Progress | Note | HighRes]:
    """Every picture in a folder and its subfolders, sorted by name; those that cannot be read are left out with a note.

    Transparent pixels become white, and fully transparent margins are cropped.

    Args:
        out: the output folder, whose pictures are left out.

    Raises:
        CalotypeError: no such folder, or no picture in it that can be read.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your pictures", folder=folder)
    paths, results_note = pictures_below(folder, out)
    yield from [note(results_note)] if results_note else []
    bytes_read, count, transparent = 0, 0, 0
    for n, path in enumerate(paths, 1):
        try:
            original = Picture.open(path, max_pixels)
            picture = _opaque(original, path.name)
            if min(picture.pixels.shape[:2]) < MIN_SIDE:
                raise CalotypeError("{path} has sides of less than {least} pixels", path=path.name, least=MIN_SIDE)
        except CalotypeError as error:
            yield note("left out: {fault}", fault=error)
            continue
        bytes_read += picture.pixels.nbytes
        count, transparent = count + 1, transparent + (picture is not original)
        yield HighRes(path, picture.sha256, picture.pixels if bytes_read <= MAX_CACHED_BYTES else None, max_pixels)
        yield Progress(n, len(paths), "pictures")
    if not count:
        raise CalotypeError(
            "{folder} has no pictures to train on; put some there ({suffixes})",
            folder=folder,
            suffixes=", ".join(SUFFIXES),
        )
    if transparent:
        yield note(
            "{count} pictures are partly transparent; they are put on white and their empty margins are cropped",
            count=transparent,
        )


@lru_cache(maxsize=8)
def _read(path: Path, sha256: str, max_pixels: int) -> np.ndarray:
    """Raises CalotypeError if the file has changed: the run could not be reproduced."""
    picture = Picture.open(path, max_pixels)
    if picture.sha256 != sha256:
        raise CalotypeError(
            "{path} has changed since the run read it; restore the picture, or start a new run", path=path
        )
    return _opaque(picture, path.name).pixels


def _opaque(picture: Picture, name: str) -> Picture:
    """On white, without fully transparent margins. Raises CalotypeError if all of it is transparent."""
    if picture.alpha is None or picture.alpha.min() == max_value(picture.alpha.dtype):
        return picture
    rows, columns = (np.flatnonzero(picture.alpha.any(axis)) for axis in (1, 0))
    if not len(rows):
        raise CalotypeError("{name} is fully transparent", name=name)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return picture.then(picture.pixels[box], picture.alpha[box]).on_white()


def cut_patch(pixels: np.ndarray, side: int, rng: random.Random | None = None, rotate: bool = False) -> Tensor:
    """(3, side, side) in [0, 1]: a random crop, flipped at random, and rotated if `rotate`; without rng, centered.

    A picture that is too small is padded by reflection.
    """
    height, width = pixels.shape[:2]
    down, right = max(0, side - height), max(0, side - width)
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), "symmetric")
        height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    if rng:
        top, left = rng.randint(0, height - side), rng.randint(0, width - side)
    x = to_tensor(pixels[top : top + side, left : left + side])
    if rng and rng.random() < 0.5:
        x = x.flip(2)
    return x.rot90(rng.randrange(4), (1, 2)) if rng and rotate else x


def sharpened(x: Tensor, amount: float = 0.5, threshold: float = 10 / 255) -> Tensor:
    """(N, 3, H, W) in [0, 1]: unsharp masking except on flat areas, as in Real-ESRGAN's training (§3.4)."""
    kernel = weights(Kernel("iso", 51, (8.0, 8.0)))
    residual = x - blur(x, kernel)
    mask = blur((residual.abs() > threshold).to(x.dtype), kernel)
    return torch.lerp(x, (x + amount * residual).clamp(0, 1), mask.clamp(0, 1))
