"""Holes of a picture are filled from what is around them, window by window. Pixels outside a mask never change.

What lies deep in a hole is filled in a copy of half the size first, and that in one of half again where it has to be:
a hole may be larger than a window.

Bertalmio, Bertozzi, Sapiro 2001, "Navier-Stokes, fluid dynamics, and image and video inpainting", as in OpenCV; or what
a function such as a network fills in.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

WINDOW = 256  # pixels of a side that are written at once
CONTEXT = 48  # pixels around it that are looked at
DEEP = 1 / 4  # of that: so many pixels from what is known, a hole is filled in a smaller copy
RADIUS = 4  # pixels around a hole's pixel that OpenCV looks at

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pixels (h, w, C) and mask (h, w) to pixels
Region = tuple[slice, slice]


@dataclass(frozen=True)
class PaddedWindow:
    """A part of a picture, and what is around it."""

    inner: Region
    outer: Region

    @property
    def inner_of_outer(self) -> Region:
        return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True))


def windows(shape: tuple[int, int], side: int = WINDOW, context: int = CONTEXT) -> list[PaddedWindow]:
    """Parts of at most `side` pixels that cover a picture."""
    starts = [(top, left) for top in range(0, shape[0], side) for left in range(0, shape[1], side)]
    return [_window(start, shape, side, context) for start in starts]


def _window(start: tuple[int, int], shape: tuple[int, int], side: int, context: int) -> PaddedWindow:
    both = list(zip(start, shape, strict=True))
    inner = tuple(slice(first, min(size, first + side)) for first, size in both)
    outer = tuple(slice(max(0, first - context), min(size, first + side + context)) for first, size in both)
    return PaddedWindow(inner, outer)


def masked_windows(mask: np.ndarray, context: int = CONTEXT) -> list[PaddedWindow]:
    """The windows in which something is to be filled: `mask` is true there."""
    return [window for window in windows(mask.shape, context=context) if mask[window.inner].any()]


def fill_window(out: np.ndarray, pixels: np.ndarray, mask: np.ndarray, window: PaddedWindow, fill: Fill) -> None:
    """Fills the holes of a window of `out`, in place.

    Args:
        pixels: (H, W, C) of 8 or 16 bits, with the holes.
        mask: (H, W) bool, true in holes.
    """
    filled = fill(pixels[window.outer], mask[window.outer])[window.inner_of_outer]
    inside = mask[window.inner]
    out[window.inner][inside] = filled[inside]


def with_wide_gaps_filled(
    pixels: np.ndarray, mask: np.ndarray, fill: Fill, context: int = CONTEXT
) -> tuple[np.ndarray, np.ndarray]:
    """The picture with what is deep in its holes filled coarsely, and the mask of what is left to fill.

    Args:
        pixels: (H, W, C) of 8 or 16 bits, with the holes.
        mask: (H, W) bool, true in holes.
        context: pixels around a window that are looked at.
    """
    deep = list(_deep(mask, context))
    if not deep:
        return pixels, mask
    enough, left = pixels.copy(), mask.copy()
    for box, is_deep in deep:
        coarse = filled(*_halved(pixels[box], mask[box]), fill, context)
        enlarged = cv2.resize(coarse, is_deep.shape[::-1], interpolation=cv2.INTER_LINEAR)
        enough[box][is_deep] = enlarged.reshape(enough[box].shape)[is_deep]
        left[box] &= ~is_deep
    return enough, left


def _deep(mask: np.ndarray, context: int) -> Iterator[tuple[Region, np.ndarray]]:
    """Each hole that is deep somewhere: its place with what is around it, and where in that it is deep."""
    inside, deep = mask.astype(np.uint8), DEEP * context
    square = np.ones((2 * int(deep / math.sqrt(2)) + 1,) * 2, np.uint8)  # around what is deep all of it is a hole
    if mask.all() or not cv2.erode(inside, square).any():
        return
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside)
    for n, (column, row, width, height, _) in enumerate(stats[1:], 1):
        sides = (row, height), (column, width)
        box = tuple(slice(max(0, start - context), start + side + context) for start, side in sides)
        if min(width, height) > 2 * deep:
            is_deep = (cv2.distanceTransform(inside[box], cv2.DIST_L2, 3) > deep) & (labels[box] == n)
            if is_deep.any():
                yield box, is_deep


def filled(pixels: np.ndarray, mask: np.ndarray, fill: Fill, context: int = CONTEXT) -> np.ndarray:
    """The picture with its holes filled; args as of `with_wide_gaps_filled`."""
    pixels, mask = with_wide_gaps_filled(pixels, mask, fill, context)
    out = pixels.copy()
    for window in masked_windows(mask, context):
        fill_window(out, pixels, mask, window, fill)
    return out


def _halved(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At half the size: means of what is known, and a mask of where nothing is."""
    size = tuple((side + 1) // 2 for side in mask.shape[::-1])
    known = (~mask).astype(np.float32)
    coverage = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(pixels * known[..., None], size, interpolation=cv2.INTER_AREA)
    mean = total.reshape(*coverage.shape, -1) / np.maximum(coverage, 1e-6)[..., None]
    return np.rint(mean).astype(pixels.dtype), coverage < 1e-3


def navier_stokes(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lines of equal brightness are continued into the holes; where there is nothing but a hole, it stays."""
    if mask.all():
        return pixels
    inside = mask.astype(np.uint8)
    planes = (np.ascontiguousarray(plane) for plane in pixels.transpose(2, 0, 1))
    return np.stack([cv2.inpaint(plane, inside, RADIUS, cv2.INPAINT_NS) for plane in planes], 2)
