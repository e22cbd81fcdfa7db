"""What a face network invents: how much its faces differ when the photo is moved, mirrored or noisier by a little."""

from collections.abc import Callable

import cv2
import numpy as np
from torch import Tensor

from calotype.ops.color import LUMA

RUNS = 6
SHIFT, NOISE = 2.0, 0.012  # at most, in pixels of 512; standard deviation
FLOOR = 0.006  # deviation of light that noise alone leaves
SCALE = 0.012  # beyond it, that is shown at 63 % of the brightest: networks differ in how much they invent
DIM = 0.45  # of the photo's light that stays under the colours
SMOOTH = 1 / 128  # sigma of the blur of the deviations, of the crop's side


def deviations(crop: np.ndarray, restore: Callable[[list[np.ndarray]], list[Tensor]]) -> np.ndarray:
    """(side, side) float32: standard deviation of the light that `RUNS` jittered runs draw.

    Args:
        crop: (side, side, C) uint8 or uint16, aligned.
        restore: runs the face network on such crops: (3, side, side) in [0, 1] each.
    """
    rng = np.random.default_rng(0)
    side, top = crop.shape[0], np.iinfo(crop.dtype).max
    shifts = rng.uniform(-SHIFT, SHIFT, (RUNS, 2)) * side / 512
    jittered = []
    for n, shift in enumerate(shifts):
        moved = _shifted(crop.astype(np.float32), shift) + rng.normal(0, NOISE * top, crop.shape)
        moved = moved[:, ::-1] if n % 2 else moved
        jittered.append(np.ascontiguousarray(moved.clip(0, top).round().astype(crop.dtype)))
    lights = []
    for n, (drawn, shift) in enumerate(zip(restore(jittered), shifts, strict=True)):
        light = drawn.permute(1, 2, 0).numpy() @ np.array(LUMA, np.float32)
        light = np.ascontiguousarray(light[:, ::-1] if n % 2 else light)
        lights.append(_shifted(light, -shift)[..., 0])
    return cv2.GaussianBlur(np.std(lights, 0).astype(np.float32), (0, 0), SMOOTH * side)


def as_heat(pixels: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """A picture in dim grey with deviations in colours, from dark red to light yellow: (H, W, 3) uint8 each."""
    level = -np.expm1(-np.maximum(0, deviation - FLOOR) / SCALE)[..., None]
    heat = cv2.applyColorMap(np.round(255 * level).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = DIM * cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.round(grey * (1 - level) + heat * level).clip(0, 255).astype(np.uint8)


def _shifted(pixels: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Moved by (x, y) pixels: (h, w, C)."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    size = pixels.shape[1::-1]
    moved = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return moved.reshape(*pixels.shape[:2], -1)
