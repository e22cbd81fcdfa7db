"""Masks that are painted by hand."""

from dataclasses import dataclass

import numpy as np

from calotype.errors import PictureError
from calotype.ops.color import luma, max_value, to_tensor
from calotype.picture import Picture


@dataclass(frozen=True, eq=False)
class PaintedMask:
    """What a person painted. On a layer of its own, that is the opaque pixels; else the white ones."""

    pixels: np.ndarray  # (H, W) bool
    is_layer: bool
    sha256: str  # of its file


def read_mask(mask: Picture, size: tuple[int, int], name: str) -> PaintedMask:
    """What is painted in an opened picture.

    Args:
        size: height and width of the picture that it belongs to.
        name: of the mask's file, for the error.

    Raises:
        PictureError: of another size than that picture.
    """
    height, width = mask.pixels.shape[:2]
    if (height, width) != size:
        raise PictureError(
            "the mask {mask} is {width}x{height} pixels and the picture is {picture_width}x{picture_height}; give a "
            "mask of the picture's size",
            option="mask",
            mask=name,
            width=width,
            height=height,
            picture_width=size[1],
            picture_height=size[0],
        )
    if mask.alpha is not None and mask.alpha.min() < mask.alpha.max():
        return PaintedMask(mask.alpha > max_value(mask.alpha.dtype) // 2, True, mask.sha256)
    return PaintedMask(luma(to_tensor(mask.pixels))[0].numpy() >= 0.5, False, mask.sha256)
