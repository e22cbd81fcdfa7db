"""Contact sheets: the same generated pictures at every snapshot, and the discriminator's scores."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from calotype.files import make_folder
from calotype.picture import Picture, save

BACKGROUND, TEXT, FAINT_TEXT = (250, 247, 242), (38, 33, 28), (120, 110, 100)
REAL, FAKE = (47, 111, 143), (178, 84, 48)
PREVIEW_SIDE = 1024  # pixels
FRAME_WIDTH = 768  # approximate, in pixels


def pixels_of(pictures: Tensor) -> np.ndarray:
    """(N, 3, S, S) in [-1, 1] to (N, S, S, 3) uint8."""
    x = ((pictures.float().clamp(-1, 1) + 1) * 127.5 + 0.5).clamp(0, 255)
    return x.byte().permute(0, 2, 3, 1).cpu().numpy()


def grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """(N, S, S, 3) uint8, N >= columns, to (rows * S, columns * S, 3), row by row; empty cells are white."""
    from torchvision.utils import make_grid

    sheet = make_grid(torch.from_numpy(pictures).permute(0, 3, 1, 2), columns, padding=0, pad_value=255)
    return sheet.permute(1, 2, 0).numpy()


def sheet_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of about one size, (h, w, 3) uint8 each, as one sheet whose sides have PREVIEW_SIDE pixels at most."""
    height, width = (max(picture.shape[side] for picture in pictures) for side in (0, 1))
    padded = np.full((len(pictures), height, width, 3), 255, np.uint8)
    for cell, picture in zip(padded, pictures, strict=True):
        cell[: picture.shape[0], : picture.shape[1]] = picture
    columns = max(1, min(len(pictures), round((len(pictures) * height / width) ** 0.5)))
    image = Image.fromarray(grid(padded, columns))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return np.asarray(image)


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Saves a PNG atomically. Raises CalotypeError if its folder cannot be created."""
    make_folder(path.parent)
    save(Picture(np.ascontiguousarray(pixels)), path, format="png")


def film_frame(pixels: np.ndarray, caption: str, progress: float) -> np.ndarray:
    """A frame of the film: the sheet enlarged by an integer factor, with a progress bar and a caption below.

    Args:
        progress: of the run, 0 to 1.
    Returns:
        (H, W, 3) uint8 with even sides.
    """
    height, width = pixels.shape[:2]
    factor = max(1, round(FRAME_WIDTH / width))
    image = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    size = max(14, image.width // 36)
    footer = 2 * size + size // 2
    frame = Image.new(
        "RGB", (image.width + image.width % 2, image.height + footer + (image.height + footer) % 2), BACKGROUND
    )
    frame.paste(image)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, image.height, round((image.width - 1) * progress), image.height + size // 4), fill=FAKE)
    draw.text((size // 2, image.height + size * 0.6), caption, TEXT, _font(size))
    return np.asarray(frame)


def score_sheet(real: np.ndarray, fake: np.ndarray, scores: tuple[Sequence[float], Sequence[float]]) -> np.ndarray:
    """Two rows, real and generated pictures, each with the discriminator's score, by descending score.

    Args:
        real, fake: (N, S, S, 3) uint8.
        scores: for each picture the probability that it is real, 0 to 1.
    """
    side, gap, size = 128, 8, 18
    columns = max(len(real), len(fake))
    image = Image.new("RGB", (columns * (side + gap) + gap, 2 * (side + 3 * size + gap) + gap), BACKGROUND)
    draw = ImageDraw.Draw(image)
    rows = (("real", REAL, real, scores[0]), ("forged", FAKE, fake, scores[1]))
    for row, (name, colour, pictures, row_scores) in enumerate(rows):
        top = gap + row * (side + 3 * size + gap)
        draw.text((gap, top), name, colour, _font(size))
        for column, n in enumerate(sorted(range(len(pictures)), key=lambda n: -row_scores[n])):
            left = gap + column * (side + gap)
            tile = Image.fromarray(pictures[n]).resize((side, side), Image.Resampling.BICUBIC)
            image.paste(tile, (left, top + size + 4))
            bar_top = top + size + 4 + side
            draw.rectangle((left, bar_top, left + side - 1, bar_top + 4), fill=(225, 218, 208))
            draw.rectangle((left, bar_top, left + round((side - 1) * row_scores[n]), bar_top + 4), fill=colour)
            draw.text((left, bar_top + 6), f"{row_scores[n]:.0%} real", FAINT_TEXT, _font(size))
    return np.asarray(image)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
