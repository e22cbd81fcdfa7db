"""Sheets of small pictures: the same forgeries at every snapshot, and the expert's verdicts."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from calotype.files import make_folder
from calotype.picture import Picture, save

PAPER, INK, SOFT = (250, 247, 242), (38, 33, 28), (120, 110, 100)
REAL, FORGED = (47, 111, 143), (178, 84, 48)
WIDE = 768  # pixels of a frame, about


def pixels_of(pictures: Tensor) -> np.ndarray:
    """(N, 3, S, S) in [-1, 1] to (N, S, S, 3) uint8."""
    x = ((pictures.float().clamp(-1, 1) + 1) * 127.5 + 0.5).clamp(0, 255)
    return x.byte().permute(0, 2, 3, 1).cpu().numpy()


def grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """(N, S, S, 3) uint8, N >= columns, to (rows * S, columns * S, 3), row by row; empty cells are white."""
    from torchvision.utils import make_grid

    sheet = make_grid(torch.from_numpy(pictures).permute(0, 3, 1, 2), columns, padding=0, pad_value=255)
    return sheet.permute(1, 2, 0).numpy()


def written(pixels: np.ndarray, path: Path) -> None:
    """A PNG, whole or not at all. Raises CalotypeError where a file lies in place of its folder."""
    make_folder(path.parent)
    save(Picture(np.ascontiguousarray(pixels)), path, format="png")


def captioned(pixels: np.ndarray, caption: str, share: float) -> np.ndarray:
    """A frame of the film: the sheet enlarged by a whole factor, below it a line of text and how far the run is.

    Args:
        share: of the run, 0 to 1.
    Returns:
        (H, W, 3) uint8 with even sides.
    """
    height, width = pixels.shape[:2]
    factor = max(1, round(WIDE / width))
    image = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    size = max(14, image.width // 36)
    foot = 2 * size + size // 2
    frame = Image.new("RGB", (image.width + image.width % 2, image.height + foot + (image.height + foot) % 2), PAPER)
    frame.paste(image)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, image.height, round((image.width - 1) * share), image.height + size // 4), fill=FORGED)
    draw.text((size // 2, image.height + size * 0.6), caption, INK, _font(size))
    return np.asarray(frame)


def verdicts(real: np.ndarray, forged: np.ndarray, marks: tuple[Sequence[float], Sequence[float]]) -> np.ndarray:
    """Two rows, real pictures and forgeries, each with what the expert says of it, the most convincing first.

    Args:
        real, forged: (N, S, S, 3) uint8.
        marks: for each picture how likely it is real, 0 to 1.
    """
    side, edge, size = 128, 8, 18
    columns = max(len(real), len(forged))
    image = Image.new("RGB", (columns * (side + edge) + edge, 2 * (side + 3 * size + edge) + edge), PAPER)
    draw = ImageDraw.Draw(image)
    rows = (("real", REAL, real, marks[0]), ("forged", FORGED, forged, marks[1]))
    for row, (name, colour, pictures, told) in enumerate(rows):
        top = edge + row * (side + 3 * size + edge)
        draw.text((edge, top), name, colour, _font(size))
        for place, n in enumerate(sorted(range(len(pictures)), key=lambda n: -told[n])):
            left = edge + place * (side + edge)
            tile = Image.fromarray(pictures[n]).resize((side, side), Image.Resampling.BICUBIC)
            image.paste(tile, (left, top + size + 4))
            low = top + size + 4 + side
            draw.rectangle((left, low, left + side - 1, low + 4), fill=(225, 218, 208))
            draw.rectangle((left, low, left + round((side - 1) * told[n]), low + 4), fill=colour)
            draw.text((left, low + 6), f"{told[n]:.0%} real", SOFT, _font(size))
    return np.asarray(image)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
