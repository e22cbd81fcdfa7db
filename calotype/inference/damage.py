"""Finds scratches, hairs and dust of a photo by a network, and fills them."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import PictureError
from calotype.inference import masks
from calotype.models.face_detector import DetectedFace
from calotype.models.network import Network
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.repair.damage import ASKED, Marks, Rule, marks_of, parts_of_faces, with_margin
from calotype.ops.repair.fill import Fill, fill_window, masked_windows, windows, with_wide_gaps_filled
from calotype.ops.repair.trace import traced
from calotype.ops.resize import averaged
from calotype.picture import Picture
from calotype.tasks import Progress

TILE, CONTEXT = 512, 32  # pixels that are searched at once, and pixels around them
LARGE = 1200  # shorter side of a copy from which wider marks are searched in a smaller one
CROP = 128  # pixels around a window of a hole that an inpainting network is given


def find_marks(
    pixels: np.ndarray,
    network: Network,
    find_faces: Callable[[], Iterable[DetectedFace]] = tuple,
    rule: Rule = ASKED,
) -> Marks:
    """Searches a photo, (H, W, C) of 8 or 16 bits, and smaller copies of it for wider marks; eyes and mouths stay.

    What is found is followed along its lines. The mask has the margin with which it is filled.

    Args:
        find_faces: the photo's faces; called only where there may be a mark.
    """
    probability = np.zeros(pixels.shape[:2], np.uint8)
    reduction = 1
    while True:
        _search(_reduced(pixels, reduction), network, probability, reduction)
        if min(pixels.shape[:2]) <= LARGE * reduction:
            break
        reduction *= 2
    marks = marks_of(probability, np.zeros(probability.shape, bool), rule)
    if not marks.is_empty:
        kept = parts_of_faces(probability.shape, (face.landmarks for face in find_faces()))
        marks = marks_of(probability, kept, rule) if kept.any() else marks
    if not marks.count:
        return marks
    mask = marks.mask | (traced(pixels, probability, marks.mask) & ~kept)
    return replace(marks, mask=with_margin(mask))


def _reduced(pixels: np.ndarray, by: int) -> np.ndarray:
    if by == 1:
        return pixels
    height, width = (side // by for side in pixels.shape[:2])
    return averaged(pixels[: height * by, : width * by], height, width)


def _search(pixels: np.ndarray, network: Network, known: np.ndarray, reduction: int) -> None:
    """Enters the probability of marks in a copy that is smaller by `reduction`, where it is higher than is known."""
    for tile in windows(pixels.shape[:2], TILE, CONTEXT):
        found = _probability(to_tensor(pixels[tile.outer]), network)[tile.inner_of_outer]
        whole = tuple(slice(part.start * reduction, part.stop * reduction) for part in tile.inner)
        known[whole] = np.maximum(known[whole], found.repeat(reduction, 0).repeat(reduction, 1))


def _probability(x: Tensor, network: Network) -> np.ndarray:
    """Of a mark, of 255: (h, w) uint8 for (3, h, w) in [0, 1]."""
    height, width = x.shape[1:]
    padded = F.pad(x[None], (0, -width % network.multiple, 0, -height % network.multiple), "replicate")
    return (255 * network(padded)[0, 0, :height, :width]).round().to(torch.uint8).numpy()


def fill_marks(pixels: np.ndarray, mask: np.ndarray, fill: Fill, context: int) -> Generator[Progress, None, np.ndarray]:
    """The photo with the pixels of a mask, (H, W) bool, filled; nothing else changes."""
    pixels, mask = with_wide_gaps_filled(pixels, mask, fill, context)
    out, masked = pixels.copy(), masked_windows(mask, context)
    for n, window in enumerate(masked, 1):
        fill_window(out, pixels, mask, window, fill)
        yield Progress(n, len(masked), "tiles")
    return out


def fill_of(network: Network) -> Fill:
    """What an inpainting network such as LaMa fills in."""

    def fill(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        x = torch.cat([to_tensor(pixels), torch.from_numpy(mask)[None].float()])
        height, width = x.shape[1:]
        bottom, right = (max(0, network.min_side - side, -side % network.multiple) for side in (height, width))
        y = network(F.pad(x[None], (0, right, 0, bottom), "replicate"))[0, :, :height, :width]
        return to_pixels(y, like=pixels)

    return fill


def read_mask(path: Path, size: tuple[int, int], max_pixels: int) -> tuple[np.ndarray, str]:
    """What is painted in the mask of damage, (H, W) bool, and the sha256 of its file.

    Raises:
        CalotypeError: not a picture, of another size than the photo, or all white.
    """
    painted = masks.read_mask(Picture.open_option("mask", path, max_pixels), size, path.name)
    if painted.pixels.all():
        raise PictureError(
            "the mask {mask} is all white, so nothing would be left of the photo; paint the damage white and the rest "
            "black",
            option="mask",
            mask=path.name,
        )
    return painted.pixels, painted.sha256
