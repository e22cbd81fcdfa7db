"""Sharp pictures, and the pieces of them that networks for enlarging learn from."""

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

KEPT = 2 << 30  # bytes of pixels that stay in memory; what is more is read again whenever it is shown
LEAST = 32  # pixels; smaller pictures teach nothing


@dataclass(frozen=True, eq=False)
class HighRes:
    """One picture; its pixels where they stay in memory."""

    path: Path
    sha256: str
    kept: np.ndarray | None  # (H, W, C) uint8 or uint16
    max_pixels: int

    @property
    def pixels(self) -> np.ndarray:
        return self.kept if self.kept is not None else _read(self.path, self.sha256, self.max_pixels)


def opened(folder: Path, max_pixels: int, out: Path | None = None) -> Iterator[Progress | Note | HighRes]:
    """Every picture in a folder and those in it, in the order of their names; what cannot be read is left out and said.

    Transparency becomes white, and edges that are nothing else are cut off: they would teach nothing.

    Args:
        out: folder for results, which are not learnt from.

    Raises:
        CalotypeError: no such folder, or no picture in it that can be read.
    """
    if not folder.is_dir():
        raise CalotypeError("there is no folder {folder}; give the folder with your pictures", folder=folder)
    paths, left_out = pictures_below(folder, out)
    yield from [note(left_out)] if left_out else []
    bytes_kept, count, clear = 0, 0, 0
    for n, path in enumerate(paths, 1):
        try:
            whole = Picture.open(path, max_pixels)
            picture = _seen(whole, path.name)
            if min(picture.pixels.shape[:2]) < LEAST:
                raise CalotypeError("{path} has sides of less than {least} pixels", path=path.name, least=LEAST)
        except CalotypeError as fault:
            yield note("left out: {fault}", fault=fault)
            continue
        bytes_kept += picture.pixels.nbytes
        count, clear = count + 1, clear + (picture is not whole)
        yield HighRes(path, picture.sha256, picture.pixels if bytes_kept <= KEPT else None, max_pixels)
        yield Progress(n, len(paths), "pictures")
    if not count:
        raise CalotypeError(
            "{folder} has no pictures that can be learnt from; put some there ({suffixes})",
            folder=folder,
            suffixes=", ".join(SUFFIXES),
        )
    if clear:
        yield note(
            "{count} pictures are transparent in parts and learnt as they look on white, without empty edges",
            count=clear,
        )


@lru_cache(maxsize=8)
def _read(path: Path, sha256: str, max_pixels: int) -> np.ndarray:
    """Raises CalotypeError where it is another picture by now: the run would not be the one that it says it is."""
    picture = Picture.open(path, max_pixels)
    if picture.sha256 != sha256:
        raise CalotypeError("{path} has changed since the run read it; put the picture back, or begin anew", path=path)
    return _seen(picture, path.name).pixels


def _seen(picture: Picture, name: str) -> Picture:
    """What there is to be seen of it, on white. Raises CalotypeError where that is nothing."""
    if picture.alpha is None or picture.alpha.min() == max_value(picture.alpha.dtype):
        return picture
    rows, columns = (np.flatnonzero(picture.alpha.any(axis)) for axis in (1, 0))
    if not len(rows):
        raise CalotypeError("{name} is transparent all over", name=name)
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return picture.then(picture.pixels[part], picture.alpha[part]).on_white()


def piece(pixels: np.ndarray, side: int, dice: random.Random | None = None, rotate: bool = False) -> Tensor:
    """(3, side, side) in [0, 1]: anywhere and mirrored at random, with `rotate` turned too; without dice the middle.

    A picture that is too small goes on mirrored at its edges.
    """
    height, width = pixels.shape[:2]
    down, right = max(0, side - height), max(0, side - width)
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right), (0, 0)), "symmetric")
        height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    if dice:
        top, left = dice.randint(0, height - side), dice.randint(0, width - side)
    x = to_tensor(pixels[top : top + side, left : left + side])
    if dice and dice.random() < 0.5:
        x = x.flip(2)
    return x.rot90(dice.randrange(4), (1, 2)) if dice and rotate else x


def sharpened(x: Tensor, amount: float = 0.5, threshold: float = 10 / 255) -> Tensor:
    """(N, 3, H, W) in [0, 1] by unsharp masking where it is no flat surface, as Real-ESRGAN's training does (§3.4)."""
    kernel = weights(Kernel("iso", 51, (8.0, 8.0)))
    rest = x - blur(x, kernel)
    mask = blur((rest.abs() > threshold).to(x.dtype), kernel)
    return torch.lerp(x, (x + amount * rest).clamp(0, 1), mask.clamp(0, 1))
