"""Masks of training photos: pictures whose red channel, or alpha channels, weigh the loss."""

from pathlib import Path

import numpy as np

from calotype.errors import CalotypeError
from calotype.picture import Picture
from calotype.training.data.buckets import Size


def read_mask(path: Path, size: Size, max_pixels: int) -> tuple[np.ndarray, str]:
    """The red channel of a mask, (H, W, 1) uint8 or uint16, and the SHA-256 of its file.

    Raises:
        CalotypeError: it cannot be opened, or has another size than its photo.
    """
    picture = Picture.open(path, max_pixels)
    height, width = picture.pixels.shape[:2]
    if (width, height) != tuple(size):
        raise CalotypeError(
            "the mask {path} is {width}x{height}, but its photo {photo_width}x{photo_height}; give it the same size",
            path=path,
            width=width,
            height=height,
            photo_width=size[0],
            photo_height=size[1],
        )
    return np.ascontiguousarray(picture.pixels[..., :1]), picture.sha256


def alpha_of(picture: Picture) -> np.ndarray | None:
    """The alpha channel of a photo, (H, W, 1) uint8 or uint16; None if it has none."""
    alpha = picture.alpha
    return None if alpha is None else np.ascontiguousarray(alpha.reshape(*alpha.shape[:2], 1))
